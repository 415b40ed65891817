"""Gymnasium environments one after another in this process, written straight into arrays: nothing else for each step."""

from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from logpi.envs.base import Step, StepArrays
from logpi.errors import EnvironmentFailed, LogpiError
from logpi.workers.guard import Guard


class Loop:
    """n environments of one constructor; an environment that ended is reset at once.

    The final observation is seen here anyway, so no mode of Gymnasium is needed to get at it. next-step is offered all
    the same (an environment that ended is reset in the next step, which is a dummy, masked), so that a rollout can be
    compared with one from a vector environment of that kind; same-step and disabled are the same thing here.
    """

    backend = "sync"

    def __init__(
        self, construct: Callable[[], gymnasium.Env], n: int, autoreset: AutoresetMode = AutoresetMode.SAME_STEP
    ) -> None:
        self.n, self.mode = n, AutoresetMode(autoreset)
        self.guards = [Guard(construct, number) for number in range(n)]
        self.observation_space, self.action_space = self.guards[0].observation_space, self.guards[0].action_space
        self.failures: list[EnvironmentFailed] = []
        self.pending = np.zeros(n, bool)  # next-step: ended, so the next step is a dummy
        self.reward = np.zeros(n)
        self.terminated, self.truncated = np.zeros(n, bool), np.zeros(n, bool)
        self._share()
        self.awake = [*enumerate(self.guards)]

    def _share(self) -> None:
        """One array of observations, into whose rows the environments write."""
        for guard in self.guards:
            if (guard.observation_space, guard.action_space) != (self.observation_space, self.action_space):
                raise LogpiError(f"{guard} has other spaces than environment 0: its constructor must not draw them.")
        seen, self.taken = self.guards[0].seen, self.guards[0].taken
        self.obs, self.final = (np.zeros((self.n, *seen.shape), seen.dtype) for _ in range(2))
        for guard in self.guards:
            guard.show_in(self.obs[guard.number, ...])
        rest = self.reward, self.terminated, self.truncated
        self.within, self.at_an_end = StepArrays(self.obs, self.obs, *rest), StepArrays(self.obs, self.final, *rest)

    def reset(self, seeds: Sequence[int] | None = None) -> Tensor:
        self.pending[:] = False
        self.awake = [*enumerate(self.guards)]
        for guard in self.guards:
            guard.reset(seed=None if seeds is None else seeds[guard.number])
        return torch.from_numpy(self.obs.copy())

    def rest(self, rows: np.ndarray) -> None:
        self.awake = [(i, guard) for i, guard in enumerate(self.guards) if not rows[i]]
        for x in (self.reward, self.terminated, self.truncated):
            x[rows] = 0

    def step(self, action: Tensor) -> Step:
        return self.step_array(action.cpu().numpy()).tensors()

    def step_array(self, action: np.ndarray) -> StepArrays:
        taken = np.asarray(action, self.taken.dtype).reshape(self.n, *self.taken.shape)
        if self.mode == AutoresetMode.NEXT_STEP:
            return self._next_step(taken)
        last = []  # observations before a reset
        for i, guard in self.awake:
            terminated, truncated = guard.advance(taken[i])
            self.reward[i], self.terminated[i], self.truncated[i] = guard.reward, terminated, truncated
            if terminated or truncated:
                last.append((i, guard.obs.copy()))
                guard.reset()
        if not last:
            return self.within
        self.final[...] = self.obs
        for i, obs in last:
            self.final[i] = obs
        return self.at_an_end

    def _next_step(self, action: np.ndarray) -> StepArrays:
        dummy = self.pending.copy()
        for i, guard in enumerate(self.guards):
            terminated, truncated = (False, False) if dummy[i] else guard.advance(action[i])
            if dummy[i]:
                guard.reset()
            self.reward[i], self.terminated[i], self.truncated[i] = guard.reward, terminated, truncated
        self.pending = self.terminated | self.truncated
        return self.within._replace(mask=~dummy) if dummy.any() else self.within

    def state(self) -> dict[str, Any] | None:
        """Of every environment: see `Guard.state`."""
        states = [guard.state() for guard in self.guards]
        return None if any(s is None for s in states) else {"envs": states, "pending": self.pending.copy()}

    def load_state(self, state: dict[str, Any]) -> None:
        for guard, found in zip(self.guards, state["envs"], strict=True):
            guard.load_state(found)
        self.pending = np.array(state["pending"])

    def close(self) -> None:
        for guard in self.guards:
            guard.close()
