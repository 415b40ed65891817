"""What is fitted to data, answers or preferences: so many steps of AdamW."""

import math
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from logpi.errors import LogpiError
from logpi.run.undecorated import undecorated
from logpi.step.gradient import climb

MICRO = 16384  # tokens through a model at once
T = TypeVar("T")


def ascend(
    module: nn.Module, surrogate: Callable[[T], Iterator[Tensor]], batches: Iterator[T], lr: float, steps: int
) -> Iterator[float]:
    """`steps` of AdamW on what surrogate(batch) sums to, the rate falling linearly to a tenth; the loss of each, its negative."""
    params = [p for p in module.parameters() if p.requires_grad]
    with undecorated():
        optimizer = torch.optim.AdamW(params, lr=lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    for k in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - 0.9 * k / steps)
        value = -float(climb(surrogate(next(batches)), params))
        if not math.isfinite(value):
            raise LogpiError(f"The loss is {value} after {k} steps: use a smaller learning rate.")
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        yield value
