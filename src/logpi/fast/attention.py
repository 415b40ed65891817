"""Attention as two products, the first in float32. The CPU's fused kernel is slow for one query, and in bfloat16 for short texts.

Two cores of an AMD EPYC, 64 texts of 79 tokens, 4 heads of 64: of one query the kernel takes 1.25 ms in bfloat16, products in
float32 0.16; forward and backward under autocast, 21 texts of 79 and 6 of 256: 13 and 12 ms, products 6 and 11.
"""

import inspect
import re
import sys
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

ASKED = re.compile(r"_attn_implementation (in|not in|==|!=) (?!.eager.)")  # by which a model may do something else
NAME, ALONE = "products where they are faster", "products"  # as transformers calls them
OURS = {"sdpa": NAME, "eager": ALONE}  # the fused kernel has no derivative forwards
LONG = 256  # tokens beyond which products are no faster


def products(query: Tensor, key: Tensor, value: Tensor, scale: float, mask: Tensor | None = None) -> Tensor:
    """softmax(scale q k') v, [n, heads, queries, size]; mask: where a query may look. One that may look nowhere hears the mean."""
    heard = query @ key.transpose(-1, -2) * scale
    if mask is not None:
        heard = heard.masked_fill(~mask, torch.finfo(heard.dtype).min)
    return heard.softmax(-1).to(value.dtype) @ value


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    line: Any = None,
    kernel: bool = True,
    **more: Any,
) -> tuple[Tensor, None]:
    """transformers' interface: [n, H, T, size], keys and values [n, K, t, size] -> [n, T, H, size].

    line: of which these are the tokens (fast/line.py). kernel: whether it may be asked.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if line is not None:
        return in_line(line, (query, key, value), partial(attend, module, kernel=kernel, **more)), None
    if kernel and not short(query, key, attention_mask, more):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **more)
    if not plain(attention_mask, more):
        raise ValueError("products know of a mask alone")  # line.begin hears it, and leaves such a model as it was
    groups, tokens, causal = query.shape[1] // key.shape[1], query.shape[2], more.get("is_causal")
    if attention_mask is None and tokens > 1 and (getattr(module, "is_causal", True) if causal is None else causal):
        attention_mask = torch.ones(tokens, key.shape[2], dtype=torch.bool, device=key.device).tril()
    if attention_mask is not None and groups > 1:  # queries of the heads that share a key stand one after another
        attention_mask = attention_mask.repeat(*[1] * (attention_mask.dim() - 2), groups, 1)
    grouped = query.unflatten(1, (-1, groups)).flatten(2, 3)
    scale = more.get("scaling") or query.shape[-1] ** -0.5
    dtype = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        said = products(grouped.to(dtype), key.to(dtype), value, scale, attention_mask)
    return said.unflatten(2, (groups, tokens)).flatten(1, 2).transpose(1, 2).contiguous(), None


def in_line(line: Any, given: Sequence[Tensor], ask: Callable[..., Any]) -> Tensor:
    """The same of the tokens of a line, [1, heads, N, size] each -> [1, N, H, size]: texts of about one length go together."""
    query, key, value = (x[0].transpose(0, 1) for x in given)
    said = torch.cat([ask(x.asks(query), x.hears(key), x.hears(value), x.sees)[0].flatten(0, 1) for x in line.groups])
    return (said if line.back is None else said.index_select(0, line.back))[None]


def short(query: Tensor, key: Tensor, mask: Tensor | None, more: dict[str, Any]) -> bool:
    """In bfloat16 on the CPU, of few tokens, and nothing asked for that products have not."""
    here = query.device.type == "cpu" and (query.dtype is torch.bfloat16 or torch.is_autocast_enabled("cpu"))
    return here and key.shape[2] <= LONG and plain(mask, more)


def plain(mask: Tensor | None, more: dict[str, Any]) -> bool:
    none = not more.get("dropout") and all(more.get(x) is None for x in ("softcap", "position_bias", "s_aux"))
    return none and (mask is None or (mask.dtype is torch.bool and mask.shape[1] == 1))


def use(model: Any, instead: Collection[str] = ("sdpa",)) -> bool:
    """Has a model of transformers', which had one of those, this attention from now on? The masks are the same, and its config
    says nothing of it.

    Left alone are models that ask how their attention is called, as those do that mask what a sparse one leaves out.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    for name, how in ((NAME, attend), (ALONE, partial(attend, kernel=False))):
        AttentionInterface.register(name, how)
        AttentionMaskInterface.register(name, sdpa_mask)
    asked = model.config._attn_implementation
    taken = asked in instead and not ASKED.search(inspect.getsource(sys.modules[type(model).__module__]))
    if taken:
        model.set_attn_implementation(OURS[asked])
    return taken
