"""The surrogate L(theta) whose ascent is the policy update: per action, [..., T], to be maximised.

`score`, `ratio`, `clip` and `mirror` agree to first order at theta = theta_old, where rho = pi / pi_old is 1:
their gradient there is Psi grad log pi. Pure functions of tensors; log_pi_old and psi carry no gradient, and
are finite in masked slots too, as the loop fills them: in a backward pass 0 * NaN is NaN, whatever is masked later.
"""

import torch
from torch import Tensor

from logpi import kl


def score(log_pi: Tensor, psi: Tensor) -> Tensor:
    """log pi(a|s) Psi: the score function, REINFORCE (Williams 1992)."""
    return log_pi * psi


def ratio(log_pi: Tensor, log_pi_old: Tensor, psi: Tensor) -> Tensor:
    """rho Psi, rho = pi / pi_old: the importance-weighted surrogate (Schulman et al. 2015, TRPO, section 5)."""
    return (log_pi - log_pi_old).exp() * psi


def clip(log_pi: Tensor, log_pi_old: Tensor, psi: Tensor, low: float, high: float) -> Tensor:
    """min(rho Psi, clip(rho, 1 - low, 1 + high) Psi) (Schulman et al. 2017, PPO, eq. 7).

    Equal to min(rho, 1 + high) Psi for Psi >= 0 and max(rho, 1 - low) Psi for Psi < 0: nothing is gained by
    leaving the range, everything is paid for returning to it.
    """
    rho = (log_pi - log_pi_old).exp()
    return (rho * psi).minimum(rho.clamp(1 - low, 1 + high) * psi)


def mirror(log_pi: Tensor, log_pi_old: Tensor, psi: Tensor, eta: float) -> Tensor:
    """rho Psi - KL(pi || pi_old) / eta, the KL estimated from the old actions (`kl.from_old`).

    Mirror descent with the step size eta (Tomar et al. 2020, MDPO).
    """
    return ratio(log_pi, log_pi_old, psi) - kl.from_old(log_pi, log_pi_old) / eta


def sequence_clip(log_pi: Tensor, log_pi_old: Tensor, psi: Tensor, mask: Tensor, low: float, high: float) -> Tensor:
    """`clip` of the row's ratio s = exp(mean_t log rho_t), the same for each of its actions (Zheng et al. 2025, GSPO).

    mask [..., T]. With the per-sequence average the surrogate is the mean over rows of min(s Psi, clip(s) Psi).
    """
    gap = torch.where(mask, log_pi - log_pi_old, 0.0).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True).clamp(min=1)
    return clip(gap.expand_as(log_pi), torch.zeros_like(log_pi_old), psi, low, high)


def clipped_weight(log_pi: Tensor, log_pi_old: Tensor, psi: Tensor, low: float, high: float) -> Tensor:
    """log pi x [clip(rho, 1 - low, 1 + high)] Psi, no gradient through the bracket (MiniMax 2025, CISPO).

    Unlike `clip`, no action's gradient is ever switched off: its weight is bounded instead.
    """
    return log_pi * (log_pi - log_pi_old).detach().exp().clamp(1 - low, 1 + high) * psi


def truncated_correction(log_trainer: Tensor, log_sampler: Tensor, limit: float) -> Tensor:
    """min(pi_trainer / pi_sampler, limit), no gradient: times an objective, it corrects for a sampler of other numerics."""
    return (log_trainer - log_sampler).detach().exp().clamp(max=limit)


def masked_correction(log_trainer: Tensor, log_sampler: Tensor, limit: float) -> Tensor:
    """pi_trainer / pi_sampler where it lies in [1/limit, limit], else 0, no gradient: drops actions that disagree."""
    weight = (log_trainer - log_sampler).detach().exp()
    return torch.where((weight <= limit) & (weight >= 1 / limit), weight, 0.0)


def value_error(value: Tensor, target: Tensor, value_old: Tensor | None = None, limit: float | None = None) -> Tensor:
    """(V - target)^2, to be *minimised*; with a limit, the larger of it and the same for V held within limit of V_old."""
    error = (value - target).square()
    if limit is None or value_old is None:
        return error
    held = value_old + (value - value_old).clamp(-limit, limit)
    return error.maximum((held - target).square())
