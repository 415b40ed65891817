"""What a method page is made of: a frozen record whose types say which values are allowed."""

import dataclasses
import numbers
import typing
from dataclasses import dataclass
from typing import Annotated, Any

from logpi.errors import LogpiError


@dataclass(frozen=True)
class Between:
    """A number from `low` to `high`; `open_low` leaves `low` itself out. NaN is never inside."""

    low: float
    high: float = float("inf")
    open_low: bool = False

    def __contains__(self, x: float) -> bool:
        return (self.low < x if self.open_low else self.low <= x) and x <= self.high and abs(x) != float("inf")

    def __str__(self) -> str:
        if self.low == -float("inf"):
            return "that is finite"
        if self.high != float("inf"):
            return f"from {self.low:g} to {self.high:g}"
        return f"greater than {self.low:g}" if self.open_low else f"{self.low:g} or more"


Fraction = Annotated[float, Between(0, 1)]
Positive = Annotated[float, Between(0, open_low=True)]
NonNegative = Annotated[float, Between(0)]
Finite = Annotated[float, Between(-float("inf"))]
Count = Annotated[int, Between(1)]
Several = Annotated[int, Between(2)]


def check(record: Any) -> None:
    """Raise for the first field whose value its type does not allow."""
    for name, hint in typing.get_type_hints(type(record), include_extras=True).items():
        value, origin = getattr(record, name), typing.get_origin(hint)
        if origin is typing.Literal and value not in typing.get_args(hint):
            raise LogpiError(f"{name} is {value!r}: allowed is {', '.join(map(str, typing.get_args(hint)))}.")
        options = [hint] if origin is Annotated else typing.get_args(hint)
        if value is None and type(None) in options:
            continue
        if hint is bool and not isinstance(value, bool):
            raise LogpiError(f"{name} is {value!r}: allowed is True or False.")
        if origin is tuple and not isinstance(value, tuple | list):
            raise LogpiError(f"{name} is {value!r}: allowed is a list of numbers.")
        for option in options:
            if typing.get_origin(option) is Annotated:
                for x in value if origin is tuple else [value]:
                    _check_one(name, x, *typing.get_args(option)[:2])


def _check_one(name: str, value: Any, kind: type, allowed: Any) -> None:
    number = isinstance(value, numbers.Integral) or (kind is float and isinstance(value, numbers.Real))
    if isinstance(allowed, Between) and (isinstance(value, bool) or not number or value not in allowed):
        noun = "a whole number" if kind is int else "a number"
        raise LogpiError(f"{name} is {value}: allowed is {noun} {allowed}.")


# What a page's field means to the loop, and its value where the page has no such field.
OPTIONS: dict[str, Any] = {
    "envs": 8,  # segments: environments side by side
    "length": 128,  # segments: steps of each in an iteration
    "episodes": 16,  # episodes: of each iteration
    "starts": 4,  # groups: seeded starts of each iteration
    "group": 8,  # groups: episodes from each start
    "gamma": 1.0,  # of the discounted return by whose std rewards are scaled
    "anneal": False,  # learning rates fall linearly to 0
    "reference": False,  # the batch holds log_ref
    "value_coef": None,  # weight of the critic's error in the surrogate; None: the critic has a fit of its own
    "value_clip": None,  # how far V is paid for moving (joint fit)
    "critic_lr": 1e-3,  # of a critic's own fit, as the next two
    "critic_epochs": 10,
    "critic_minibatches": 4,
    "clip": None,  # how far from 1 a ratio counts in the metric clip_fraction; None: 0.2
    "clip_low": None,  # the same below 1
    "clip_high": None,  # the same above 1
}


def option(method: Any, name: str) -> Any:
    """A page's field, or what stands for it where the page has none."""
    return getattr(method, name, OPTIONS[name])


T = typing.TypeVar("T")


@typing.dataclass_transform(frozen_default=True)
def page(cls: type[T]) -> type[T]:
    """A frozen dataclass that refuses impossible values at construction. Pages inherit from nothing."""
    cls.__post_init__ = check  # type: ignore[attr-defined]
    return dataclasses.dataclass(frozen=True)(cls)
