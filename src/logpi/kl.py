"""Kullback-Leibler divergences: exact between two parameter records, and estimated from drawn actions.

The direction is always spelt out: KL(p || q) = E_p[log p - log q]. The estimates k1, k2, k3 are per action,
of KL(pi || other) from actions drawn from pi. As a loss differentiated through `log_pi`, on policy
(E over a ~ pi; names after Schulman 2020, "Approximating KL divergence"):

|    | value       | expected gradient as a loss                  |
|----|-------------|----------------------------------------------|
| k1 | unbiased    | zero: it constrains nothing                  |
| k2 | biased      | that of KL(pi || other)                      |
| k3 | unbiased    | that of KL(other || pi), the other direction |

In the reward (no gradient through it) k1 is right: the score function then gives grad KL(pi || other).
After the first minibatch the actions come from pi_old, not pi; `live` corrects that with the ratio, and
then every estimate that is unbiased in value has the right gradient as well.
"""

import math

import torch
from torch import Tensor

from logpi.errors import LogpiError


def k1(log_pi: Tensor, log_other: Tensor) -> Tensor:
    """log pi - log other: unbiased in value, noisy, can be negative; as a loss its expected gradient is zero."""
    return log_pi - log_other


def k2(log_pi: Tensor, log_other: Tensor) -> Tensor:
    """(log pi - log other)^2 / 2: biased in value; on policy its expected gradient is that of KL(pi || other)."""
    return (log_pi - log_other).square() / 2


def k3(log_pi: Tensor, log_other: Tensor) -> Tensor:
    """other/pi - 1 + log(pi/other).

    Unbiased in value, never negative; on policy its expected gradient is that of KL(other || pi).
    """
    x = log_other - log_pi
    return x.expm1() - x


def live(estimate: Tensor, log_pi: Tensor, log_pi_old: Tensor) -> Tensor:
    """rho x estimate, rho = pi / pi_old with its gradient: the estimate for actions drawn from pi_old."""
    return (log_pi - log_pi_old).exp() * estimate


def from_old(log_pi: Tensor, log_pi_old: Tensor) -> Tensor:
    """rho log rho - rho + 1, rho = pi/pi_old: of KL(pi || pi_old) for actions drawn from pi_old.

    Never negative; unbiased in value and in gradient.
    """
    log_rho = log_pi - log_pi_old
    return log_rho.exp() * log_rho - log_rho.expm1()


def controlled(
    weight: float, log_pi: Tensor, log_ref: Tensor | None, mask: Tensor, target: float | None, horizon: float
) -> float:
    """weight (1 + e N / horizon), e = KL / target - 1 held within 0.2: the KL(pi || ref) of whole rows is led to `target`.

    log_pi, log_ref, mask [..., T] of N rows of pi; their KL is the mean sum of k1. target None: the weight stays. Ziegler et al.
    2019, section 2.2, as their code has it, where N / horizon is the gain of an iteration.
    """
    if target is None:
        return weight
    if log_ref is None:
        raise LogpiError("kl_target leads the weight of a KL to the reference policy, which is 0: give --kl above 0.")
    reached = float(torch.where(mask, k1(log_pi, log_ref), 0.0).sum(-1).mean())
    error = min(max(reached / target - 1, -0.2), 0.2)
    return weight * (1 + error * math.prod(mask.shape[:-1]) / horizon)


def categorical(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) of two records of logits [..., A] -> [...]; actions of probability 0 under p count nothing."""
    log_p, log_q = p.log_softmax(-1), q.log_softmax(-1)
    never = log_p == -torch.inf  # filled before the product: 0 * inf would reach the gradient
    return (log_p.exp() * (log_p.masked_fill(never, 0.0) - log_q.masked_fill(never, 0.0))).sum(-1)


def gaussian(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) of two diagonal Gaussians, records [..., 2d] of means and log-stds -> [...]."""
    (mean_p, log_std_p), (mean_q, log_std_q) = p.chunk(2, -1), q.chunk(2, -1)
    shift = (mean_p - mean_q) * (-log_std_q).exp()
    log_ratio = log_std_p - log_std_q
    return (((2 * log_ratio).expm1() + shift.square()) / 2 - log_ratio).sum(-1)


def beta(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q) of independent Betas, records [..., 2d] of alphas and betas -> [...]."""
    (a, b), (c, d) = p.chunk(2, -1), q.chunk(2, -1)
    log_norm = (
        torch.lgamma(c)
        + torch.lgamma(d)
        - torch.lgamma(c + d)
        - torch.lgamma(a)
        - torch.lgamma(b)
        + torch.lgamma(a + b)
    )
    total = torch.digamma(a + b)
    return (log_norm + (a - c) * (torch.digamma(a) - total) + (b - d) * (torch.digamma(b) - total)).sum(-1)
