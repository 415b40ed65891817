"""CartPole-v1 (Barto, Sutton & Anderson 1983) in tensors: n of them at once, the dynamics of Gymnasium's."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from logpi.envs.base import Step

GRAVITY, MASS_POLE, MASS_TOTAL, HALF_LENGTH, FORCE, TAU = 9.8, 0.1, 1.1, 0.5, 10.0, 0.02
POLE = MASS_POLE * HALF_LENGTH
X_LIMIT, THETA_LIMIT, STEP_LIMIT = 2.4, 12 * 2 * math.pi / 360, 500


def dynamics(state: Tensor, action: Tensor) -> Tensor:
    """[4, n] of x, x', theta, theta' and [n] of 0 (left) or 1 (right) -> the state tau later (Euler).

    temp = (force + m l theta'^2 sin) / M, theta'' = (g sin - cos temp) / (l (4/3 - m cos^2 / M)),
    x'' = temp - m l theta'' cos / M; products are fused, since for a few environments each call costs more than its work.
    """
    _, speed, theta, omega = state.unbind()
    cos, sin = theta.cos(), theta.sin()
    push = action.to(state.dtype).sub_(0.5).mul_(2 * FORCE / MASS_TOTAL)
    temp = push.addcmul_(omega.square(), sin, value=POLE / MASS_TOTAL)
    inertia = cos.square().mul_(-HALF_LENGTH * MASS_POLE / MASS_TOTAL).add_(HALF_LENGTH * 4.0 / 3.0)
    alpha = (sin * GRAVITY).addcmul_(cos, temp, value=-1).div_(inertia)
    acc = torch.addcmul(temp, alpha, cos, value=-POLE / MASS_TOTAL)
    return torch.add(state, torch.stack((speed, acc, omega, alpha)), alpha=TAU)


class CartPole:
    """Reward 1 a step; ends when the pole falls or the cart leaves (terminated), or after 500 steps (truncated)."""

    backend = "native"
    observation_space = spaces.Box(
        -np.array([2 * X_LIMIT, np.inf, 2 * THETA_LIMIT, np.inf], np.float32),
        np.array([2 * X_LIMIT, np.inf, 2 * THETA_LIMIT, np.inf], np.float32),
    )
    action_space = spaces.Discrete(2)

    def __init__(self, n: int, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.n, self.device, self.dtype = n, device, dtype
        self.generator = torch.Generator(device)
        self.s, self.age = self._fresh(), torch.zeros(n, dtype=torch.long, device=device)
        self.ones = torch.ones(n, dtype=dtype, device=device)
        self.limits = torch.tensor([[X_LIMIT], [THETA_LIMIT]], dtype=dtype, device=device)

    def _fresh(self, generator: torch.Generator | None = None, n: int | None = None) -> Tensor:
        start = torch.empty(4, n or self.n, dtype=self.dtype, device=self.device)
        return start.uniform_(-0.05, 0.05, generator=generator or self.generator)

    def reset(self, seeds: Sequence[int] | None = None) -> Tensor:
        if seeds is None:
            self.s = self._fresh()
        else:
            self.generator.manual_seed(seeds[0])
            starts = {seed: self._fresh(torch.Generator(self.device).manual_seed(seed), 1) for seed in seeds}
            self.s = torch.cat([starts[seed] for seed in seeds], 1)
        self.age = torch.zeros_like(self.age)
        return self.s.T

    def step(self, action: Tensor) -> Step:
        s, age = dynamics(self.s, action), self.age + 1
        terminated = (s[::2].abs() > self.limits).any(0)
        truncated = age >= STEP_LIMIT
        ended = terminated | truncated
        self.s, self.age = torch.where(ended, self._fresh(), s), age.masked_fill(ended, 0)
        return Step(self.s.T, s.T, self.ones, terminated, truncated)

    def state(self) -> dict[str, Any]:
        return {"s": self.s, "age": self.age, "generator": self.generator.get_state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.s, self.age = state["s"].to(self.s), state["age"].to(self.age)
        self.generator.set_state(state["generator"].cpu())

    def close(self) -> None:
        pass
