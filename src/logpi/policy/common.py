"""Equal rows of a batch are read once, in training as in sampling; what prompts they share is left to fast/line.py.

The gradient comes from all of them, as that of a sum does.
"""

from typing import Any

import torch
from torch import Tensor

from logpi.batch import Batch
from logpi.fast import line
from logpi.packing import LESS


def hidden(policy: Any, b: Batch) -> Tensor:
    """Of our tokens, [N, H]."""
    first, of = distinct(b)
    if len(first) > LESS * len(b.obs):
        return once(policy, b)
    each = b[first]
    number = each.back(torch.arange(int(each.mask.sum()), device=of.device))
    return once(policy, each).index_select(0, number[of][b.mask])


def once(policy: Any, b: Batch) -> Tensor:
    """Of our tokens, a prompt that rows share read once where that is covered."""
    return line.hidden(policy, b.obs, b.mask) if policy.pack(b.obs) == "prompts" else b.ours(policy.hidden(b.obs))


def distinct(b: Batch) -> tuple[Tensor, Tensor]:
    """(the number of a row of each kind, each row's kind), by all that our tokens see."""
    last = (b.mask * torch.arange(1, b.mask.shape[1] + 1, device=b.mask.device)).amax(1, keepdim=True)
    seen = torch.arange(b.mask.shape[1], device=b.mask.device) < last
    kinds, of = torch.where(seen, 2 * b.obs + b.mask, -1).unique(dim=0, return_inverse=True)
    rows = torch.arange(len(of), device=of.device)
    return rows.new_empty(len(kinds)).index_put((of,), rows), of
