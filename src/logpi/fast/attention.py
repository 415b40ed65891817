"""Attention as two products, the first in float32. The CPU's fused kernel is slow for one query, and in bfloat16 for short texts.

Two cores of an AMD EPYC, 64 texts of 79 tokens, 4 heads of 64: of one query the kernel takes 1.25 ms in bfloat16, products in
float32 0.16; forward and backward under autocast, 21 texts of 79 and 6 of 256: 13 and 12 ms, products 6 and 11.
"""

import inspect
import re
import sys
from typing import Any

import torch
from torch import Tensor, nn

ASKED = re.compile(r"_attn_implementation (in|not in|==|!=) ")
NAME, LONG = "products", 256  # as transformers calls it; tokens beyond which they are no faster


def products(query: Tensor, key: Tensor, value: Tensor, scale: float, mask: Tensor | None = None) -> Tensor:
    """softmax(scale q k') v, [n, heads, queries, size]; mask: where a query may look. One that may look nowhere hears the mean."""
    heard = query @ key.transpose(-1, -2) * scale
    if mask is not None:
        heard = heard.masked_fill(~mask, torch.finfo(heard.dtype).min)
    return heard.softmax(-1).to(value.dtype) @ value


def attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **more: Any
) -> tuple[Tensor, None]:
    """transformers' interface: [n, H, T, size], keys and values [n, K, t, size] -> [n, T, H, size]."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if not short(query, key, attention_mask, more):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **more)
    groups, tokens, causal = query.shape[1] // key.shape[1], query.shape[2], more.get("is_causal")
    if attention_mask is None and tokens > 1 and (getattr(module, "is_causal", True) if causal is None else causal):
        attention_mask = torch.ones(tokens, key.shape[2], dtype=torch.bool, device=key.device).tril()
    if attention_mask is not None and groups > 1:  # queries of the heads that share a key stand one after another
        attention_mask = attention_mask.repeat(*[1] * (attention_mask.dim() - 2), groups, 1)
    grouped = query.unflatten(1, (-1, groups)).flatten(2, 3)
    scale = more.get("scaling") or query.shape[-1] ** -0.5
    with torch.autocast("cpu", enabled=False):
        said = products(grouped.float(), key.float(), value, scale, attention_mask)
    return said.unflatten(2, (groups, tokens)).flatten(1, 2).transpose(1, 2).contiguous(), None


def short(query: Tensor, key: Tensor, mask: Tensor | None, more: dict[str, Any]) -> bool:
    """In bfloat16 on the CPU, of few tokens, and nothing asked for that products have not."""
    plain = not more.get("dropout") and all(more.get(x) is None for x in ("softcap", "position_bias", "s_aux"))
    known = mask is None or (mask.dtype is torch.bool and mask.shape[1] == 1)
    here = query.device.type == "cpu" and (query.dtype is torch.bfloat16 or torch.is_autocast_enabled("cpu"))
    return here and plain and known and key.shape[2] <= LONG


def use(model: Any) -> None:
    """A model of transformers' with fused attention, on the CPU, has this one from now on, with the same masks; its config says
    nothing of it.

    Left alone are models that ask how their attention is called, as those do that mask what a sparse one leaves out.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    fused = model.config._attn_implementation == "sdpa" and model.device.type == "cpu"
    if fused and not ASKED.search(inspect.getsource(sys.modules[type(model).__module__])):
        model.set_attn_implementation(NAME)
