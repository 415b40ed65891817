"""Rollouts with the fused policy: CartPole-v1 whole in one call, every other environment with one call a step."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from logpi.envs.cartpole import CartPole
from logpi.fast import rolling
from logpi.fast.machine import Machine, address
from logpi.policy import Policy


def normal_of(policy: Policy) -> np.ndarray:
    """What the kernels know of the normaliser of observations: means, 1 / std, the limit; empty where there is none."""
    kept = policy.normaliser
    if kept is None:
        return np.zeros(0, np.float32)
    scale = (kept.var + 1e-8).rsqrt()
    return torch.cat([kept.mean, scale, kept.mean.new_tensor([kept.limit])]).float().numpy()


def place(x: np.ndarray) -> int:
    """The address of an array; null where it is empty."""
    return address(x) if x.size else 0


def prepare(machine: Machine) -> None:
    tensors = machine.tensors()
    rolling.prepare(*map(address, (machine.plan, machine.x, tensors, machine.places)), len(machine.places))


def cartpole(
    machine: Machine, envs: CartPole, policy: Policy, noise: Tensor, whole: bool, going: Tensor | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """noise [T, n, 2] -> (the next observations, what happened in T steps [n, T, *]); fewer where `whole` episodes ended."""
    steps, n = noise.shape[:2]
    before = envs.generator.get_state() if whole else None
    fresh = torch.empty(steps, 4, n).uniform_(-0.05, 0.05, generator=envs.generator)
    out = {
        "obs": torch.empty(n, steps, 4),
        "final": torch.empty(n, steps, 4),
        "params": torch.empty(n, steps, 2),
        "action": torch.empty(n, steps, dtype=torch.long),
        "terminated": torch.empty(n, steps, dtype=torch.bool),
        "truncated": torch.empty(n, steps, dtype=torch.bool),
    }
    state, age, normal = envs.s.contiguous(), envs.age, normal_of(policy)
    prepare(machine)
    rolling.cartpole(
        address(machine.plan), address(machine.x), place(normal),
        *(x.data_ptr() for x in (noise, state, age, fresh)), n, steps, *(x.data_ptr() for x in out.values()),
    )  # fmt: skip
    envs.s = state
    more = {"reward": torch.ones(n, steps), "mask": torch.ones(n, steps, dtype=torch.bool)}
    out |= more | {"broken": torch.zeros(n, steps, dtype=torch.bool)}
    if before is not None:
        ended = (out["terminated"] | out["truncated"])[going if going is not None else slice(None)]
        if bool(ended.any(1).all()):  # the plain loop stops here: leave its generator's state, too
            needed = int(ended.long().argmax(1).amax()) + 1
            envs.generator.set_state(before)
            torch.empty(needed, 4, n).uniform_(generator=envs.generator)
            out = {name: x[:, :needed] for name, x in out.items()}
    return state.T.contiguous(), out


def native(envs: Any) -> bool:
    """Can these environments be rolled whole?"""
    return type(envs) is CartPole and envs.device == "cpu" and envs.dtype == torch.float32
