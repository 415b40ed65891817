"""The contract of a batch of environments, and the record of one step of it."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

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
