"""Vector environments that step themselves, in every autoreset mode: the same transitions come out of each."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from logpi.envs.base import Step, StepArrays
from logpi.errors import EnvironmentFailed, LogpiError
from logpi.layout import Seen, Taken
from logpi.workers.shown import Allowed


class Gymnasium:
    """A Gymnasium vector environment.

    same-step: the final observation is in the info. next-step: it is the observation, and the step after an end is a
    dummy, masked. disabled: we reset what ended.
    """

    def __init__(self, env: gym.vector.VectorEnv, lives: bool = False, backend: str = "vector") -> None:
        """lives: an end is that of a life as long as the info's `lives` have become fewer; games are counted whole."""
        self.backend = backend
        self.env, self.n, self.left = env, env.num_envs, np.zeros(env.num_envs, int) if lives else None
        self.observation_space, self.action_space = env.single_observation_space, env.single_action_space
        self.seen, self.taken = Seen(self.observation_space), Taken(self.action_space)
        self.allowed = Allowed.of(self.seen, self.action_space)
        self.mode = AutoresetMode(env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
        self.pending = np.zeros(self.n, dtype=bool)  # next-step: ended, so the next step is a dummy
        self.failures: list[EnvironmentFailed] = []

    def reset(self, seeds: Sequence[int] | None = None) -> Tensor:
        self.pending = np.zeros(self.n, dtype=bool)
        if seeds is not None and len(set(seeds)) < len(seeds):
            raise LogpiError("Backend 'vector' cannot start two environments from one seed: use --backend sync.")
        obs, info = self.env.reset(seed=None if seeds is None else seeds[0])
        self.left = None if self.left is None else info["lives"].copy()
        shown = self._array(obs)
        self._must_allow(shown, np.ones(self.n, bool), "reset")
        return torch.tensor(shown)

    def _array(self, obs: Any) -> np.ndarray:
        """Observations [n, *shape], as `seen` lays them out."""
        return obs if self.seen.plain else self.seen.array(obs)

    def step(self, action: Tensor) -> Step:
        return self.step_array(action.cpu().numpy()).tensors()

    def step_array(self, action: np.ndarray) -> StepArrays:
        taken = action.astype(self.taken.dtype, copy=False).reshape(self.n, *self.taken.shape)
        shown, reward, terminated, truncated, info = self.env.step(self.taken.unpack(taken))
        obs = final = self._array(shown)
        ended, mask = terminated | truncated, None
        if self.mode == AutoresetMode.NEXT_STEP:
            mask = ~self.pending if self.pending.any() else None
            self.pending = ended
        elif ended.any():
            final = obs.copy()
            if self.mode == AutoresetMode.SAME_STEP:
                for i in ended.nonzero()[0]:
                    self.seen.pack(info["final_obs"][i], final[i])
            else:  # its arrays may be written again
                reward, terminated, truncated = reward.copy(), terminated.copy(), truncated.copy()
                obs = self._array(self.env.reset(options={"reset_mask": ended})[0])
        self._must_allow(obs, ~ended | (self.mode != AutoresetMode.NEXT_STEP), "step")
        return StepArrays(obs, final, reward, terminated, truncated, mask, going=self._going(terminated, info))

    def _must_allow(self, obs: np.ndarray, acted_on: np.ndarray, where: str) -> None:
        """Masks leave something where there is an action of ours to come."""
        if self.allowed is not None and (stuck := self.allowed.stuck(obs) & acted_on).any():
            number = int(stuck.argmax())
            raise EnvironmentFailed(self.allowed.sentence(f"Environment {number}", where), number)

    def _going(self, terminated: np.ndarray, info: dict[str, Any]) -> np.ndarray | None:
        """Which of them have only lost a life."""
        if self.left is None:
            return None
        before, self.left = self.left, info["lives"].copy()
        return terminated & (self.left < before)

    def state(self) -> None:
        """A vector environment has no way to tell."""

    def load_state(self, state: dict[str, Any]) -> None:
        raise LogpiError("A vector environment's state was not saved: its episodes start again.")

    def close(self) -> None:
        self.env.close()
