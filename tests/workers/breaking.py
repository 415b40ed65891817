"""Environments that break in every way, importable by a process."""

import os
import random
import signal
import time
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

WAYS = ("fine", "raise", "shape", "dtype", "reward", "flag", "exit", "kill", "hang", "no reset")


class Fragile(gym.Env):
    """obs (a number of the episode's own, its age); the action says what happens: 0 goes on, the others break."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space: spaces.Space = spaces.Discrete(len(WAYS))
    metadata = {"render_modes": []}
    armed = False  # the next reset raises

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        if self.armed:
            raise OSError("the level is gone")
        self.mark, self.age, self.length = self.np_random.random(), 0, int(self.np_random.integers(3, 13))
        return self._obs(), {}

    def _obs(self) -> np.ndarray:
        return np.array([self.mark, self.age])

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict]:
        way = WAYS[int(action)]
        if way == "raise":
            raise RuntimeError("the simulator went away.\nmore of it")
        if way == "exit":
            os._exit(3)
        if way == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        while way == "hang":
            pass
        self.armed = way == "no reset"
        self.age += 1
        over = self.age == self.length or self.armed
        obs = {"shape": np.zeros(3), "dtype": np.array(["a", "b"])}.get(way, self._obs())
        reward, terminated = (
            ("much" if way == "reward" else self.mark),
            1 if way == "flag" else over and self.age % 2 > 0,
        )
        return obs, reward, terminated, bool(over and self.age % 2 == 0), {}


class Flaky(Fragile):
    """Raises in one step of fifteen, never in the first, whatever is done and whatever the seed."""

    action_space = spaces.Discrete(2)
    risk = 1 / 15

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict]:
        if self.age > 0 and random.SystemRandom().random() < self.risk:
            self.give_way()
        return super().step(0)

    def give_way(self) -> None:
        raise RuntimeError("flaky")


class Deadly(Flaky):
    """Takes its process with it."""

    risk = 1 / 20

    def give_way(self) -> None:
        os._exit(1)


class Healthy(Flaky):
    risk = 0.0


class Walker(gym.Env):
    """A noisy walk in a box action, so that every number of a rollout depends on all before it."""

    observation_space = spaces.Box(-100, 100, (3,), np.float32)
    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.s, self.age = self.np_random.normal(size=3).astype(np.float32), 0
        return self.s, {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict]:
        self.s[:2] += action  # its own array, written again: whoever keeps it must copy
        self.s[2] = self.np_random.normal()
        action[:] = np.nan  # what it was given is its own, too
        self.age += 1
        return self.s, -float(self.s @ self.s), bool(abs(self.s[0]) > 3), self.age >= 20, {}


class BadStart(gym.Env):
    """Cannot be made in a worker, only in the process that asks for the spaces."""

    observation_space, action_space = Fragile.observation_space, spaces.Discrete(2)

    def __init__(self) -> None:
        import multiprocessing

        if multiprocessing.parent_process() is not None:
            raise ConnectionError("port 5000 is taken")


class Slow(Healthy):
    """1 ms a step: asleep, or at work."""

    busy = False

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict]:
        until = time.perf_counter() + 1e-3
        if not self.busy:
            time.sleep(1e-3)
        while self.busy and time.perf_counter() < until:
            pass
        return super().step(action)


class Busy(Slow):
    busy = True
