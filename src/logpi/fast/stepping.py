"""Rollouts with the fused policy in environments that step in numpy arrays: a kernel's call and theirs for each step.

Storage is time-major, so that kernels and environments write where the rollout keeps it. Where environments come as they are
done, each has the next action at once; what is drawn for it was drawn before, so that who came first changes nothing.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from logpi.envs.base import Resting, SendReceive, StepArrays
from logpi.envs.workers import Workers
from logpi.errors import EnvironmentFailed
from logpi.fast import rolling, turns
from logpi.fast.acting import normal_of, place, prepare
from logpi.fast.heads import BLOCK
from logpi.fast.machine import Machine, address
from logpi.policy import Policy
from logpi.policy.categorical import Categorical
from logpi.policy.gaussian import Gaussian
from logpi.rollout.culprit import culprit

ALL = slice(None)
TURNS, PATIENCE = 256, 20  # answers, or milliseconds without one, after which a kernel lets Python see to signals


class Rollout:
    """`steps` steps of n environments: what was seen and done so far, [T, n, *]."""

    def __init__(self, machine: Machine, control: Any, policy: Policy, noise: Tensor | None, steps: int) -> None:
        self.machine, self.envs, self.policy, self.generator = machine, control.envs, policy, control.generator
        n, head, shape = self.envs.n, policy.head, control.obs.shape[1:]
        self.acted = np.zeros(n, np.int64)  # steps of each for which there are parameters
        self.obs = np.empty((steps + 1, n, *shape), np.float32)
        self.obs[0], self.final = control.obs.numpy(), np.empty_like(self.obs[1:])
        self.params = np.empty((steps, n, machine.params), np.float32)
        self.action = np.empty((steps, n, *head.action_shape), np.float32 if head.action_dtype is None else np.int64)
        self.reward = np.empty((steps, n))
        self.terminated, self.truncated, self.broken, self.going = (np.zeros((steps, n), bool) for _ in range(4))
        self.mask = np.ones((steps, n), bool)
        self.drawn = np.zeros(0, np.float32) if noise is None else noise.numpy()
        self.normal = normal_of(policy)
        clips = type(head) is Gaussian and not head.whole
        self.box = (head.low.numpy(), head.high.numpy(), head.box_shape) if clips else None

    def act(self, t: Any, rows: Any) -> np.ndarray:
        """The actions of some environments in their step t, as these take them. rows: a slice, or numbers with a t each."""
        self.acted[rows] = t + 1
        m, obs, params, action = self.machine, self.obs[t, rows], self.params[t, rows], self.action[t, rows]
        drawn = self.drawn[t, rows] if self.drawn.size else self.drawn
        where = (address(obs), place(self.normal), place(drawn), len(obs), address(params), address(action))
        rolling.act(*m.here, *where)
        head: Any = self.policy.head
        if not drawn.size:
            action[...] = head.sample(torch.from_numpy(params), self.generator).numpy()
        self.params[t, rows], self.action[t, rows] = params, action  # a slice's are there already
        if self.box is not None:
            low, high, shape = self.box
            return np.minimum(np.maximum(action, low), high).reshape(len(action), *shape)
        return head.to_env(torch.from_numpy(action)).numpy()

    def keep(self, t: Any, rows: Any, x: StepArrays) -> None:
        """What a step gave."""
        self.obs[t + 1, rows], self.final[t, rows], self.reward[t, rows] = x.obs, x.final, x.reward
        self.terminated[t, rows], self.truncated[t, rows] = x.terminated, x.truncated
        if x.mask is not None:
            self.mask[t, rows] = x.mask
        if x.broken is not None:
            self.broken[t, rows] = x.broken
        if x.going is not None:
            self.going[t, rows] = x.going

    def segments(self) -> int:
        """Every step. How many were taken."""
        steps = len(self.reward)
        if isinstance(self.envs, SendReceive) and self.drawn.size:
            self.as_they_come(steps)
            return steps
        for t in range(steps):
            self.keep(t, ALL, self.envs.step_array(self.act(t, ALL)))
        return steps

    def as_they_come(self, steps: int) -> None:
        n, kernel = self.envs.n, self.kernel(steps)
        on, t = np.arange(n), np.zeros(n, np.int64)  # who goes on; steps that each has taken
        while t.min() < steps:
            if len(on):
                self.envs.send(on, self.act(t[on], on))
                on = on[:0]
            if kernel is not None and kernel(t):
                continue
            rows, x = self.envs.receive()
            self.keep(t[rows], rows, x)
            t[rows] += 1
            on = rows[t[rows] < steps]

    def kernel(self, steps: int) -> Callable[[np.ndarray], bool] | None:
        """Takes steps for as long as nothing is amiss, given how many each has taken; False: it took none. None: not covered."""
        envs, m = self.envs, self.machine
        if type(envs) is not Workers:
            return None
        wires, x = envs.wires, envs.arrays
        box, discrete = self.box, type(self.policy.head) is Categorical
        known = x["obs"].dtype in (np.float32, np.float64) and (box is not None or discrete)
        if not known or x["action"].dtype != (np.int64 if discrete else np.float32):
            return None
        width = int(np.prod(self.obs.shape[2:]))
        start = getattr(self.policy.head, "start", 0)
        sizes = len(envs.workers), len(envs.groups), envs.n, steps, width, x["obs"].dtype == np.float64
        numbers = np.array([*sizes, self.action[0, 0].size, start, TURNS, PATIENCE], np.int64)
        names = ("obs", "final", "action", "reward", "terminated", "truncated")
        shared = np.array([address(a) for a in (*(x[name] for name in names), envs.last, wires.over)])
        kept = np.array([address(getattr(self, name)) for name in ("obs", "final", "params", *names[2:])])
        low, high = (np.zeros(0, np.float32),) * 2 if box is None else (side.astype(np.float32) for side in box[:2])
        room, params = np.empty(envs.n + len(envs.groups), np.int64), np.empty((BLOCK, m.params), np.float32)
        tables = (
            wires.calls,
            numbers,
            wires.groups,
            wires.owed,
            wires.polled,
            wires.requests,
            wires.rest,
            shared,
            kept,
        )

        def take(t: np.ndarray) -> bool:
            if not envs.hand_over():
                return False
            before, rest = t.copy(), (self.normal, self.drawn, low, high, room, params)
            turns.turns(*m.here, *map(address, tables), address(t), *map(place, rest))
            envs.stepped(t > before)
            on = np.isin(np.arange(envs.n), [i for g in envs.sent for i in envs.groups[g].rows])
            self.acted[:] = t + on
            return bool((t > before).any())

        return take

    def episodes(self, going: np.ndarray) -> int:
        """Steps until those that are `going` have all ended."""
        for t in range(len(self.reward)):
            self.keep(t, ALL, self.envs.step_array(self.act(t, ALL)))
            ended = self.terminated[t] | self.truncated[t]
            going = going & ~ended
            if not going.any():
                return t + 1
            if isinstance(self.envs, Resting) and ended.any():
                self.envs.rest(~going)
        return len(self.reward)

    def told(self, taken: int) -> dict[str, Tensor]:
        """[n, T, *]."""
        found = {name: getattr(self, name)[:taken] for name in KEPT}
        return {name: torch.from_numpy(x).transpose(0, 1).contiguous() for name, x in found.items()}


KEPT = ("obs", "final", "action", "params", "reward", "terminated", "truncated", "mask", "broken", "going")


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
        obs, said = (torch.from_numpy(x[: here.acted[n], n]) for x in (here.obs, here.params))
        raise culprit(obs, said, before, control.version + 1, n) or failed from failed
    return torch.from_numpy(here.obs[taken].copy()), here.told(taken)
