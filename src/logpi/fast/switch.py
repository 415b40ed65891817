"""The one switch of the fast twins of plain functions: on in a run that has them, while it is at work, in its thread."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar, cast

import torch

F = TypeVar("F", bound=Callable[..., Any])
Twins = dict[str, Callable[..., Any]]
_twins: ContextVar[Twins | None] = ContextVar("twins", default=None)


@contextlib.contextmanager
def using(twins: Twins | None) -> Iterator[None]:
    """These twins, by name, stand for their plain functions inside; none where there are none."""
    token = _twins.set(twins)
    try:
        yield
    finally:
        _twins.reset(token)


def twinned(*types: torch.dtype) -> Callable[[F], F]:
    """A function of tensors that has a twin of its name: used where the switch is on and the tensors are for kernels.

    That is of these `types`, on the CPU, without a graph.
    """

    def decorate(plain: F) -> F:
        @functools.wraps(plain)
        def either(*args: Any, **kwargs: Any) -> Any:
            twins = _twins.get()
            if twins is None or kwargs or not taken([*args], types):
                return plain(*args, **kwargs)
            return twins[plain.__name__](*args)

        return cast(F, either)

    return decorate


def fusable(plain: F) -> F:
    """A step of a surrogate, its first argument, that the run's fused twins do where they cover it: see `fast.fused`."""

    @functools.wraps(plain)
    def either(surrogate: Any, *args: Any, **kwargs: Any) -> Any:
        fused = getattr(surrogate, "fused", None)
        found = None if fused is None else getattr(fused, plain.__name__)(surrogate, *args, **kwargs)
        return plain(surrogate, *args, **kwargs) if found is None else found

    return cast(F, either)


def taken(x: Any, types: tuple[torch.dtype, ...]) -> bool:
    if isinstance(x, list):
        return all(taken(one, types) for one in x)
    if not isinstance(x, torch.Tensor):
        return True
    return x.dtype in types and x.is_cpu and x.dim() > 0 and not (x.requires_grad and torch.is_grad_enabled())
