"""What is fitted to data, answers or preferences: so many steps of AdamW."""

import math
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, nn

from logpi.errors import LogpiError
from logpi.room import Room
from logpi.run.undecorated import undecorated
from logpi.step.gradient import climb

MICRO = 16384  # tokens through a model at once
T = TypeVar("T")


def ascend(
    module: nn.Module,
    surrogate: Callable[[T, int], Iterator[Tensor]],
    batches: Iterator[T],
    lr: float,
    steps: int,
    micro: int = MICRO,
) -> Iterator[float]:
    """`steps` of AdamW on what surrogate(batch, tokens at once) sums to; the loss of each, its negative.

    The rate falls linearly to a tenth. Where memory gives out, `micro` is halved and the step done again.
    """
    params = [p for p in module.parameters() if p.requires_grad]
    with undecorated():
        optimizer = torch.optim.AdamW(params, lr=lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    room = Room(micro, "token", "use a smaller model, or shorter texts")
    for k in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - 0.9 * k / steps)
        batch = next(batches)
        value = -float(room(lambda b=batch: climb(surrogate(b, room.size or micro), params), micro))  # type: ignore[misc]
        if not math.isfinite(value):
            raise LogpiError(f"The loss is {value} after {k} steps: use a smaller learning rate.")
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        yield value
