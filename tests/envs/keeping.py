"""Environments that keep more, or less, than an episode tells; importable by a process, without torch."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit


class Counter(gym.Env):
    """Tells its own state; what it shows depends on more than its last episode."""

    observation_space, action_space = spaces.Box(-1e9, 1e9, (2,), np.float64), spaces.Discrete(3)
    total = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.total += 1
        return np.array([self.total, self.np_random.random()]), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict]:
        self.total += int(action)
        return np.array([self.total, self.np_random.random()]), 1.0, self.total % 17 == 0, False, {}


class Tells(Counter):
    def get_state(self) -> dict[str, Any]:
        return {"total": self.total, "where": np.array([self.total])}

    def set_state(self, state: dict[str, Any]) -> None:
        assert int(state["where"][0]) == state["total"]
        self.total = state["total"]


class Forgets(Tells):
    def set_state(self, state: dict[str, Any]) -> None:
        self.total = 0


class Objects(Tells):
    def get_state(self) -> Any:
        return {"total": object()}


class Global(Counter):
    def step(self, action: int) -> tuple[Any, float, bool, bool, dict]:
        return np.random.random(2), 0.0, bool(np.random.random() < 0.1), False, {}


class Private(Counter):
    def __init__(self) -> None:
        self.own = np.random.default_rng()

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict]:
        return self.own.random(2), 0.0, bool(self.own.random() < 0.1), False, {}


class Draws(Counter):
    """Draws one number more in every second episode of a process, and shows nothing of it."""

    episodes = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.episodes += 1
        return np.zeros(2), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict]:
        self.np_random.random(1 + self.episodes % 2)
        return np.zeros(2), 0.0, False, False, {}


class Writes(Counter):
    """Its arrays are written again, and so is what it was given."""

    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self) -> None:
        self.obs = np.zeros(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        self.obs[:] = -1
        return self.obs, {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict]:
        self.obs += 1
        action[:] = 7
        return self.obs, 0.0, bool(self.obs[0] == 3), False, {}


class Unwrapped(gym.Wrapper):
    """A layer that nobody knows."""


def limited() -> gym.Env:
    return TimeLimit(Tells(), 12)
