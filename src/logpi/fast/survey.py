"""Passes over a whole batch that move nothing: values, measurements, the recursion of credit, and whether all is finite."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from logpi.fast import passes, update
from logpi.fast.heads import BLOCK
from logpi.fast.machine import COUNTING, Columns, Machine, address


def value(machine: Machine, obs: Tensor) -> Tensor | None:
    """V of normalised observations [..., D]; None where it stands on the policy's own network."""
    if not machine.plan[update.CRITIC_DEPTH]:
        return None
    obs = obs.contiguous()
    found, tensors = torch.empty(obs.shape[:-1]), machine.tensors()
    passes.value(
        *map(address, (machine.plan, machine.x, tensors, machine.places)), len(machine.places),
        obs.data_ptr(), found.numel(), found.data_ptr(),
    )  # fmt: skip
    return found


def report(machine: Machine, columns: Columns, low: float, high: float) -> dict[str, float]:
    """Means over all rows of the KL to the old policy, of how often the ratio is out of range, of the entropy; and how much
    of the targets' variance the critic had explained."""
    found, tensors = np.zeros(7), machine.tensors()
    at = np.array([columns.fields.index(x) if x in columns.fields else -1 for x in ("value", "target")])
    registers = np.zeros((update.ANSWERS + 1 + len(columns.fields), BLOCK), np.float32)
    passes.report(
        *map(address, (machine.plan, machine.x, registers, tensors, machine.places)), len(machine.places),
        address(columns.data), address(COUNTING), len(columns.data), len(columns.fields), address(at), low, high,
        address(found),
    )  # fmt: skip
    n = len(columns.data)
    info = {name: float(x / n) for name, x in zip(("kl", "clip_fraction", "entropy"), found[:3], strict=True)}
    if at.min() >= 0:
        error, target = ((found[i + 1] / n - (found[i] / n) ** 2) for i in (3, 5))
        info["explained_variance"] = float(1 - error / max(target, 1e-12))
    return info


def recursion(x: Tensor, decay: Tensor) -> Tensor:
    """`psi.backward`."""
    x, decay = x.contiguous(), decay.expand_as(x).contiguous()
    y = torch.empty_like(x)
    passes.recursion(x.data_ptr(), decay.data_ptr(), y.data_ptr(), x[..., 0].numel(), x.shape[-1])
    return y


def finite(tensors: list[Tensor]) -> bool:
    """`trace.finite`: are all of them?"""
    kept = [x.contiguous() for x in tensors]
    places = np.array([[x.data_ptr(), x.numel()] for x in kept])
    return bool(passes.finite(address(places), len(kept)))


TWINS: dict[str, Any] = {"recursion": recursion, "finite": finite}
