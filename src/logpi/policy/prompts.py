"""A prompt that several rows of a batch begin with is read once, in training as in sampling; its gradient comes from all of them."""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from logpi.batch import Batch

WORTH = 0.75  # of the tokens that are read otherwise: sharing pays below


def features(policy: Any, b: Batch) -> Tensor | None:
    """[N, H] at our tokens, the first ones of which follow a shared prompt. None: too few are shared, or the model cannot.

    Prompts stand behind padding, so that distances between tokens are what they are in a row of its own.
    """
    cache = DynamicCache(config=policy.model.config)
    if b.obs.shape[0] < 2 or not all(type(layer) is DynamicLayer for layer in cache.layers):
        return None
    last = b.mask.int().argmax(1)  # slot of the prompt's last token, [B]
    slot = torch.arange(b.obs.shape[1], device=b.obs.device)
    longest = int(last.max()) + 1
    at = slot[:longest] - (longest - 1 - last)[:, None]  # [B, longest], negative: padding
    begun = b.obs.gather(1, at.clamp(min=0)).masked_fill(at < 0, -1)
    prompts, of = begun.unique(dim=0, return_inverse=True)
    rest = int((torch.where(b.mask, slot, 0).amax(1) - last).amax())  # tokens of ours to be read, at most
    if prompts.numel() + len(b.obs) * rest > WORTH * b.obs.numel():
        return None
    there = prompts >= 0
    read = {policy.cache_name: cache, "attention_mask": there.long()}
    ends = policy.hidden(prompts.clamp(min=0), **read, position_ids=(there.cumsum(1) - 1).clamp(min=0))[:, -1:]
    spoken = ends[of]
    if rest:
        cache.batch_select_indices(of)
        following = last[:, None] + 1 + slot[:rest]
        seen = torch.cat([there[of], following < b.obs.shape[1]], 1)
        ids = b.obs.gather(1, following.clamp(max=b.obs.shape[1] - 1))
        more = {policy.cache_name: cache, "attention_mask": seen.long(), "position_ids": following}
        spoken = torch.cat([spoken, policy.hidden(ids, **more)], 1)
    where = (slot - last[:, None]).clamp(0, rest)
    return b.ours(spoken.gather(1, where[..., None].expand(*where.shape, spoken.shape[-1])))
