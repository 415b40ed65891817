"""Stand-ins for tensors that write down each elementwise operation made of them: what `program` reads a page's objective with."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from logpi.fast.ops import BINARY, OPS, UNARY

FLAGS = ("terminated", "truncated", "mask", "ended")
COMPARISONS = ("gt", "ge", "lt", "le", "eq")
LARGEST = float(np.finfo(np.float32).max)
OTHER_NAMES = {
    "true_divide": "div",
    "divide": "div",
    "subtract": "sub",
    "multiply": "mul",
    "negative": "neg",
    "absolute": "abs",
    "greater": "gt",
    "less": "lt",
    "__rsub__": "rsub",
    "__rpow__": "rpow",
    "greater_equal": "ge",
    "less_equal": "le",
    "__rtruediv__": "rdiv",
    "truediv": "div",
    "rtruediv": "rdiv",
}
SAME = ("float", "to", "type_as", "contiguous", "clone")  # change nothing here


class NotCovered(Exception):  # noqa: N818
    """The reason why the plain path has to do it."""


class Traced:
    """A value per action that is not known yet. Every operation on it is written down in its `Writer`."""

    def __init__(self, writer: "Writer", node: int) -> None:
        self.writer, self.node = writer, node

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> "Traced":
        own = next(x for x in (*args, *(kwargs or {}).values()) if isinstance(x, cls))
        return own.writer.call(function.__name__, args, kwargs or {})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in ("shape", "ndim", "T", "device"):
            raise NotCovered(f"its objective asks for the {name} of a tensor")
        if name == "dtype":
            return torch.float32
        if name == "where":  # of a tensor the condition comes second
            return lambda condition, other: self.writer.op("where", condition, self, other)
        return lambda *args, **kwargs: self.writer.call(name, (self, *args), kwargs)

    def __bool__(self) -> bool:
        raise NotCovered("its objective decides on the value of a tensor")

    def __getitem__(self, index: Any) -> Any:
        raise NotCovered("its objective takes an index of a tensor")

    def __len__(self) -> int:
        raise NotCovered("its objective asks for the length of a tensor")

    def __iter__(self) -> Any:
        raise NotCovered("its objective loops over a tensor")

    __float__ = __int__ = __bool__
    __hash__ = None  # type: ignore[assignment]


def _operator(name: str) -> Callable[..., Traced]:
    return lambda self, *args: self.writer.call(name, (self, *args), {})


for _name in ("add", "sub", "mul", "truediv", "radd", "rsub", "rmul", "rtruediv", "pow", "rpow", "neg", "abs"):
    setattr(Traced, f"__{_name}__", _operator(_name))
for _name in ("gt", "ge", "lt", "le", "eq", "ne", "and", "or", "rand", "ror", "invert"):
    setattr(Traced, f"__{_name}__", _operator(_name))


class Writer:
    """Collects operations; equal ones are made once."""

    def __init__(self) -> None:
        self.nodes: list[tuple[Any, ...]] = []  # ("answer", name), ("data", name), ("constant", x), (op, a, b, c)
        self.known: dict[tuple[Any, ...], int] = {}
        self.flags: set[int] = set()  # nodes that are true or false

    def node(self, *what: Any) -> Traced:
        if what not in self.known:
            self.known[what] = len(self.nodes)
            self.nodes.append(what)
        return Traced(self, self.known[what])

    def value(self, x: Any) -> Traced:
        if isinstance(x, Traced):
            return x
        if isinstance(x, torch.Tensor):
            if x.numel() != 1:
                raise NotCovered("its objective holds a tensor of its own")
            x = x.item()
        if isinstance(x, bool | int | float):
            if not abs(x) <= LARGEST:
                raise NotCovered("its objective holds a number that is infinite in float32")
            return self.node("constant", float(x))
        raise NotCovered(f"its objective uses a {type(x).__name__}")

    def op(self, name: str, *args: Any) -> Traced:
        nodes = [self.value(x).node for x in args]
        made = self.node(OPS[name], *nodes, *[0] * (3 - len(nodes)))
        if name in COMPARISONS:
            self.flags.add(made.node)
        return made if torch.is_grad_enabled() or name == "detach" else self.op("detach", made)

    def logic(self, name: str, *args: Any) -> Traced:
        """An operation on what is true or false, as one on 1 and 0."""
        given = [self.value(x) for x in args]
        if not all(
            x.node in self.flags or (self.nodes[x.node][0] == "data" and self.nodes[x.node][1] in FLAGS) for x in given
        ):
            raise NotCovered("its objective takes numbers for true or false")
        made = self.op(name, *((1.0, *given) if name == "sub" else given))
        self.flags.add(made.node)
        return made

    def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Traced:
        """A torch function or method by its name; one that ends in _ writes in place, which a program cannot."""
        if name.endswith("_") and not name.startswith("__"):
            raise NotCovered(f"its objective writes in place ({name})")
        name = OTHER_NAMES.get(name, name)
        name = OTHER_NAMES.get(name.strip("_"), name.strip("_")) if name.startswith("__") else name
        if name in DERIVED:
            return DERIVED[name](self, *args, **kwargs)
        if name in SAME:
            if any(not isinstance(x, Traced) and x is not torch.float32 for x in (*args[1:], *kwargs.values())):
                raise NotCovered(f"its objective calls {name}")
            return self.value(args[0])
        wanted = 1 if name in UNARY else 2 if name in BINARY else 3 if name == "where" else 0
        if kwargs or not wanted or len(args) != wanted:
            raise NotCovered(f"its objective calls {name}")
        return self.op(name, *args)


def _clamp(w: Writer, x: Any, min: Any = None, max: Any = None) -> Traced:
    """At a bound torch's clamp passes the gradient whole, where a minimum would halve it."""
    x = w.value(x)
    if min is not None:
        x = w.op("where", w.op("lt", x, min), min, x)
    return x if max is None else w.op("where", w.op("gt", x, max), max, x)


def _pow(w: Writer, x: Any, exponent: Any) -> Traced:
    if not isinstance(x, Traced) or isinstance(exponent, Traced):
        raise NotCovered("its objective raises to the power of a tensor")
    if exponent == 2:
        return w.op("square", x)
    if exponent in (0.5, 1, -1):
        return {0.5: lambda: w.op("sqrt", x), 1: lambda: w.value(x), -1: lambda: w.op("div", 1.0, x)}[exponent]()
    raise NotCovered(f"its objective raises a tensor to the power {exponent}")


DERIVED: dict[str, Callable[..., Traced]] = {
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": lambda w, x, min: _clamp(w, x, min=min),
    "clamp_max": lambda w, x, max: _clamp(w, x, max=max),
    "pow": _pow,
    "radd": lambda w, x, y: w.op("add", x, y),
    "rmul": lambda w, x, y: w.op("mul", x, y),
    "rsub": lambda w, x, y: w.op("sub", y, x),
    "rdiv": lambda w, x, y: w.op("div", y, x),
    "min": lambda w, x, y: w.op("minimum", x, y),
    "max": lambda w, x, y: w.op("maximum", x, y),
    "relu": lambda w, x: w.op("where", w.op("gt", x, 0.0), x, 0.0),
    "rsqrt": lambda w, x: w.op("div", 1.0, w.op("sqrt", x)),
    "reciprocal": lambda w, x: w.op("div", 1.0, x),
    "logsigmoid": lambda w, x: w.op("log", w.op("sigmoid", x)),
    "zeros_like": lambda w, x, **_: w.value(0.0),
    "ones_like": lambda w, x, **_: w.value(1.0),
    "full_like": lambda w, x, fill_value, **_: w.value(fill_value),
    "and": lambda w, x, y: w.logic("mul", x, y),
    "rand": lambda w, x, y: w.logic("mul", x, y),
    "logical_and": lambda w, x, y: w.logic("mul", x, y),
    "or": lambda w, x, y: w.logic("maximum", x, y),
    "ror": lambda w, x, y: w.logic("maximum", x, y),
    "logical_or": lambda w, x, y: w.logic("maximum", x, y),
    "invert": lambda w, x: w.logic("sub", x),
    "logical_not": lambda w, x: w.logic("sub", x),
    "ne": lambda w, x, y: w.logic("sub", w.op("eq", x, y)),
    "masked_fill": lambda w, x, mask, value: w.op("where", mask, value, x),
}
