"""The contract of a batch of environments, and the record of one step of it: as tensors, or as numpy arrays."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from logpi.errors import EnvironmentFailed


class Step(NamedTuple):
    """What one step of n environments gave."""

    obs: Tensor  # [n, *obs]  to act on next: after a reset where the episode ended
    final: Tensor  # [n, *obs]  before any reset: s_{t+1} itself
    reward: Tensor  # [n]
    terminated: Tensor  # [n] bool
    truncated: Tensor  # [n] bool
    mask: Tensor | None = None  # [n] bool  False: a dummy step, the action was not taken; None: all were
    broken: Tensor | None = None  # [n] bool  True: it failed in this step; obs starts an episode, final was seen last
    going: Tensor | None = None  # [n] bool  True: it ended, but not the game that is counted: a life was lost


class StepArrays(NamedTuple):
    """The same as numpy arrays, which may be written again in the next step: copy what is to stay.

    `final` is the very array `obs` where no episode ended.
    """

    obs: np.ndarray
    final: np.ndarray
    reward: np.ndarray  # [n] float
    terminated: np.ndarray
    truncated: np.ndarray
    mask: np.ndarray | None = None
    broken: np.ndarray | None = None
    going: np.ndarray | None = None

    def tensors(self) -> Step:
        """Copies, each with memory of its own."""
        return Step(*(None if x is None else torch.from_numpy(np.array(x)) for x in self))  # type: ignore[arg-type]


def joined(parts: Sequence[tuple[np.ndarray, StepArrays]]) -> StepArrays:
    """One step of all environments, from which ones each part is of."""
    order = np.concatenate([rows for rows, _ in parts]).argsort()
    names = StepArrays._fields[: 5 if all(x.broken is None for _, x in parts) else 7]
    missing = {"mask": np.ones, "broken": np.zeros}  # where nothing broke
    every = [
        [missing[name](len(x.reward), bool) if getattr(x, name) is None else getattr(x, name) for _, x in parts]
        for name in names
    ]
    return StepArrays(*(np.concatenate(x)[order] for x in every))


class Environments(Protocol):
    """n environments that reset themselves when an episode ends."""

    n: int
    backend: str
    observation_space: spaces.Space  # of one environment
    action_space: spaces.Space
    failures: list[EnvironmentFailed]  # that were made good since the caller last emptied it

    def reset(self, seeds: Sequence[int] | None = None) -> Tensor:
        """Start every environment afresh; equal seeds give equal starts. None: go on drawing starts."""
        ...

    def step(self, action: Tensor) -> Step: ...

    def state(self) -> dict[str, Any] | None:
        """All that is needed to go on from here bit for bit; None: an episode must be started again."""
        ...

    def load_state(self, state: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


@runtime_checkable
class InArrays(Protocol):
    """Environments that also step without a tensor, for a rollout with storage of its own: all but the native ones."""

    def step_array(self, action: np.ndarray) -> StepArrays:
        """action [n, *action], in the action space's own form and of a type that can be cast to its."""
        ...


@runtime_checkable
class Resting(Protocol):
    """Environments that need not all step: of whole episodes, the shorter ones wait for the longest."""

    def rest(self, rows: np.ndarray) -> None:
        """rows [n] bool: these stay where they are until the next reset. What a step gives of them means nothing."""
        ...


@runtime_checkable
class SendReceive(InArrays, Protocol):
    """Environments of which some step while the caller decides for others, whoever is done first.

    `step_array` is `send` to all, then `receive` until all have come.
    """

    def send(self, rows: np.ndarray, action: np.ndarray) -> None:
        """Let these environments step, action [len(rows), *action], and come back at once.

        rows: every environment, or what `receive` gave. They are received before they are sent again, and all of them before
        any other call.
        """
        ...

    def receive(self) -> tuple[np.ndarray, StepArrays]:
        """Wait until at least one environment that was sent has stepped: (which ones have, what their steps gave), the
        latter the caller's own."""
        ...
