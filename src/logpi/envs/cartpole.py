"""CartPole-v1 (Barto, Sutton & Anderson 1983) in tensors: n of them at once, the dynamics of Gymnasium's."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from logpi.envs.base import Step
from logpi.errors import EnvironmentFailed

GRAVITY, MASS_POLE, MASS_TOTAL, HALF_LENGTH, FORCE, TAU = 9.8, 0.1, 1.1, 0.5, 10.0, 0.02
X_LIMIT, THETA_LIMIT, STEP_LIMIT = 2.4, 12 * 2 * math.pi / 360, 500


def dynamics(state: Any, force: Any, xp: Any = torch) -> Any:
    """[4, n] of x, x', theta, theta' and the force [n] -> the state tau later (Euler). xp: torch or numpy."""
    _, speed, theta, omega = state
    cos, sin = xp.cos(theta), xp.sin(theta)
    temp = (force + MASS_POLE * HALF_LENGTH * (omega * omega) * sin) / MASS_TOTAL
    alpha = (GRAVITY * sin - cos * temp) / (HALF_LENGTH * (4.0 / 3.0 - MASS_POLE / MASS_TOTAL * (cos * cos)))
    acc = temp - MASS_POLE * HALF_LENGTH / MASS_TOTAL * alpha * cos
    return state + TAU * xp.stack((speed, acc, omega, alpha))


def _same(x: Tensor) -> Tensor:
    return x


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
        self.failures: list[EnvironmentFailed] = []
        self.generator = torch.Generator(device)
        self.s, self.age = self._fresh(), torch.zeros(n, dtype=torch.long, device=device)
        self.ones = torch.ones(n, dtype=dtype, device=device)
        self.forces = torch.tensor([-FORCE, FORCE], dtype=dtype, device=device)

    def _fresh(self, generator: torch.Generator | None = None, n: int | None = None) -> Tensor:
        start = torch.empty(4, n or self.n, dtype=self.dtype, device=self.device)
        return start.uniform_(-0.05, 0.05, generator=generator or self.generator)

    def reset(self, seeds: Sequence[int] | None = None) -> Tensor:
        if seeds is None:
            self.s = self._fresh()
        else:
            self.generator.manual_seed(seeds[0] ^ 0x5EED)  # not the stream of a start
            starts = {seed: self._fresh(torch.Generator(self.device).manual_seed(seed), 1) for seed in seeds}
            self.s = torch.cat([starts[seed] for seed in seeds], 1)
        self.age = torch.zeros_like(self.age)
        return self.s.T

    def step(self, action: Tensor) -> Step:
        """On the CPU with numpy, in the tensors' memory: for a few environments its calls cost a third of torch's."""
        array: Any
        tensor: Any
        xp, array, tensor = (np, Tensor.numpy, torch.from_numpy) if self.device == "cpu" else (torch, _same, _same)
        s = dynamics(array(self.s), array(self.forces)[array(action)], xp)
        age = array(self.age) + 1
        terminated = (xp.abs(s[0]) > X_LIMIT) | (xp.abs(s[2]) > THETA_LIMIT)
        truncated = age >= STEP_LIMIT
        ended = terminated | truncated
        self.s = tensor(xp.where(ended, array(self._fresh()), s))
        self.age = tensor(xp.where(ended, 0, age))
        return Step(self.s.T, tensor(s).T, self.ones, tensor(terminated), tensor(truncated))

    def state(self) -> dict[str, Any]:
        return {"s": self.s, "age": self.age, "generator": self.generator.get_state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.s, self.age = state["s"].to(self.s), state["age"].to(self.age)
        self.generator.set_state(state["generator"].cpu())

    def close(self) -> None:
        pass
