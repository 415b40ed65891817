"""Environments that step as tensors on a device, of the user's own: a simulator that never leaves its GPU.

A constructor says that it makes such ones, `tensors = True`; it is called with n, device and dtype:

    class Sim:
        tensors = True
        def __init__(self, n, device, dtype): ...       # n environments; observation_space and action_space, of one of them
        def reset(self, seeds=None): ...                # -> obs [n, *obs]
        def step(self, action): ...                     # [n, *action] -> obs, final, reward, terminated, truncated

Observations are vectors or pictures. An action has the form of its space, that of a Dict or Tuple is one vector [n, numbers], part
after part. An environment that ended has begun again in `obs`; `final` is what it showed before that, for the value of a state that
was only cut off. `state()` and `load_state(state)` are what a resumed run goes on from, where there are any.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from logpi.envs.base import Step
from logpi.errors import EnvironmentFailed, LogpiError
from logpi.layout import Seen

NEEDED = ("observation_space", "action_space", "reset", "step")


class Tensors:
    """What the constructor made, its answers checked: shapes and flags in every step, which costs no wait for the device."""

    backend = "tensors"

    def __init__(self, construct: Callable[..., Any], n: int, device: str, dtype: torch.dtype) -> None:
        self.made, self.n, self.device = construct(n=n, device=device, dtype=dtype), n, device
        self.name = type(self.made).__name__
        if missing := [name for name in NEEDED if not hasattr(self.made, name)]:
            raise LogpiError(f"{self.name} has no {missing[0]}: environments in tensors need {', '.join(NEEDED)}.")
        self.observation_space, self.action_space = self.made.observation_space, self.made.action_space
        if not Seen(self.observation_space).plain:
            raise LogpiError(
                f"{self.name} shows {self.observation_space}: environments in tensors show a Box of one axis, or a picture."
            )
        self.failures: list[EnvironmentFailed] = []

    def reset(self, seeds: Sequence[int] | None = None) -> Tensor:
        return self._checked("obs of reset", self.made.reset(seeds), tuple(self.observation_space.shape or ()))

    def step(self, action: Tensor) -> Step:
        given = self.made.step(action)
        if not isinstance(given, tuple) or len(given) != 5:
            found = f"{len(given)} values" if isinstance(given, tuple) else f"a {type(given).__name__}"
            raise LogpiError(f"{self.name}.step gave {found}: expected is (obs, final, reward, terminated, truncated).")
        obs, final, reward, terminated, truncated = given
        shape = tuple(self.observation_space.shape or ())
        return Step(
            self._checked("obs", obs, shape),
            self._checked("final", final, shape),
            self._checked("reward", reward, ()),
            self._checked("terminated", terminated, (), torch.bool),
            self._checked("truncated", truncated, (), torch.bool),
        )

    def _checked(self, what: str, x: Any, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
        wanted = (self.n, *shape)
        if not isinstance(x, Tensor) or tuple(x.shape) != wanted or (dtype is not None and x.dtype != dtype):
            found = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
            raise LogpiError(f"{self.name} gave {what} as {found}: expected is a tensor {dtype or ''} {wanted}.")
        if x.device.type != torch.device(self.device).type:
            raise LogpiError(f"{self.name} gave {what} on {x.device}: the run is on --device {self.device}.")
        return x

    def state(self) -> dict[str, Any] | None:
        return self.made.state() if hasattr(self.made, "state") else None

    def load_state(self, state: dict[str, Any]) -> None:
        self.made.load_state(state)

    def close(self) -> None:
        if hasattr(self.made, "close"):
            self.made.close()
