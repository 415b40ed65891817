"""A mask that an environment tells in its info, shown as a part of what it shows."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from logpi.errors import LogpiError
from logpi.layout import MASK


class MaskShown(gymnasium.Wrapper):
    """Observations are {"obs": the environment's, "action_mask": info["action_mask"]}."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.choices = choices(env.action_space)
        if not self.choices:
            raise LogpiError(f"--masks info is for actions that can be ruled out, and {env.action_space} has none.")
        parts = {"obs": env.observation_space, MASK: spaces.MultiBinary(self.choices)}
        self.observation_space = spaces.Dict(parts)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        return self._with_mask(obs, info), info

    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = self.env.step(action)
        return self._with_mask(obs, info), reward, terminated, truncated, info

    def _with_mask(self, obs: Any, info: dict[str, Any]) -> dict[str, Any]:
        if MASK not in info:
            raise KeyError(f"its info has no {MASK}, which --masks info reads")
        return {"obs": obs, MASK: np.reshape(info[MASK], self.choices)}


def choices(space: spaces.Space) -> int:
    """Actions that can be ruled out, counted as the policy's head counts them."""
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete):
        return int(space.nvec.sum())
    if isinstance(space, spaces.MultiBinary):
        return int(np.prod(space.shape))
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces
        return sum(map(choices, parts))
    return 0
