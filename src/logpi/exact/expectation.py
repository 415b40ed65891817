"""The expectation and the variance of an estimator: over every batch there is, or over many that were drawn."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import grad, vmap

from logpi import average
from logpi.errors import LogpiError, short
from logpi.exact.batches import Draws, Shape, batches
from logpi.exact.problem import Direction, Padded, Problem
from logpi.noise import half_interval
from logpi.now import Now
from logpi.policy import Policy

Surrogate = Callable[["Said", Padded], Tensor]  # what the current policy says, a batch -> a scalar to be maximised


class Said(Now):
    """What the current policy says, as a function of its distribution's parameters."""

    def __init__(self, policy: Policy, params: Tensor, b: Padded, ref: Tensor | None) -> None:
        super().__init__(Policy(nn.Identity(), nn.Identity(), policy.head), None, b.with_(obs=params))
        self.ref = ref

    @property
    def kl_ref(self) -> Tensor:
        """KL(pi || pi_ref), exact, [..., T]."""
        return self.policy.head.kl(self.params, self.ref)


def surrogate_of(page: Any) -> Surrogate:
    """The page's surrogate, its credit included: sum(average * objective)."""

    def surrogate(now: Said, b: Padded) -> Tensor:
        state = {"progress": 0.0, "log_pi": now.log_pi.detach()}
        credit, _ = page.psi(b, state)
        credited = b.with_(psi=torch.where(b.mask, credit, 0.0).detach())
        return average.total(page.objective(now, credited, state), page.average(b.mask), b.mask)

    return surrogate


@dataclass(frozen=True)
class Moments:
    """Of the gradient that a batch gives: its mean [P], and the trace of its covariance."""

    mean: Tensor
    variance: float
    batches: int
    measured: bool  # drawn, not enumerated
    blocks: tuple[Tensor, Tensor] | None = None  # (sums [K, P], sums of squares [K]) of drawn batches

    def without(self, k: int) -> "Moments":
        """The same with block k left out."""
        assert self.blocks is not None
        n = self.batches - self.batches // len(self.blocks[0])
        sums, squares = (x.sum(0) - x[k] for x in self.blocks)
        return Moments(sums / n, _variance(sums / n, squares / n, n), n, True)


def _variance(mean: Tensor, second: Tensor, n: int | None = None) -> float:
    """E|g|^2 - |E g|^2; with n draws, unbiased."""
    raw = float(second - mean @ mean)
    return max(0.0, raw if n is None else raw * n / (n - 1))


def gradients(problem: Problem, surrogate: Surrogate, rows: str, draws: Draws) -> Tensor:
    """The gradient that each batch gives, [C, P]."""
    S, A, P = problem.jacobian.shape
    out, state = coefficients(problem, surrogate, rows, draws), draws.rows.state.flatten(1)
    table = torch.zeros(len(out), S, A, dtype=out.dtype)
    table = table.scatter_add(1, state[..., None].expand(-1, -1, A), out.flatten(1, -2))
    return table.flatten(1) @ problem.jacobian.reshape(S * A, P)


def coefficients(problem: Problem, surrogate: Surrogate, rows: str, draws: Draws) -> Tensor:
    """d surrogate / d parameters of the distribution at every slot, [C, P, G, T, A]."""
    batch, state = problem.batch(draws.rows), draws.rows.state
    tensors = {x.name: getattr(batch, x.name) for x in fields(batch) if isinstance(getattr(batch, x.name), Tensor)}

    def value(params: Tensor, tensors: dict[str, Tensor], state: Tensor) -> Tensor:
        if rows != "groups":  # one axis of episodes
            params, state = params.flatten(0, 1), state.flatten(0, 1)
            tensors = {name: x.flatten(0, 1) for name, x in tensors.items()}
        ref = None if problem.ref is None else problem.ref[state]
        b = Padded(**tensors, scores=row_scores(problem, params.detach(), tensors["action"], state))  # type: ignore[arg-type]
        return surrogate(Said(problem.policy, params, b, ref), b)

    params = problem.policy(problem.obs).detach()[state]
    try:
        return vmap(grad(value))(params, {name: x.clone() for name, x in tensors.items()}, state)
    except LogpiError:
        raise
    except Exception:  # values decide where it goes (.item(), a mask as an index, an if), or it is wrong
        return one_by_one(value, params, tensors, state)


def one_by_one(value: Any, params: Tensor, tensors: dict[str, Tensor], state: Tensor) -> Tensor:
    """The same for one batch after another, as a training loop would; what goes wrong there is told."""

    def gradient(i: int) -> Tensor:
        leaf = params[i].clone().requires_grad_(True)
        found = value(leaf, {name: x[i].clone() for name, x in tensors.items()}, state[i])
        if not found.requires_grad:
            return torch.zeros_like(leaf)
        return torch.autograd.grad(found, leaf, materialize_grads=True)[0]

    try:
        if not torch.equal(first := gradient(0), gradient(0)) and bool(first.isfinite().all()):
            raise LogpiError("The estimator draws random numbers: pass them in, or leave dropout and noise away.")
        return torch.stack([gradient(i) for i in range(len(params))])
    except LogpiError:
        raise
    except Exception as wrong:
        cure = "return the loss, do not call backward" if "backward" in str(wrong) else "--debug shows where"
        raise LogpiError(f"The estimator raised {type(wrong).__name__}: {short(str(wrong))} ({cure}).") from wrong


def row_scores(problem: Problem, params: Tensor, action: Tensor, state: Tensor) -> Callable[[Tensor], Tensor]:
    """w [N, T] -> [N, P]: sum_t w_t grad log pi_t of each row, what `Batch.scores` promises."""
    S, A, P = problem.jacobian.shape

    def scores(weight: Tensor) -> Tensor:
        score = vmap(grad(problem.policy.head.log_prob))(params.reshape(-1, A), action.reshape(-1))
        each = (weight.reshape(-1, 1) * score).reshape(-1, state.shape[-1], A)
        place = (state[..., None] == torch.arange(S)).to(each).reshape(-1, state.shape[-1], S)
        return torch.einsum("nta,nts->nsa", each, place).flatten(1) @ problem.jacobian.reshape(S * A, P)

    return scores


def moments(
    problem: Problem,
    surrogate: Surrogate,
    rows: str = "episodes",
    n: int = 4,
    samples: int = 0,
    seed: int = 0,
    symmetric: bool = False,
) -> Moments:
    """Over every batch of n episodes where those fit, else over `samples` drawn ones (0: refuse).

    `symmetric`: the surrogate does not depend on the order of the episodes, as no estimator of the library does;
    batches that differ in the order alone are then looked at once.
    """
    draws, exactly = batches(problem, Shape.of(rows, n), samples, seed, symmetric)
    sums, squares, total = [], [], 0
    for draw in draws:
        g = gradients(problem, surrogate, rows, draw)
        if not bool(g.isfinite().all()):
            why = "a division by 0, as by the std of equal rewards without an eps, or a log of 0"
            raise LogpiError(f"The estimator's gradient is not finite on some batches: look for {why}.")
        sums.append(draw.weight @ g)
        squares.append(draw.weight @ g.square().sum(-1))
        total += len(g)
    mean, second = torch.stack(sums).sum(0), torch.stack(squares).sum(0)
    if exactly:
        return Moments(mean, _variance(mean, second), total, False)
    blocks = torch.stack(sums), torch.stack(squares)
    return Moments(mean / total, _variance(mean / total, second / total, total), total, True, blocks)


def figures(m: Moments, to: Direction) -> dict[str, float]:
    """How the estimator stands to a direction g: relative bias |E - g| / |g|, cosine, scale E.g / g.g, MSE, SNR."""
    gap, g, along = max(0.0, squared_gap(m, to)), float(to.gradient.square().sum()), float(m.mean @ to.gradient)
    mean = float(m.mean.square().sum()) - (m.variance / m.batches if m.measured else 0.0)  # |E g|^2
    has_mean = mean > 1e-24 * g > 0  # rounding has no direction
    return {
        "relative_bias": math.sqrt(gap / g) if g else math.nan,
        "cosine": along / math.sqrt(g * mean) if has_mean else math.nan,  # of drawn batches it may pass 1
        "scale": along / g if g else math.nan,
        "mse": gap + m.variance,
        "variance": m.variance,
        "snr": mean / m.variance if m.variance > 1e-24 * g else math.inf,
    }


def squared_gap(m: Moments, to: Direction) -> float:
    """|E[g] - truth|^2; of drawn batches its unbiased estimate, which may be negative: the noise of a mean is no bias."""
    return float((m.mean - to.gradient).square().sum()) - (m.variance / m.batches if m.measured else 0.0)


def intervals(m: Moments, to: Direction) -> dict[str, float]:
    """Half the 95 % interval of each figure, by the jackknife over blocks; 0 where all was enumerated."""
    if m.blocks is None:
        return dict.fromkeys(figures(m, to), 0.0)
    left = [m.without(k) for k in range(len(m.blocks[0]))]
    each = [figures(x, to) for x in left]
    out = {name: half([f[name] for f in each]) for name in each[0]}
    g, gap = float(to.gradient.square().sum()), squared_gap(m, to)
    if g:  # a bias of 0 has an interval too: from that of its square
        highest = math.sqrt((max(0.0, gap) + half([squared_gap(x, to) for x in left])) / g)
        out["relative_bias"] = max(out["relative_bias"], highest - math.sqrt(max(0.0, gap) / g))
    return out


def half(left_out: list[float]) -> float:
    """Half the 95 % interval from the values with one block left out each (the jackknife)."""
    return float(half_interval(torch.tensor(left_out, dtype=torch.float64)))
