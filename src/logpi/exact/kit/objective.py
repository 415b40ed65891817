"""Checks of the surrogates: values by their formulas, gradients by where they are on and off."""

import torch
from torch import Tensor

from logpi import objective
from logpi.exact.kit.holds import agree, apart, check, claim, normal

LOW, HIGH = 0.1, 0.3
RHO = torch.tensor([0.5, 0.89, 0.91, 1.0, 1.29, 1.31, 2.0], dtype=torch.float64)  # on either side of each limit
OLD = torch.log(torch.linspace(0.1, 0.4, 7, dtype=torch.float64))
SIGNS = (-2.0, 2.0)


def slope(f: Tensor, at: Tensor) -> Tensor:
    """d (sum f) / d log pi."""
    return torch.autograd.grad(f.sum(), at, retain_graph=True)[0]


def now(rho: Tensor = RHO) -> Tensor:
    """log pi at these ratios to OLD, to be differentiated."""
    return (OLD[: len(rho)] + rho.log()).requires_grad_(True)


@check("at pi_old every surrogate climbs by psi grad log pi")
def _() -> None:
    log_pi, credit = now(torch.ones_like(RHO)), normal(7)
    forms = {
        "score": objective.score(log_pi, credit),
        "ratio": objective.ratio(log_pi, OLD, credit),
        "clip": objective.clip(log_pi, OLD, credit, LOW, HIGH),
        "mirror": objective.mirror(log_pi, OLD, credit, 0.5),
        "clipped_weight": objective.clipped_weight(log_pi, OLD, credit, LOW, HIGH),
    }
    for name, f in forms.items():
        agree(slope(f, log_pi), credit, name)
    agree(objective.score(log_pi, credit), log_pi * credit, "the score's value")


@check("the ratio surrogate is rho psi, and so is its slope")
def _() -> None:
    for sign in SIGNS:
        log_pi = now()
        f = objective.ratio(log_pi, OLD, torch.full_like(OLD, sign))
        agree(f, sign * RHO, "value")
        agree(slope(f, log_pi), sign * RHO, "slope")


@check("clip gains nothing beyond its range, pays all the way back, and is off exactly there")
def _() -> None:
    for sign in SIGNS:
        log_pi = now()
        f = objective.clip(log_pi, OLD, torch.full_like(OLD, sign), LOW, HIGH)
        held = RHO.clamp(max=1 + HIGH) if sign > 0 else RHO.clamp(min=1 - LOW)
        off = RHO > 1 + HIGH if sign > 0 else RHO < 1 - LOW
        agree(f, sign * held, f"value, psi {sign:+g}")
        agree(slope(f, log_pi), torch.where(off, 0.0, sign * RHO), f"slope, psi {sign:+g}")


@check("mirror descent on a table ends at pi_old exp(eta A) / Z")
def _() -> None:
    old, A, eta = normal(3, 4).log_softmax(-1), normal(3, 4, seed=1), 0.7
    logits = (old + eta * A).requires_grad_(True)
    gain = (old.exp() * objective.mirror(logits.log_softmax(-1), old, A, eta)).sum()
    agree(slope(gain, logits), 0.0, "slope at the optimum")
    away = normal(3, 4, seed=2).requires_grad_(True)
    f = objective.mirror(away.log_softmax(-1), old, A, eta)
    rho = (away.log_softmax(-1) - old).exp()
    agree(f, rho * A - (rho * rho.log() - rho + 1) / eta, "value")
    apart(slope((old.exp() * f).sum(), away), torch.zeros(()), "slope elsewhere")


@check("a clipped weight never switches a gradient off, and carries none itself")
def _() -> None:
    for sign in SIGNS:
        log_pi = now()
        f = objective.clipped_weight(log_pi, OLD, torch.full_like(OLD, sign), LOW, HIGH)
        weight = RHO.clamp(1 - LOW, 1 + HIGH) * sign
        agree(slope(f, log_pi), weight, "slope")
        agree(f, log_pi * weight, "value")


@check("a sequence has one ratio, the geometric mean over its own actions, clipped as one")
def _() -> None:
    gap = torch.tensor([[0.5], [-0.5], [0.5], [-0.5], [0.1], [0.0]], dtype=torch.float64) + normal(6, 5) / 20
    credit = torch.tensor([[1.0], [1.0], [-2.0], [-2.0], [0.5], [1.0]], dtype=torch.float64).expand(6, 5)
    mask = torch.arange(5) < torch.tensor([[5], [2], [3], [1], [4], [0]])
    log_pi = torch.where(mask, gap - 1, 100.0).requires_grad_(True)
    f = objective.sequence_clip(log_pi, torch.full_like(gap, -1.0), credit, mask, LOW, HIGH)
    for i, row in enumerate(gap[:5]):
        s = row[mask[i]].mean().exp()
        held = s.clamp(max=1 + HIGH) if credit[i, 0] > 0 else s.clamp(min=1 - LOW)
        agree(f[i][mask[i]], held * credit[i, 0], f"row {i}")
        each = torch.where(mask[i], s * credit[i, 0] if held == s else 0.0, 0.0)  # n equal terms, a share 1/n in each
        agree(slope(f[i][mask[i]], log_pi)[i], each, f"slope of row {i}")
    claim(f.isfinite().all(), "a row without an action is not finite")
    now, old, psi, ours = (x.unflatten(0, (2, 3)) for x in (log_pi, torch.full_like(gap, -1.0), credit, mask))
    agree(objective.sequence_clip(now, old, psi, ours, LOW, HIGH).flatten(0, 1), f, "rows [P, G, T]")


@check("corrections for another sampler are pi_trainer / pi_sampler, bounded, without a gradient")
def _() -> None:
    log_pi = now()
    cut, dropped = (f(log_pi, OLD, 1.25) for f in (objective.truncated_correction, objective.masked_correction))
    agree(cut, RHO.clamp(max=1.25), "truncated")
    agree(dropped, torch.where((RHO <= 1.25) & (RHO >= 0.8), RHO, 0.0), "masked")
    agree(objective.masked_correction(OLD, OLD, 1.0), 1.0, "a ratio that is the limit")
    claim(not cut.requires_grad and not dropped.requires_grad, "a correction carries a gradient")
    p, q, x = normal(6).softmax(-1), normal(6, seed=1).softmax(-1), normal(6, seed=2)
    for f in (objective.truncated_correction, objective.masked_correction):
        agree((q * f(p.log(), q.log(), 1e9) * x).sum(), (p * x).sum(), f"{f.__name__}: E under the trainer")


@check("the critic's error is (V - target)^2, and moving V further than the limit is never rewarded")
def _() -> None:
    value, old, target = (normal(200, seed=i).clone() for i in range(3))
    value.requires_grad_(True)
    plain = (value - target).square()
    agree(objective.value_error(value, target), plain, "no limit")
    held = objective.value_error(value, target, old, 0.2)
    agree(held, plain.maximum(((old + (value - old).clamp(-0.2, 0.2)) - target).square()), "value")
    claim((held >= plain).all(), "smaller than the plain error")
    towards = (value - old).abs() > 0.2
    towards &= ((value - old) * (target - old) > 0) & ((value - target).abs() < (target - old).abs() - 0.2)
    agree(slope(held, value)[towards], 0.0, "slope where V has gone far enough towards the target")
    apart(slope(plain, value)[towards], torch.zeros(()), "slope of the plain error there")
