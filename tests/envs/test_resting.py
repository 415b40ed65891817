"""Whole episodes: an environment whose episode is over stands still until the longest has ended."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from logpi import envs
from logpi.batch import Batch
from logpi.envs.base import Resting
from logpi.methods import Reinforce
from logpi.run.evaluate import evaluate
from logpi.run.setup import Settings, assemble


class Lengths(gym.Env):
    """Ends after as many steps as its generator says; shows its age, and every step it ever took."""

    observation_space, action_space = spaces.Box(0, 1e6, (2,), np.float32), spaces.Discrete(2)
    total = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.age, self.length = 0, int(self.np_random.integers(1, 90))
        return self._now(), {}

    def _now(self) -> np.ndarray:
        return np.array([self.age, self.total], np.float32)

    def step(self, action: Any) -> Any:
        self.age, self.total = self.age + 1, self.total + 1
        return self._now(), 1.0, self.age == self.length, False, {}


def collected(backend: Any, fast: Any) -> list[Batch]:
    settings = Settings(env="custom", backend=backend, fast=fast, normalise_reward=False, seed=3)
    parts = assemble(Reinforce(episodes=6), settings, Lengths)
    batches = [parts.collect(parts.policy, parts.critic) for _ in range(3)]
    parts.collect.envs.close()
    return batches


@pytest.mark.parametrize("fast", ["off", "auto"])
@pytest.mark.parametrize("backend", ["sync", "async"])
def test_who_has_ended_takes_no_more_steps(backend: str, fast: str) -> None:
    batches, taken = collected(backend, fast), torch.zeros(6)
    for b in batches:
        assert torch.equal(b.obs[:, 0, 1], taken)
        taken = taken + b.mask.sum(1)
    assert len(taken.unique()) > 3, "of different lengths"
    for b, same in zip(batches, collected("sync", "off"), strict=True):
        assert torch.equal(b.obs, same.obs) and torch.equal(b.mask, same.mask) and torch.equal(b.reward, same.reward)


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_an_evaluation_lets_them_rest_and_a_reset_wakes_them(backend: Any) -> None:
    policy = assemble(Reinforce(), Settings(env="custom"), Lengths).policy
    found = evaluate(policy, Lengths, 5)
    assert found.returns == found.lengths and len({*found.lengths}) > 2
    made = envs.make(Lengths, 2, backend, workers=1 if backend == "async" else None)
    assert isinstance(made, Resting)
    made.reset([1, 2])
    made.rest(np.array([True, False]))
    steps = [made.step(torch.zeros(2, dtype=torch.long)) for _ in range(2)]
    assert [x.obs[:, 1].tolist() for x in steps] == [[0, 1], [0, 2]] and steps[1].reward.tolist() == [0, 1]
    made.reset([1, 2])
    assert made.step(torch.zeros(2, dtype=torch.long)).obs[:, 0].tolist() == [1, 1]
    made.close()
