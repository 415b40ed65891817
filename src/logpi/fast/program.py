"""A page's objective, read once without numbers: the elementwise operations it makes of what it asks for.

`objective(now, b, state)` is called with stand-ins that write down each operation. What comes out is a program that
`tape` evaluates and differentiates for a block of rows; whatever is not elementwise in our actions is refused here, and
the plain path takes over.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from logpi.batch import Batch
from logpi.fast.ops import BINARY, OPS, UNARY

ANSWERS = ("log_pi", "entropy", "kl_old", "kl_new", "value")  # what the policy, and V, say now
SCALARS = ("log_pi", "reward", "value", "value_next", "q", "q_next", "log_ref", "psi", "target")
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


@dataclass(frozen=True)
class Program:
    """Operations [(op, a, b, c)] on registers: ANSWERS first, then `data` fields, then `constants`, then results."""

    data: tuple[str, ...]
    constants: np.ndarray  # [C] float32
    tape: np.ndarray  # [ops, 4] int32; the last result is the objective
    live: np.ndarray  # [registers] bool: depends on an answer
    asked: frozenset[str]  # which answers it depends on

    @property
    def first(self) -> int:
        """The register of the first result."""
        return len(ANSWERS) + len(self.data) + len(self.constants)


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


class NowAsked:
    """Stands for `now`."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def __getattr__(self, name: str) -> Traced:
        if name not in ANSWERS:
            raise NotCovered(f"its objective asks for now.{name}")
        return self._writer.node("answer", name)


class BatchAsked:
    """Stands for `b`: its numbers per action; what the batch does not have is None here, too."""

    def __init__(self, writer: Writer, batch: Batch) -> None:
        self._writer, self._batch = writer, batch

    def __getattr__(self, name: str) -> Any:
        if name not in (*SCALARS, *FLAGS):
            raise NotCovered(f"its objective asks for b.{name}")
        return None if getattr(self._batch, name) is None else self._writer.node("data", name)


class Reads(dict[str, Any]):
    """A state that remembers what was asked of it: as long as those answers stay, so does the program."""

    def __init__(self, state: dict[str, Any]) -> None:
        super().__init__(state)
        self.asked: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        self.asked[name] = super().get(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.asked[name] = super().get(name)
        return super().get(name, default)

    def __contains__(self, name: object) -> bool:
        self.asked[str(name)] = super().get(str(name))
        return super().__contains__(name)

    def keys(self) -> Any:
        self.asked |= self
        return super().keys()

    def __iter__(self) -> Any:
        self.asked |= self
        return super().__iter__()

    def still(self, state: dict[str, Any]) -> bool:
        """Would it answer the same?"""
        return all(type(x) in (int, float, bool, str, type(None)) and state.get(k) == x for k, x in self.asked.items())


def written(gain: Callable[[Any, Any], Any], batch: Batch) -> Program:
    """The program of gain(now, b), or NotCovered."""
    writer = Writer()
    try:
        result = writer.value(gain(NowAsked(writer), BatchAsked(writer, batch)))
    except (TypeError, AttributeError, RuntimeError, ValueError, ArithmeticError, AssertionError, LookupError) as wrong:
        raise NotCovered(f"its objective does what cannot be followed ({' '.join(str(wrong).split())[:80]})") from wrong
    return assemble(writer, result.node)


def assemble(writer: Writer, result: int) -> Program:
    """Only what the result needs, in registers; an answer, number or constant by itself becomes an operation."""
    needed, waiting = set[int](), [result]
    while waiting:
        if (at := waiting.pop()) not in needed:
            needed.add(at)
            what = writer.nodes[at]
            waiting += what[1 : 1 + arity(what)]
    inside = [(i, writer.nodes[i]) for i in sorted(needed)]
    data = tuple(what[1] for _, what in inside if what[0] == "data")
    constants = [what[1] for _, what in inside if what[0] == "constant"]
    place = {("answer", name): i for i, name in enumerate(ANSWERS)}
    place |= {("data", name): len(ANSWERS) + i for i, name in enumerate(data)}
    place |= {("constant", x): len(ANSWERS) + len(data) + i for i, x in enumerate(constants)}
    first = len(place)
    where = {i: place[what] for i, what in inside if what in place}
    live = np.zeros(first + len(inside) + 1, bool)
    live[: len(ANSWERS)] = True
    tape: list[tuple[int, int, int, int]] = []
    for i, what in inside:
        if i in where:
            continue
        args = [where[x] for x in what[1 : 1 + arity(what)]]
        where[i] = first + len(tape)
        live[where[i]] = what[0] != OPS["detach"] and any(live[x] for x in args[what[0] == OPS["where"] :])
        tape.append((what[0], *args, *[0] * (3 - len(args))))
    if not tape or where[result] != first + len(tape) - 1:
        live[first + len(tape)] = live[where[result]]
        tape.append((OPS["same"], where[result], 0, 0))
    asked = frozenset(what[1] for _, what in inside if what[0] == "answer")
    if any(not math.isfinite(x) for x in constants):
        raise NotCovered("its objective holds an infinite number")
    return Program(data, np.array(constants, np.float32), np.array(tape, np.int32), live[: first + len(tape)], asked)


def arity(what: tuple[Any, ...]) -> int:
    """How many nodes an operation reads; 0 for an answer, a number or a constant."""
    if not isinstance(what[0], int):
        return 0
    return 1 if what[0] < len(UNARY) else 2 if what[0] < len(UNARY) + len(BINARY) else 3
