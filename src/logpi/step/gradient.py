"""First-order ascent: epochs of shuffled minibatches under any torch optimiser."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from logpi.batch import Batch, Rows
from logpi.errors import LogpiError

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
    if optimizer.param_groups[0].get("initial_lr") == 0:
        raise LogpiError("This page ascends but has no learning rate: give it a field lr, as in lr: float = 3e-3.")
    values, norms = [], []
    for _ in range(epochs):
        for mini in rows.shuffled(minibatches):
            for p in params:
                p.grad = None
            for part in surrogate(mini):
                (-part).backward()
                values.append(part.detach())
            norms.append(shorten([p.grad for p in params if p.grad is not None], max_grad_norm))
            optimizer.step()
        if target_kl is not None and kl is not None and float(total(kl(rows.batch))) > target_kl:
            break
    return {"surrogate": torch.stack(values).sum() / len(norms), "grad_norm": torch.stack(norms).mean()}


def shorten(grads: list[Tensor], limit: float | None) -> Tensor:
    """The global norm of the gradients, before they are scaled to be no longer than `limit`."""
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
    if limit is not None:
        torch._foreach_mul_(grads, (limit / (norm + 1e-6)).clamp(max=1.0))
    return norm


@torch.no_grad()
def total(parts: Iterator[Tensor]) -> Tensor:
    """The sum of the parts, without a gradient."""
    return torch.stack(list(parts)).sum()
