"""Environments in tensors, n at once: a task says what happens in a step, `Native` does the rest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from logpi.envs.base import Step, StepArrays
from logpi.errors import EnvironmentFailed

NUMPY = SimpleNamespace(
    **{k: getattr(np, k) for k in ("cos", "sin", "abs", "where", "clip")}, stack=np.array
)  # np.stack is slow


@dataclass(frozen=True)
class Task:
    """States are [size, n], observations [D, n]; xp is torch, or what has its names for numpy arrays."""

    observation_space: spaces.Box
    action_space: spaces.Discrete | spaces.Box
    limit: int  # steps after which an episode is cut off
    low: tuple[float, ...]  # a start is uniform between these, for each number of the state
    high: tuple[float, ...]
    step: Callable[[Any, Any, Any], tuple[Any, Any, Any]]  # (state, action, xp) -> (state, reward [n], terminated [n])
    show: Callable[[Any, Any], Any]  # (state, xp) -> observation


class Native:
    """n environments of a task that reset themselves; on the CPU they step as numpy arrays, whose calls cost a third of torch's."""

    backend = "native"

    def __init__(self, task: Task, n: int, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.task, self.n, self.device, self.dtype = task, n, device, dtype
        self.observation_space, self.action_space = task.observation_space, task.action_space
        self.failures: list[EnvironmentFailed] = []
        self.generator = torch.Generator(device)
        self.low, self.high = (torch.tensor(x, dtype=dtype, device=device)[:, None] for x in (task.low, task.high))
        self.s, self.age = self.starts(n), torch.zeros(n, dtype=torch.long, device=device)

    def starts(self, *shape: int, generator: torch.Generator | None = None) -> Tensor:
        """States to begin from, [..., size, n] for a shape [..., n]."""
        size = (*shape[:-1], len(self.low), shape[-1])
        drawn = torch.empty(size, dtype=self.dtype, device=self.device).uniform_(generator=generator or self.generator)
        return self.low + (self.high - self.low) * drawn

    def reset(self, seeds: Sequence[int] | None = None) -> Tensor:
        if seeds is None:
            self.s = self.starts(self.n)
        else:
            self.generator.manual_seed(seeds[0] ^ 0x5EED)  # not the stream of a start
            made = {seed: torch.Generator(self.device).manual_seed(seed) for seed in seeds}
            starts = {seed: self.starts(1, generator=generator) for seed, generator in made.items()}
            self.s = torch.cat([starts[seed] for seed in seeds], 1)
        self.age = torch.zeros_like(self.age)
        return self.task.show(self.s, torch).T

    def step(self, action: Tensor) -> Step:
        if self.device == "cpu":
            return Step(*map(torch.from_numpy, self._advance(action.numpy(), NUMPY, Tensor.numpy, torch.from_numpy)))
        return Step(*self._advance(action, torch, _same, _same))

    def step_array(self, action: np.ndarray) -> StepArrays:
        return StepArrays(*self._advance(action, NUMPY, Tensor.numpy, torch.from_numpy))

    def _advance(self, action: Any, xp: Any, array: Any, tensor: Any) -> tuple[Any, ...]:
        """(obs, final, reward, terminated, truncated); `array` and `tensor` lead to what xp takes, and back."""
        s, reward, terminated = self.task.step(array(self.s), action, xp)
        age = array(self.age) + 1
        truncated = age >= self.task.limit
        ended, final = terminated | truncated, self.task.show(s, xp).T
        fresh = array(self.starts(self.n))  # whether or not it is needed: the stream goes by steps
        s, age = xp.where(ended, fresh, s), xp.where(ended, 0, age)
        self.s, self.age = tensor(s), tensor(age)
        return self.task.show(s, xp).T, final, reward, terminated, truncated

    def state(self) -> dict[str, Any]:
        return {"s": self.s, "age": self.age, "generator": self.generator.get_state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.s, self.age = state["s"].to(self.s), state["age"].to(self.age)
        self.generator.set_state(state["generator"].cpu())

    def close(self) -> None:
        pass


def _same(x: Tensor) -> Tensor:
    return x


def box(low: Sequence[float], high: Sequence[float]) -> spaces.Box:
    return spaces.Box(np.array(low, np.float32), np.array(high, np.float32))


def direction(action: Any, like: Any, xp: Any) -> Any:
    """-1, 0, 1 for the actions 0, 1, 2 in the type of `like`."""
    one = 0 * like + 1
    return xp.where(action == 2, one, xp.where(action == 0, -one, 0 * one))
