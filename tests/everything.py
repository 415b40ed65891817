"""An environment of any two spaces, which shows samples of the one and refuses what is not in the other."""

from typing import Any

import gymnasium as gym
from gymnasium import spaces


class Anything(gym.Env):
    """Episodes of five steps; the reward is 1."""

    def __init__(self, observations: spaces.Space, actions: spaces.Space) -> None:
        self.observation_space, self.action_space = observations, actions

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.t = 0
        if seed is not None:
            self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        assert self.action_space.contains(action), f"{action!r} is not in {self.action_space}"
        self.t += 1
        return self.observation_space.sample(), 1.0, self.t == 5, False, {}


class Words(spaces.Space[str]):
    """Strings, as MiniGrid's missions are: a space of its own, no Text."""

    def __init__(self) -> None:
        super().__init__(dtype=str)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        return ("go to the ball", "open the door")[self.np_random.integers(2)]

    def contains(self, x: Any) -> bool:
        return isinstance(x, str)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Words)
