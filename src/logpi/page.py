"""What a method page is made of: a frozen record whose types say which values are allowed."""

import dataclasses
import numbers
import sys
import types
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
        return (self.low < x if self.open_low else self.low <= x) and x <= self.high and abs(x) <= sys.float_info.max

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
        _check(name, getattr(record, name), hint)


def _check(name: str, value: Any, hint: Any) -> None:
    options = options_of(hint)
    if any(_fits(value, option) for option in options):
        return
    for kind, x in _items(value, options[0]) or ():  # the one that is wrong, where there are several
        _check(name, x, kind)
    shown = str(value) if isinstance(value, numbers.Number) else repr(value)
    shown = shown if len(shown) <= 80 else shown[:80] + "..."
    raise LogpiError(f"{name} is {shown}: allowed is {allowed(hint)}.")


def allowed(hint: Any) -> str:
    """What a field's type allows, in words."""
    return " or ".join(_allowed(o) for o in options_of(hint) if o is not NONE)


NONE = type(None)
PLAIN = {str: "a text that is not empty", int: "a whole number", float: "a number", bool: "True or False"}


def options_of(hint: Any) -> list[Any]:
    """The alternatives of a type: X | None has two, any other is its own."""
    return [*typing.get_args(hint)] if typing.get_origin(hint) in (typing.Union, types.UnionType) else [hint]


def _fits(value: Any, kind: Any) -> bool:
    """Whether one alternative allows a value; types that no flag has allow everything."""
    origin = typing.get_origin(kind)
    if origin is Annotated:
        base, *more = typing.get_args(kind)
        return _fits(value, base) and all(value in x for x in more if isinstance(x, Between))
    if origin is typing.Literal:
        return any(value == x and type(value) is type(x) for x in typing.get_args(kind))
    if kind in (int, float):
        number = numbers.Integral if kind is int else numbers.Real
        return isinstance(value, number) and not isinstance(value, bool)
    if kind in (str, bool, NONE):
        return isinstance(value, kind) and value != ""
    if origin is tuple:
        items = _items(value, kind)
        return items is not None and all(any(_fits(x, option) for option in options_of(of)) for of, x in items)
    return True


def _items(value: Any, kind: Any) -> list[tuple[Any, Any]] | None:
    """(type, value) of each item, where a tuple is asked for and one of the right length is given."""
    kinds = typing.get_args(kind)
    if typing.get_origin(kind) is not tuple or not isinstance(value, tuple | list):
        return None
    kinds = kinds[:1] * len(value) if kinds[-1:] == (...,) else kinds
    return [*zip(kinds, value, strict=True)] if len(kinds) == len(value) else None


def _allowed(kind: Any) -> str:
    """What one alternative allows."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return " ".join([_allowed(inner[0]), *(str(x) for x in inner[1:] if isinstance(x, Between))])
    if origin is typing.Literal:
        return ", ".join(map(str, inner))
    if origin is tuple:
        return f"a list, each {_allowed(inner[0])}" if inner[-1:] == (...,) else f"a list of {len(inner)}"
    return PLAIN.get(kind, str(kind))


# What a page's field means to the loop, and its value where the page has no such field.
OPTIONS: dict[str, Any] = {
    "envs": 8,  # segments: environments side by side
    "length": 128,  # segments: steps of each in an iteration
    "episodes": 16,  # episodes: of each iteration
    "starts": 4,  # groups: seeded starts of each iteration
    "group": 8,  # groups: episodes from each start
    "refill": False,  # groups of prompts whose rewards are all equal are replaced by others
    "gamma": 1.0,  # of the discounted return by whose std rewards are scaled
    "anneal": False,  # learning rates fall linearly to 0
    "reference": False,  # the batch holds log_ref
    "value_coef": None,  # weight of the critic's error in the surrogate; None or "own": the critic has a fit of its own
    "value_clip": None,  # how far V is paid for moving (joint fit)
    "critic_lr": 1e-3,  # of a critic's own fit, as the next two
    "critic_epochs": 10,
    "critic_minibatches": 4,
    "recompute": False,  # psi anew from V before each pass: the batch keeps what the critic needs for that
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
