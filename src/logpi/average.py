"""The average over actions, as a weight for each: the surrogate is sum(weights * objective).

Part of the objective, not a detail: with rows of different length each choice is another gradient.
Weights are computed once for a whole minibatch, which makes the gradient independent of how it is split.
mask [..., T] is True on our actions; weights are 0 elsewhere.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from logpi.device import widest

Kind = Literal["per_episode", "per_action", "per_sequence", "per_budget"]


def weights(kind: Kind, mask: Tensor, budget: float | None = None) -> Tensor:
    """The weight of each action, [..., T], in float64 (float32 on devices without it): cast to the type in use.

    per_episode 1/N, per_action 1/(number of actions), per_sequence 1/(N x actions in its row),
    per_budget 1/(N x budget); N rows, those without actions included.
    """
    ours = mask.to(widest(mask.device))
    rows = max(1, math.prod(mask.shape[:-1]))
    if kind == "per_episode":
        return ours / rows
    if kind == "per_action":
        return ours / ours.sum().clamp(min=1)
    if kind == "per_sequence":
        return ours / ours.sum(-1, keepdim=True).clamp(min=1) / rows
    if kind == "per_budget" and budget is not None:
        return ours / (rows * budget)
    raise ValueError(f"average {kind!r}, budget {budget}: per_episode, per_action, per_sequence, per_budget with one.")


def total(x: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
    """sum(weight * x) over our actions, in x's float type; masked slots may hold anything."""
    return torch.where(mask, x * weight.to(x.dtype), 0.0).sum()


def per_episode(x: Tensor, mask: Tensor) -> Tensor:
    """(1/N) sum_n sum_t x: the textbook's, the only one that leaves REINFORCE unbiased."""
    return total(x, weights("per_episode", mask), mask)


def per_action(x: Tensor, mask: Tensor) -> Tensor:
    """Every action counts once: long rows weigh more. What PPO and its family do."""
    return total(x, weights("per_action", mask), mask)


def per_sequence(x: Tensor, mask: Tensor) -> Tensor:
    """Every row counts once: an action in a long row weighs less (GRPO's 1/|o_i|, Shao et al. 2024)."""
    return total(x, weights("per_sequence", mask), mask)


def per_budget(x: Tensor, mask: Tensor, budget: float) -> Tensor:
    """sum / (rows x budget): a constant divisor, no bias by length (Dr. GRPO, Liu et al. 2025)."""
    return total(x, weights("per_budget", mask, budget), mask)
