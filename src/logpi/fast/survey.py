"""Passes over a whole batch that move nothing: values, measurements, credit, and whether all is finite."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from logpi.fast import passes, update
from logpi.fast.heads import BLOCK
from logpi.fast.machine import COUNTING, Columns, Machine, address


def value(machine: Machine, obs: Tensor) -> Tensor:
    """V of normalised observations [..., D]."""
    obs = obs.contiguous()
    found, tensors = torch.empty(obs.shape[:-1]), machine.tensors()
    passes.value(*machine.own(tensors), obs.data_ptr(), found.numel(), found.data_ptr(), 0, 0, 0, 0, 0)
    return found


def values(machine: Machine, obs: Tensor, final: Tensor, ended: Tensor) -> tuple[Tensor, Tensor]:
    """(V, V of what followed before any reset) of normalised observations [n, T, D] of a rollout."""
    found, following, tensors = torch.empty(ended.shape), torch.empty(ended.shape), machine.tensors()
    room = np.empty(BLOCK, np.int64)
    rest = (x.data_ptr() for x in (final, ended, following))
    passes.value(
        *machine.own(tensors), obs.data_ptr(), found.numel(), found.data_ptr(), *rest, ended.shape[-1], address(room)
    )
    return found, following


def report(machine: Machine, columns: Columns, low: float, high: float) -> dict[str, float]:
    """Means over all rows of the KL to the old policy, of how often the ratio is out of range, of the entropy; and how much
    of the targets' variance the critic had explained."""
    machine.answers()
    found, tensors, plan = np.zeros(7), machine.tensors(), machine.plan.copy()
    plan[update.CRITIC_DEPTH] = 0  # only the policy is asked
    at = np.array([columns.fields.index(x) if x in columns.fields else -1 for x in ("value", "target")])
    registers = np.zeros((update.ANSWERS + 1 + len(columns.fields), BLOCK), np.float32)
    passes.report(
        address(plan), machine.here[1], address(registers), address(tensors), *machine.pieces_at,
        address(columns.data), address(COUNTING), len(columns.data), len(columns.fields), address(at), float(low), float(high),
        address(found),
    )  # fmt: skip
    n = len(columns.data)
    info = {name: float(x / n) for name, x in zip(("kl", "clip_fraction", "entropy"), found[:3], strict=True)}
    if at.min() >= 0:
        error, target = ((found[i + 1] / n - (found[i] / n) ** 2) for i in (3, 5))
        info["explained_variance"] = float(1 - error / max(target, 1e-12))
    return info


def backward(x: Tensor, decay: Tensor) -> Tensor:
    """`psi.backward`."""
    x, decay = x.to(decay.dtype).contiguous(), decay.expand_as(x).contiguous()
    y = torch.empty_like(x)
    wide = x.dtype == torch.float64
    passes.backward(x.data_ptr(), decay.data_ptr(), y.data_ptr(), x[..., 0].numel(), x.shape[-1], wide)
    return y


def gae(
    reward: Tensor, value: Tensor, value_next: Tensor, terminated: Tensor, truncated: Tensor, gamma: float, lam: float
) -> Tensor:
    """`psi.gae`."""
    numbers = [x.expand_as(reward).float().contiguous() for x in (reward, value, value_next)]
    given = [*numbers, *(x.expand_as(reward).bool().contiguous() for x in (terminated, truncated))]
    found, steps = torch.empty_like(given[0]), reward.shape[-1]
    passes.gae(*(x.data_ptr() for x in (*given, found)), found.numel() // steps, steps, float(gamma), float(lam))
    return found


def standardise(psi: Tensor, mask: Tensor, eps: float = 1e-8) -> Tensor:
    """`psi.standardise`."""
    psi, mask = psi.float().contiguous(), mask.expand_as(psi).bool().contiguous()
    found = torch.empty_like(psi)
    passes.standardise(psi.data_ptr(), mask.data_ptr(), found.data_ptr(), psi.numel(), float(eps))
    return found


def finite(tensors: list[Tensor]) -> bool:
    """`trace.finite`: are all of them?"""
    kept = [x.contiguous() for x in tensors]
    places = np.array([number for x in kept for number in (x.data_ptr(), x.numel())])
    return bool(passes.finite(address(places), len(kept)))


TWINS: dict[str, Any] = {f.__name__: f for f in (backward, gae, standardise, finite)}
