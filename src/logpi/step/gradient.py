"""First-order ascent: epochs of shuffled minibatches under any torch optimiser."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from logpi.batch import Batch, Rows
from logpi.errors import LogpiError
from logpi.fast.switch import fusable
from logpi.finite import check

Parts = Callable[[Batch], Iterator[Tensor]]  # a minibatch -> scalars that sum to the quantity


@fusable
def ascend(
    surrogate: Parts,
    rows: Rows,
    optimizer: torch.optim.Optimizer,
    epochs: int = 1,
    minibatches: int = 1,
    max_grad_norm: float | None = None,
    kl: Parts | None = None,
    target_kl: float | None = None,
    rescale: Callable[[Tensor, Tensor], Tensor] | None = None,
    refresh: Callable[[], None] | None = None,
) -> dict[str, Tensor]:
    """theta <- theta + alpha g, `epochs` times over the rows in `minibatches` parts.

    The gradient's global norm is held under `max_grad_norm`. With a `target_kl` the epochs stop as soon as the mean
    KL of all rows exceeds it. `rescale(psi, mask)` is the psi of a whole minibatch instead of its own; `refresh` stands before
    every epoch but the first. Returns the means over the steps taken of the surrogate and of the raw gradient norm.
    """
    params = [p for group in optimizer.param_groups for p in group["params"]]
    if optimizer.param_groups[0].get("initial_lr") == 0:
        raise LogpiError("This page ascends but has no learning rate: give it a field lr, as in lr: float = 3e-3.")
    values, norms = [], []
    for epoch in range(epochs):
        if epoch and refresh is not None:
            refresh()
        for k, mini in enumerate(rows.shuffled(minibatches)):
            if rescale is not None and mini.psi is not None:
                mini = mini.with_(psi=rescale(mini.psi, mini.mask))
            values.append(rows.in_memory(mini, lambda b: climb(surrogate(b), params)))
            moved = [p for p in params if p.grad is not None]
            grads = [p.grad for p in moved]
            norms.append(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads))))
            pairs = zip(moved, grads, strict=True)
            check("gradient", norms[-1] + values[-1], pairs, epoch=epoch + 1, minibatch=k + 1)
            if max_grad_norm is not None:
                torch._foreach_mul_(grads, (max_grad_norm / (norms[-1] + 1e-6)).clamp(max=1.0))
            optimizer.step()
        if target_kl is not None and rows.in_memory(rows.batch, lambda b: total(kl(b))) > target_kl:  # type: ignore[misc]
            break
    return {"surrogate": torch.stack(values).mean(), "grad_norm": torch.stack(norms).mean()}


def climb(parts: Iterator[Tensor], params: Sequence[Tensor]) -> Tensor:
    """The sum of the parts; its gradient is left in the parameters, negated, for torch's optimisers descend."""
    for p in params:
        p.grad = None
    values = []
    for part in parts:
        (-part).backward()
        values.append(part.detach())
    return sum(values)  # type: ignore[return-value]


@torch.no_grad()
def total(parts: Iterator[Tensor]) -> Tensor:
    """The sum of the parts, without a gradient."""
    return torch.stack(list(parts)).sum()
