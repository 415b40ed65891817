"""Second-order ascent: the direction F^-1 g by conjugate gradient, and the region in which it is trusted.

F is the Fisher matrix E[grad log pi grad log pi'], the Hessian at pi_old of the mean KL in either direction.
Products F v are summed over micro-batches, each graph freed before the next: memory does not grow with the batch.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from logpi.batch import Rows
from logpi.fast.switch import fusable
from logpi.finite import check
from logpi.step.gradient import Parts, total

Matvec = Callable[[Tensor], Tensor]
Tensors = list[Tensor]
Directed = tuple[Tensor, Tensor, Tensor]


def conjugate_gradient(matvec: Matvec, b: Tensor, iterations: int = 10, tolerance: float = 1e-10) -> Tensor:
    """x with A x = b, A symmetric positive definite, known by v -> A v only (Hestenes & Stiefel 1952).

    Stops after `iterations` products, or once |b - A x| <= tolerance |b|. b = 0 gives 0.
    """
    x, r = torch.zeros_like(b), b.clone()
    p, rr = r, r @ r
    enough = tolerance**2 * rr
    for _ in range(iterations):
        if rr <= enough:
            break
        Ap = matvec(p)
        alpha = rr / (p @ Ap)
        x, r = x + alpha * p, r - alpha * Ap
        rr, previous = r @ r, rr
        p = r + rr / previous * p
    return x


def gradient(parts: Iterator[Tensor], params: list[Tensor]) -> Tensor:
    """The flat gradient of a sum of parts."""
    return sum(flat(torch.autograd.grad(part, params, materialize_grads=True)) for part in parts)  # type: ignore[return-value]


def hessian_product(kl: Parts, rows: Rows, params: list[Tensor], v: Tensor) -> Tensor:
    """F v by differentiating the mean KL twice: exact at pi_old for any twice differentiable policy."""
    out = torch.zeros_like(v)
    for part in kl(rows.batch):
        first = flat(torch.autograd.grad(part, params, create_graph=True, materialize_grads=True))
        out = out + flat(torch.autograd.grad(first @ v, params, materialize_grads=True))
    return out


@fusable
def natural_direction(surrogate: Parts, kl: Any, rows: Rows, params: Tensors, fisher: str, *how: Any) -> Directed:
    """(alpha x, g, surrogate): x = (F + damping I)^-1 g, alpha = sqrt(2 delta / x'(F + damping I)x); g = 0 is a step of 0.

    how: that of `to_border`. fisher: 'head' takes the distribution's own, 'kl' differentiates the KL twice.
    """
    before = rows.in_memory(rows.batch, lambda b: total(surrogate(b)))
    g = rows.in_memory(rows.batch, lambda b: gradient(surrogate(b), params))
    check("surrogate", before)
    check("gradient", g.abs().max(), zip(params, like(g, params), strict=True))

    def product(v: Tensor) -> Tensor:
        if fisher == "kl":
            return rows.in_memory(rows.batch, lambda b: hessian_product(kl, rows, params, v))
        return rows.in_memory(rows.batch, lambda b: sum(flat(x) for x in kl.fisher(b, like(v, params))))  # type: ignore[return-value]

    return to_border(product, g, *how), g, before


def to_border(product: Matvec, g: Tensor, delta: float, damping: Any, steps: int, relative: bool = False) -> Tensor:
    """sqrt(2 delta / x'Ax) x, A = F + damping I, x = A^-1 g: where the KL's model is delta. relative: damping times g'Fg / g'g."""
    damping = damping * (g @ product(g)) / (g @ g).clamp(min=torch.finfo(g.dtype).tiny) if relative else damping
    x = conjugate_gradient(lambda v: product(v) + damping * v, g, steps)
    curvature = x @ (product(x) + damping * x)
    check("natural direction", curvature)
    return torch.where(curvature > 0, (2 * delta / curvature).sqrt() * x, 0.0)


@fusable
def look(surrogate: Parts, kl: Any, rows: Rows, side: str) -> tuple[Tensor, Tensor]:
    """(the surrogate, the mean KL) of all rows, as the policy is now."""
    gain = rows.in_memory(rows.batch, lambda b: total(surrogate(b)))
    return gain, rows.in_memory(rows.batch, lambda b: total(kl(b, side)))


def natural_step(
    surrogate: Parts,
    kl: Any,
    rows: Rows,
    optimizer: torch.optim.Optimizer,
    delta: float,
    damping: float = 0.1,
    iterations: int = 10,
    fisher: Literal["head", "kl"] = "head",
    relative: bool = False,
) -> dict[str, Tensor]:
    """theta + sqrt(2 delta / g'F^-1 g) F^-1 g: to the border of the KL ball, trusted blindly (Kakade 2001)."""
    params = optimizer.param_groups[0]["params"]
    step, g, _ = natural_direction(surrogate, kl, rows, params, fisher, delta, damping, iterations, relative)
    move(params, [p.detach().clone() for p in params], step)
    return {"grad_norm": g.norm(), "step_norm": step.norm()}


def trust_region_step(
    surrogate: Parts,
    kl: Any,
    rows: Rows,
    optimizer: torch.optim.Optimizer,
    delta: float,
    damping: float = 0.1,
    iterations: int = 10,
    fisher: Literal["head", "kl"] = "head",
    backtracks: int = 10,
    shrink: float = 0.8,
    side: Literal["old_new", "new_old"] = "old_new",
    relative: bool = False,
) -> dict[str, Tensor]:
    """The natural step, shrunk until KL <= delta and the surrogate has risen (Schulman et al. 2015, appendix C).

    side: 'old_new' is KL(pi_old || pi). When none of the `backtracks` lengths shrink^k is accepted, parameters are as before, bit for bit.
    """
    params = optimizer.param_groups[0]["params"]
    step, g, before = natural_direction(surrogate, kl, rows, params, fisher, delta, damping, iterations, relative)
    old = [p.detach().clone() for p in params]
    info = {"grad_norm": g.norm(), "expected_gain": g @ step}
    for k in range(backtracks):
        move(params, old, shrink**k * step)
        value, divergence = look(surrogate, kl, rows, side)
        gain = value - before
        if 0 < gain < torch.inf and divergence <= delta:
            found = {"accepted": torch.ones_like(gain), "backtracks": torch.full_like(gain, k), "gain": gain}
            return info | found | {"step_norm": shrink**k * step.norm()}
    move(params, old, torch.zeros(()))
    zero = torch.zeros_like(before)
    return info | {"accepted": zero, "backtracks": torch.full_like(before, backtracks), "gain": zero, "step_norm": zero}


def flat(tensors: Any) -> Tensor:
    return torch.cat([t.reshape(-1) for t in tensors])


def like(v: Tensor, params: list[Tensor]) -> list[Tensor]:
    """A flat vector cut into the shapes of the parameters."""
    return [x.view_as(p) for x, p in zip(v.split([p.numel() for p in params]), params, strict=True)]


@torch.no_grad()
def move(params: list[Tensor], old: list[Tensor], step: Tensor) -> None:
    """theta <- old + step; a step of no dimension restores old exactly."""
    steps = like(step, params) if step.dim() else [None] * len(params)
    for p, start, change in zip(params, old, steps, strict=True):
        p.copy_(start if change is None else start + change)
