"""A task for every kind of action, with and without a memory: answer the sign that is shown, or that was shown at the start."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

BOX = spaces.Box(np.array([-1.0, -2.0], np.float32), np.array([1.0, 2.0], np.float32))
ACTIONS: dict[str, spaces.Space] = {
    "discrete": spaces.Discrete(3, start=-1),
    "box": BOX,
    "multi discrete": spaces.MultiDiscrete([2, 3]),
    "multi binary": spaces.MultiBinary(3),
    "hybrid": spaces.Dict({"turn": spaces.Discrete(2), "push": spaces.Box(-1, 1, (1,), np.float32)}),
}


def near(x: Any, target: float, width: float) -> float:
    """1 at the target, 0 a width away."""
    return float(np.clip(1 - np.abs(np.asarray(x, np.float64) - target) / width, 0, 1).mean())


ANSWERS: dict[str, Callable[[Any, int], float]] = {  # how right an action is, 0 to 1, for the sign -1 or 1
    "discrete": lambda a, s: float(a == s),
    "box": lambda a, s: near(a, 0.5 * s, 1.0),
    "multi discrete": lambda a, s: float(a[0] == (s > 0)) / 2 + float(a[1] == s + 1) / 2,
    "multi binary": lambda a, s: float(np.mean(a == [s > 0, s < 0, 1])),
    "hybrid": lambda a, s: float(a["turn"] == (s > 0)) / 2 + near(a["push"], 0.5 * s, 1.0) / 2,
}


class Probe(gym.Env):
    """Episodes of `length` steps. `recall`: the sign is seen in the first step alone, in which any answer is right.

    `masked`: one wrong action is ruled out and ends everything when it is taken all the same.
    """

    def __init__(self, kind: str, recall: bool = False, masked: bool = False, length: int = 4) -> None:
        self.kind, self.recall, self.masked, self.length = kind, recall, masked, length
        self.action_space = ACTIONS[kind]
        seen = spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space = seen
        if masked:
            self.observation_space = spaces.Dict({"obs": seen, "action_mask": spaces.MultiBinary(3)})

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.t = 0
        self._next()
        return self._obs(), {}

    def _next(self) -> None:
        if not (self.recall and self.t):
            self.sign = int(self.np_random.integers(2)) * 2 - 1
        self.forbidden = int(self.np_random.choice([0, -self.sign]))  # never the right one

    def _obs(self) -> Any:
        shown = 0 if self.recall and self.t else self.sign
        obs = np.array([shown, 1 if self.t else -1], np.float32)
        return {"obs": obs, "action_mask": np.arange(-1, 2) != self.forbidden} if self.masked else obs

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        assert self.action_space.contains(action), action
        assert not (self.masked and action == self.forbidden), "it was ruled out"
        reward = 1.0 if self.recall and not self.t else ANSWERS[self.kind](action, self.sign)
        self.t += 1
        self._next()
        return self._obs(), reward, self.t == self.length, False, {}


def maker(kind: str, **more: Any) -> Callable[[], Probe]:
    return lambda: Probe(kind, **more)
