"""Masks: one that an environment tells in its info is shown as a part of what it shows, and what one must leave."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from logpi.errors import LogpiError
from logpi.layout import MASK, Seen, choices


class MaskShown(gymnasium.Wrapper):
    """Observations are {"obs": the environment's, "action_mask": info["action_mask"]}."""

    def __init__(self, env: gymnasium.Env) -> None:
        super().__init__(env)
        self.choices = sum(n for n, _ in choices(env.action_space))
        if not self.choices:
            raise LogpiError(f"--masks info is for actions that can be ruled out, and {env.action_space} has none.")
        parts = {"obs": env.observation_space, MASK: spaces.MultiBinary(self.choices)}
        self.observation_space = spaces.Dict(parts)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        obs, info = self.env.reset(seed=seed, options=options)
        return self._with_mask(obs, info), info

    def step(self, action: Any) -> Any:
        obs, reward, terminated, truncated, info = self.env.step(action)
        return self._with_mask(obs, info, terminated or truncated), reward, terminated, truncated, info

    def _with_mask(self, obs: Any, info: dict[str, Any], ended: bool = False) -> dict[str, Any]:
        """Nobody acts where it has ended, so nothing has to be told there."""
        if ended and MASK not in info:
            return {"obs": obs, MASK: np.ones(self.choices, np.int8)}
        if MASK not in info:
            raise KeyError(f"its info has no {MASK}, which --masks info reads")
        told = info[MASK]  # of several choices a tuple, as Gymnasium's spaces take it
        flat = np.concatenate([np.ravel(part) for part in told]) if isinstance(told, tuple) else np.ravel(told)
        return {"obs": obs, MASK: flat}


class Allowed:
    """What masks must leave: one action at least of every choice. A coin may be left without, and stays no."""

    def __init__(self, seen: Seen, actions: spaces.Space) -> None:
        pieces = seen.of("mask")
        self.place = slice(pieces[0].begin, pieces[-1].end)
        counts = choices(actions)
        self.begins = np.cumsum([0, *(n for n, _ in counts)])[:-1]
        self.needed = np.array([needed for _, needed in counts], bool)

    @classmethod
    def of(cls, seen: Seen, actions: spaces.Space) -> "Allowed | None":
        """None: there are no masks, or none of these actions, which a policy refuses."""
        size = sum(piece.end - piece.begin for piece in seen.of("mask"))
        return cls(seen, actions) if size and size == sum(n for n, _ in choices(actions)) else None

    def stuck(self, obs: np.ndarray) -> Any:
        """[..., D], as `seen` lays it out -> [...] bool: nothing is left of a choice."""
        some = np.logical_or.reduceat(obs[..., self.place] > 0.5, self.begins, -1)
        return (self.needed & ~some).any(-1)

    def sentence(self, environment: str, where: str) -> str:
        return f"{environment} returned an {MASK} that allows nothing from {where}: expected is one action at least of every choice."
