"""Gymnasium environments behind our contract, in every autoreset mode: the same transitions come out of each."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor

from logpi.envs.base import Step
from logpi.errors import EnvironmentFailed, LogpiError


class Gymnasium:
    """A Gymnasium vector environment.

    same-step: the final observation is in the info. next-step: it is the observation, and the step after an end is a
    dummy, masked. disabled: we reset what ended.
    """

    def __init__(self, env: gym.vector.VectorEnv, backend: str) -> None:
        self.env, self.backend, self.n = env, backend, env.num_envs
        self.observation_space, self.action_space = env.single_observation_space, env.single_action_space
        self.mode = AutoresetMode(env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))
        self.pending = np.zeros(self.n, dtype=bool)  # next-step: ended, so the next step is a dummy
        self.failures: list[EnvironmentFailed] = []

    def reset(self, seeds: Sequence[int] | None = None) -> Tensor:
        self.pending = np.zeros(self.n, dtype=bool)
        if seeds is None or isinstance(self.env, SyncVectorEnv):
            each: Any = None if seeds is None else list(seeds)
            return torch.tensor(self.env.reset(seed=each)[0])
        if len(set(seeds)) < len(seeds):
            raise LogpiError(
                f"Backend {self.backend!r} cannot start two environments from one seed: use --backend sync."
            )
        return torch.tensor(self.env.reset(seed=seeds[0])[0])

    def step(self, action: Tensor) -> Step:
        taken = action.cpu().numpy().astype(self.action_space.dtype, copy=False)
        *given, info = self.env.step(taken)
        obs, reward, terminated, truncated = (
            np.array(x) for x in given
        )  # copies: an environment may write its arrays again
        final, ended, mask = obs, terminated | truncated, None
        if self.mode == AutoresetMode.NEXT_STEP:
            if self.pending.any():
                mask = torch.as_tensor(~self.pending)
            self.pending = ended
        elif ended.any():
            if self.mode == AutoresetMode.SAME_STEP:
                final = obs.copy()
                final[ended] = np.stack(list(info["final_obs"][ended]))
            else:
                final = obs.copy()
                obs = np.array(self.env.reset(options={"reset_mask": ended})[0])
        ends = torch.as_tensor(terminated), torch.as_tensor(truncated)
        return Step(torch.as_tensor(obs), torch.as_tensor(final), torch.as_tensor(reward), *ends, mask)

    def state(self) -> dict[str, Any] | None:
        """Of every environment made by us (see `Guard.state`); a vector entry point has no way to tell."""
        if not isinstance(self.env, SyncVectorEnv):
            return None
        states = [guard.state() for guard in self.env.envs]  # type: ignore[attr-defined]
        return None if any(s is None for s in states) else {"envs": states, "pending": self.pending}

    def load_state(self, state: dict[str, Any]) -> None:
        if not isinstance(self.env, SyncVectorEnv):
            raise LogpiError("A vector environment's state was not saved: its episodes start again.")
        for guard, found in zip(self.env.envs, state["envs"], strict=True):
            guard.load_state(found)  # type: ignore[attr-defined]
        self.pending = np.array(state["pending"])
        self.env._env_obs = [guard.obs for guard in self.env.envs]  # type: ignore[attr-defined]
        self.env._autoreset_envs = self.pending.copy()

    def close(self) -> None:
        self.env.close()
