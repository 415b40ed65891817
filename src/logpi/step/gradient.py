"""First-order ascent: epochs of shuffled minibatches under any torch optimiser."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from logpi.batch import Batch, Rows

Parts = Callable[[Batch], Iterator[Tensor]]  # a minibatch -> scalars that sum to the quantity


def ascend(
    surrogate: Parts,
    rows: Rows,
    optimizer: torch.optim.Optimizer,
    epochs: int = 1,
    minibatches: int = 1,
    max_grad_norm: float | None = None,
    kl: Parts | None = None,
    target_kl: float | None = None,
) -> dict[str, Tensor]:
    """theta <- theta + alpha g, `epochs` times over the rows in `minibatches` parts.

    The gradient's global norm is held under `max_grad_norm`. With a `target_kl` the epochs stop as soon as the mean
    KL of all rows exceeds it. Returns the means over the steps taken of the surrogate and of the raw gradient norm.
    """
    params = [p for group in optimizer.param_groups for p in group["params"]]
    values, norms = [], []
    for _ in range(epochs):
        for mini in rows.shuffled(minibatches):
            optimizer.zero_grad()
            value = torch.zeros((), device=mini.mask.device)
            for part in surrogate(mini):
                (-part).backward()
                value = value + part.detach()
            norms.append(torch.nn.utils.clip_grad_norm_(params, max_grad_norm or float("inf")))
            values.append(value)
            optimizer.step()
        if target_kl is not None and kl is not None and float(total(kl(rows.batch))) > target_kl:
            break
    return {"surrogate": torch.stack(values).mean(), "grad_norm": torch.stack(norms).mean()}


@torch.no_grad()
def total(parts: Iterator[Tensor]) -> Tensor:
    """The sum of the parts, without a gradient."""
    return torch.stack(list(parts)).sum()
