"""Code of a user's whose runs are not well: pages that forget the mask, dull environments, a network with dropout."""

import os
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from logpi import average, objective, psi
from logpi.page import Count, Positive, page
from logpi.step.gradient import ascend


@page
class Whole:
    """Nothing is wrong with this one."""

    episodes: Count = 6
    lr: Positive = 3e-3

    rows, critic = "episodes", None

    def psi(self, b, state):
        return psi.standardise(psi.reward_to_go(b.reward, b.ended), b.mask), None

    def objective(self, now, b, state):
        return objective.score(now.log_pi, b.psi)

    def average(self, mask):
        return average.weights("per_episode", mask)

    def step(self, surrogate, kl, rows, optimizer):
        return ascend(surrogate, rows, optimizer)


@page
class InPsi(Whole):
    def psi(self, b, state):
        credit = psi.reward_to_go(b.reward, b.ended)
        return (credit - credit.mean()) / credit.std(), None


@page
class InObjective(Whole):
    def objective(self, now, b, state):
        return objective.score(now.log_pi, b.psi * b.reward.sum(-1, keepdim=True))


@page
class InAverage(Whole):
    def average(self, mask):
        return torch.full(mask.shape, 1.0 / mask.numel())


@page
class NoCredit(Whole):
    def psi(self, b, state):
        return torch.zeros_like(b.reward), None


class Dull(gym.Env):
    """Ten steps of noise, each worth the same, in units that the process says."""

    observation_space, action_space = gym.spaces.Box(-1e6, 1e6, (4,), np.float32), gym.spaces.Discrete(2)
    reward, own = 1.0, False

    def seen(self) -> np.ndarray:
        generator = np.random.default_rng() if self.own else self.np_random
        return (float(os.environ.get("UNITS", "1")) * generator.normal(size=4)).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.age = 0
        return self.seen(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.age += 1
        return self.seen(), self.reward, False, self.age == 10, {}


class Zero(Dull):
    reward = 0.0


class Nan(Dull):
    reward = float("nan")


class Random(Dull):
    own = True


def dropout(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 16), nn.Tanh(), nn.Dropout(0.2), nn.Linear(16, outputs))
