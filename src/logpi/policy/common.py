"""What rows of a batch have in common is read once, in training as in sampling: equal rows, and the prompts of others.

The gradient comes from all of them, as that of a sum does.
"""

from typing import Any

import torch
from torch import Tensor

from logpi.batch import SHARED, Batch


def hidden(policy: Any, b: Batch) -> Tensor:
    """[B, T, H], right in the slots of our tokens."""
    first, of = distinct(b)
    if len(first) <= SHARED * len(b.obs):
        return once(policy, b[first])[of]
    return once(policy, b)


def may_share(config: Any) -> bool:
    """Do all layers of such a model keep a text as it is? Those that fold or forget it read each row by itself."""
    from transformers.cache_utils import DynamicCache, DynamicLayer  # an extra, and a second of every start

    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)


def distinct(b: Batch) -> tuple[Tensor, Tensor]:
    """(the number of a row of each kind, each row's kind), by all that our tokens see."""
    last = (b.mask * torch.arange(1, b.mask.shape[1] + 1, device=b.mask.device)).amax(1, keepdim=True)
    seen = torch.arange(b.mask.shape[1], device=b.mask.device) < last
    kinds, of = torch.where(seen, 2 * b.obs + b.mask, -1).unique(dim=0, return_inverse=True)
    rows = torch.arange(len(of), device=of.device)
    return rows.new_empty(len(kinds)).index_put((of,), rows), of


def once(policy: Any, b: Batch) -> Tensor:
    """[B, T, H]: a prompt that rows share is read once, and repeated with its keys and values.

    It stands behind padding, so that distances between tokens are what they are in a row of its own. Rows that share little, and
    those of models that fold or forget text, are read one by one.
    """
    from transformers.cache_utils import DynamicCache  # an extra, and a second of every start

    cache, slot = DynamicCache(config=policy.model.config), torch.arange(b.obs.shape[1], device=b.obs.device)
    last = b.mask.int().argmax(1)  # slot of the prompt's last token, [B]
    longest = int(last.max()) + 1
    at = slot[:longest] - (longest - 1 - last)[:, None]  # [B, longest], negative: padding
    prompts, of = b.obs.gather(1, at.clamp(min=0)).masked_fill(at < 0, -1).unique(dim=0, return_inverse=True)
    rest = int((torch.where(b.mask, slot, 0).amax(1) - last).amax())  # tokens behind it, at most
    less = prompts.numel() + len(b.obs) * rest <= SHARED * b.obs.numel()
    if policy.pack != "prompts" or not less or len(prompts) == len(b.obs):
        return policy.hidden(b.obs)
    there = prompts >= 0
    read = {policy.cache_name: cache, "attention_mask": there.long()}
    said = policy.hidden(prompts.clamp(min=0), **read, position_ids=(there.cumsum(1) - 1).clamp(min=0))[of, -1:]
    if rest:
        cache.batch_select_indices(of)
        behind = last[:, None] + 1 + slot[:rest]
        following = behind.clamp(max=b.obs.shape[1] - 1)  # a position beyond all rows may be beyond the model's context
        seen = torch.cat([there[of], behind < b.obs.shape[1]], 1)
        ids = b.obs.gather(1, following)
        more = {policy.cache_name: cache, "attention_mask": seen.long(), "position_ids": following}
        said = torch.cat([said, policy.hidden(ids, **more)], 1)
    where = (slot - last[:, None]).clamp(0, rest)
    return said.gather(1, where[..., None].expand(*where.shape, said.shape[-1]))
