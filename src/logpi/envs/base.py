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

    def tensors(self) -> Step:
        """Copies, each with memory of its own."""
        return Step(*(None if x is None else torch.from_numpy(np.array(x)) for x in self))  # type: ignore[arg-type]


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
class InGroups(InArrays, Protocol):
    """Environments of which one group steps while the caller decides for another.

    `step_array` is `send` to every group, then `receive` from every group. How n is cut depends on n alone.
    """

    groups: list[slice]  # of the environments: contiguous, all of them, in order

    def send(self, group: int, action: np.ndarray) -> None:
        """Let the group step, action [rows of the group, *action], and come back at once; `receive` it before the next
        `send`, and every group before any other call."""
        ...

    def receive(self, group: int) -> StepArrays:
        """What the step gave, [rows of the group, ...]: of `obs`, valid until the group's next `receive`; of the rest,
        until its next `send`."""
        ...
