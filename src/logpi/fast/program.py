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

from logpi.batch import Batch
from logpi.fast.ops import BINARY, OPS, UNARY
from logpi.fast.writer import FLAGS, NotCovered, Traced, Writer

ANSWERS = ("log_pi", "entropy", "kl_old", "kl_new", "value")  # what the policy, and V, say now
SCALARS = ("log_pi", "reward", "value", "value_next", "q", "q_next", "log_ref", "psi", "target")


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
