"""The one switch of the fast twins, for functions that have no run to ask: on while a run that has them is at work."""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor

_twins: ContextVar[dict[str, Callable[..., Any]]] = ContextVar("twins", default={})  # noqa: B039 (never written to)


@contextlib.contextmanager
def using(twins: dict[str, Callable[..., Any]]) -> Iterator[None]:
    """These twins stand for their plain functions inside, in this thread."""
    token = _twins.set(twins)
    try:
        yield
    finally:
        _twins.reset(token)


def twin(name: str, *tensors: Tensor) -> Callable[..., Any] | None:
    """The fast function, where the switch is on and the tensors are what kernels take: float32, on the CPU, no graph."""
    found = _twins.get().get(name)
    if found is None or torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        return None
    plain = all(x.dtype == torch.float32 and x.device.type == "cpu" for x in tensors)
    return found if plain else None
