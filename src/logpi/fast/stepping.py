"""Rollouts with the fused policy in environments that step in numpy arrays: a kernel's call and theirs for each step.

Storage is time-major, so that kernels and environments write where the rollout keeps it. Where environments come in groups,
one group steps while the policy acts for another.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from logpi.envs.base import InGroups, StepArrays
from logpi.errors import EnvironmentFailed
from logpi.fast import rolling
from logpi.fast.acting import normal_of, place, prepare
from logpi.fast.machine import Machine, address
from logpi.policy import Policy
from logpi.policy.gaussian import Gaussian
from logpi.rollout.culprit import culprit


class Rollout:
    """`steps` steps of n environments: what was seen and done so far, [T, n, *]."""

    def __init__(self, machine: Machine, control: Any, policy: Policy, noise: Tensor | None, steps: int) -> None:
        self.machine, self.envs, self.policy, self.generator = machine, control.envs, policy, control.generator
        n, head, space = self.envs.n, policy.head, self.envs.observation_space
        self.acted = 0  # steps for which there are parameters
        self.obs = np.empty((steps + 1, n, *space.shape), np.float32)
        self.obs[0] = control.obs.numpy()
        self.params = np.empty((steps, n, machine.params), np.float32)
        self.action = np.empty((steps, n, *head.action_shape), np.float32 if head.action_dtype is None else np.int64)
        self.reward = np.empty((steps, n))
        self.terminated, self.truncated, self.broken = (np.zeros((steps, n), bool) for _ in range(3))
        self.mask = np.ones((steps, n), bool)
        self.final: list[tuple[int, slice, np.ndarray]] = []  # observations before a reset: step, rows, all of the rows
        self.drawn = np.zeros(0, np.float32) if noise is None else noise.numpy()
        self.normal = normal_of(policy)
        self.box = (head.low.numpy(), head.high.numpy(), head.box_shape) if type(head) is Gaussian else None

    def act(self, t: int, rows: slice) -> np.ndarray:
        """The actions of some environments in step t, as these take them."""
        self.acted = t + 1
        m, obs, params, action = self.machine, self.obs[t, rows], self.params[t, rows], self.action[t, rows]
        drawn = place(self.drawn[t, rows]) if self.drawn.size else 0
        where = (address(obs), place(self.normal), drawn, len(obs), address(params), address(action))
        rolling.act(*m.here, *where)
        head: Any = self.policy.head
        if not drawn:
            action[...] = head.sample(torch.from_numpy(params), self.generator).numpy()
        if self.box is not None:
            low, high, shape = self.box
            return np.minimum(np.maximum(action, low), high).reshape(len(action), *shape)
        return head.to_env(torch.from_numpy(action)).numpy()

    def keep(self, t: int, rows: slice, x: StepArrays) -> None:
        """What a step gave."""
        self.obs[t + 1, rows], self.reward[t, rows] = x.obs, x.reward
        self.terminated[t, rows], self.truncated[t, rows] = x.terminated, x.truncated
        if x.final is not x.obs:
            self.final.append((t, rows, x.final.astype(np.float32)))
        if x.mask is not None:
            self.mask[t, rows] = x.mask
        if x.broken is not None:
            self.broken[t, rows] = x.broken

    def segments(self) -> int:
        """Every step; groups in turn. How many were taken."""
        steps = len(self.reward)
        if not isinstance(self.envs, InGroups) or len(self.envs.groups) == 1:
            for t in range(steps):
                self.keep(t, slice(None), self.envs.step_array(self.act(t, slice(None))))
            return steps
        for t in range(steps + 1):
            for g, rows in enumerate(self.envs.groups):
                if t:
                    self.keep(t - 1, rows, self.envs.receive(g))
                if t < steps:
                    self.envs.send(g, self.act(t, rows))
        return steps

    def episodes(self, going: np.ndarray) -> int:
        """Steps until those that are `going` have all ended."""
        for t in range(len(self.reward)):
            self.keep(t, slice(None), self.envs.step_array(self.act(t, slice(None))))
            going = going & ~(self.terminated[t] | self.truncated[t])
            if not going.any():
                return t + 1
        return len(self.reward)

    def told(self, taken: int) -> dict[str, Tensor]:
        """[n, T, *]."""
        final = self.obs[1 : taken + 1].copy()
        for t, rows, seen in self.final:
            final[t, rows] = seen
        found = {name: getattr(self, name)[:taken] for name in KEPT} | {"final": final}
        return {name: torch.from_numpy(x).transpose(0, 1).contiguous() for name, x in found.items()}


KEPT = ("obs", "action", "params", "reward", "terminated", "truncated", "mask", "broken")


def roll(
    machine: Machine, control: Any, policy: Policy, noise: Tensor | None, steps: int, going: Tensor | None, before: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """(the next observations, what happened [n, T, *]) in `steps` steps, or fewer where whole episodes ended.

    before: how many steps the rollout had taken already.
    """
    here = Rollout(machine, control, policy, noise, steps)
    prepare(machine)
    try:
        if control.rows == "segments":
            taken = here.segments()
        else:
            taken = here.episodes(np.ones(control.envs.n, bool) if going is None else going.numpy())
    except EnvironmentFailed as failed:
        n = failed.number
        obs, said = (torch.from_numpy(x[: here.acted, n]) for x in (here.obs, here.params))
        raise culprit(obs, said, before, control.version + 1, n) or failed from failed
    return torch.from_numpy(here.obs[taken].copy()), here.told(taken)
