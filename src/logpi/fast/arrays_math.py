"""Heads and programs in NumPy, forward and back. The rows of a batch are the last axis everywhere."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from logpi.fast.program import ANSWERS, OPS, Program, arity

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
LOWEST = np.finfo(np.float32).min


def log_softmax(x: np.ndarray) -> np.ndarray:
    """Of logits [A, n]."""
    y = x - x.max(0)
    return y - np.log(np.exp(y).sum(0))


def expected(p: np.ndarray, x: np.ndarray) -> np.ndarray:
    """sum p x over actions, [A, n] -> [n]; 0 where p is."""
    return np.where(p == 0, 0, p * x).sum(0)


class Softmax:
    """`policy.categorical`: out [A, n], action [1, n], old [A, n]."""

    def __init__(self, head: Any) -> None:
        self.outputs, self.params, self.actions = head.outputs, head.outputs, 1

    def say(self, out: np.ndarray, _: Any, action: np.ndarray, old: np.ndarray, asked: Any) -> dict[str, np.ndarray]:
        n = out.shape[1]
        self.log_p = log_softmax(out)
        self.taken = action[0].astype(np.intp) * n + np.arange(n)
        said = {"log_pi": self.log_p.ravel().take(self.taken)}
        if "entropy" in asked:
            self.held = np.maximum(self.log_p, LOWEST)
            said["entropy"] = -(np.exp(self.log_p) * self.held).sum(0)
        if "kl_old" in asked or "kl_new" in asked:
            self.log_q = log_softmax(old)
            p, q = np.exp(self.log_p), np.exp(self.log_q)
            said |= {"kl_old": expected(q, self.log_q - self.log_p), "kl_new": expected(p, self.log_p - self.log_q)}
        self.said = said
        return said

    def pull(self, g: dict[str, np.ndarray], d: np.ndarray) -> None:
        """d log p_a = 1_a - p; dH = -p (log p + H); dKL(old || p) = p - p_old; dKL(p || old) = p (log p - log p_old - KL)."""
        p = np.exp(self.log_p)
        d[:] = 0
        if "log_pi" in g:
            np.multiply(p, -g["log_pi"], d)
            d.reshape(-1)[self.taken] += g["log_pi"]
        if "entropy" in g:
            d -= p * (g["entropy"] * (self.held + self.said["entropy"]))
        if "kl_old" in g:
            d += g["kl_old"] * (p - np.exp(self.log_q))
        if "kl_new" in g:
            d += np.where(p == 0, 0, g["kl_new"] * p * (self.log_p - self.log_q - self.said["kl_new"]))


class Normal:
    """`policy.gaussian`: out, action [d, n], log_std [d, 1], old [2d, n]."""

    def __init__(self, head: Any) -> None:
        self.outputs = self.actions = head.outputs
        self.params = 2 * head.outputs

    def say(
        self, out: np.ndarray, log_std: np.ndarray, action: np.ndarray, old: np.ndarray, asked: Any
    ) -> dict[str, np.ndarray]:
        self.log_std, self.away, self.precision = log_std, action - out, np.exp(-2 * log_std)
        self.square = self.away * self.away * self.precision
        said = {"log_pi": -(self.square / 2 + (log_std + np.float32(HALF_LOG_2PI))).sum(0)}
        if "entropy" in asked:
            said["entropy"] = np.full(out.shape[1], (log_std + np.float32(0.5 + HALF_LOG_2PI)).sum(), np.float32)
        if "kl_old" in asked or "kl_new" in asked:
            before, self.t = np.split(old, 2)
            self.shift, gap = before - out, self.t - log_std
            squared = self.shift * self.shift
            said["kl_old"] = ((np.expm1(2 * gap) + squared * self.precision) / 2 - gap).sum(0)
            said["kl_new"] = ((np.expm1(-2 * gap) + squared * np.exp(-2 * self.t)) / 2 + gap).sum(0)
        return said

    def pull(self, g: dict[str, np.ndarray], d: np.ndarray, on_log_std: np.ndarray) -> None:
        """on_log_std [d, 1] is written, too."""
        d[:], on_log_std[:] = 0, 0
        if "log_pi" in g:
            d += g["log_pi"] * self.away * self.precision
            on_log_std += (g["log_pi"] * (self.square - 1)).sum(1, keepdims=True)
        if "entropy" in g:
            on_log_std += g["entropy"].sum()
        if "kl_old" in g:
            change = np.exp(2 * (self.t - self.log_std)) + self.shift * self.shift * self.precision
            d -= g["kl_old"] * self.shift * self.precision
            on_log_std += (g["kl_old"] * (1 - change)).sum(1, keepdims=True)
        if "kl_new" in g:
            d -= g["kl_new"] * self.shift * np.exp(-2 * self.t)
            on_log_std += (g["kl_new"] * np.expm1(2 * (self.log_std - self.t))).sum(1, keepdims=True)


def _flag(compare: Any) -> Callable[..., np.ndarray]:
    return lambda a, b: compare(a, b).astype(np.float32)


def _lesser(a: np.ndarray, b: np.ndarray, g: np.ndarray) -> np.ndarray:
    """The slope of min(a, b) by a; a tie gives half."""
    return np.where(a < b, g, np.where(a == b, g / 2, 0))


EVALUATE: dict[str, Callable[..., np.ndarray]] = {
    "neg": np.negative, "exp": np.exp, "log": np.log, "expm1": np.expm1, "log1p": np.log1p, "sqrt": np.sqrt,
    "square": np.square, "abs": np.abs, "tanh": np.tanh, "sigmoid": lambda a: 1 / (1 + np.exp(-a)), "sign": np.sign,
    "detach": lambda a: a, "same": lambda a: a, "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "minimum": np.minimum, "maximum": np.maximum, "gt": _flag(np.greater), "ge": _flag(np.greater_equal),
    "lt": _flag(np.less), "le": _flag(np.less_equal), "eq": _flag(np.equal), "where": np.where,
}  # fmt: skip
# The slope g of a result y, passed on to each operand, as torch does at ties; what has none is left out.
DIFFERENTIATE: dict[str, tuple[Callable[..., np.ndarray] | None, ...]] = {
    "neg": (lambda g, y, a: -g,),
    "exp": (lambda g, y, a: g * y,),
    "log": (lambda g, y, a: g / a,),
    "expm1": (lambda g, y, a: g * (y + 1),),
    "log1p": (lambda g, y, a: g / (a + 1),),
    "sqrt": (lambda g, y, a: g / (2 * y),),
    "square": (lambda g, y, a: g * (a + a),),
    "abs": (lambda g, y, a: g * np.sign(a),),
    "tanh": (lambda g, y, a: g * (1 - y * y),),
    "sigmoid": (lambda g, y, a: g * (y * (1 - y)),),
    "same": (lambda g, y, a: g,),
    "add": (lambda g, y, a, b: g, lambda g, y, a, b: g),
    "sub": (lambda g, y, a, b: g, lambda g, y, a, b: -g),
    "mul": (lambda g, y, a, b: g * b, lambda g, y, a, b: g * a),
    "div": (lambda g, y, a, b: g / b, lambda g, y, a, b: g * (-a / (b * b))),
    "minimum": (lambda g, y, a, b: _lesser(a, b, g), lambda g, y, a, b: _lesser(b, a, g)),
    "maximum": (lambda g, y, a, b: _lesser(b, a, g), lambda g, y, a, b: _lesser(a, b, g)),
    "where": (None, lambda g, y, c, a, b: np.where(c, g, 0), lambda g, y, c, a, b: np.where(c, 0, g)),
}


class Tape:
    """A `program` that can be evaluated and differentiated."""

    def __init__(self, program: Program) -> None:
        self.program, self.first = program, program.first
        self.constants: dict[int, list[np.ndarray]] = {}  # for n rows
        names = {code: name for name, code in OPS.items()}
        self.lines = list[tuple[Callable[..., np.ndarray], list[int]]]()
        self.back = list[tuple[int, list[int], list[tuple[int, Callable[..., np.ndarray]]]]]()
        for i, (code, *operands) in enumerate(program.tape.tolist()):
            name = names[code]
            operands = operands[: arity((code,))]
            self.lines.append((EVALUATE[name], operands))
            if program.live[self.first + i]:
                slopes = zip(operands, DIFFERENTIATE.get(name, ()), strict=False)
                kept = [(x, f) for x, f in slopes if f is not None and program.live[x]]
                self.back.append((self.first + i, operands, kept))
        self.back.reverse()

    def evaluate(self, said: dict[str, np.ndarray], data: list[np.ndarray], n: int) -> np.ndarray:
        """The objective of n rows, from what is said of them and their data fields."""
        if n not in self.constants:
            self.constants[n] = list(np.repeat(self.program.constants[:, None], n, 1))
        r: list[Any] = [*map(said.get, ANSWERS), *data, *self.constants[n]]
        for f, operands in self.lines:
            r.append(f(*[r[x] for x in operands]))
        self.registers = r
        return r[-1]

    def differentiate(self, weight: np.ndarray) -> dict[str, np.ndarray]:
        """The slopes of sum(weight * objective) by what was said."""
        r, slopes = self.registers, {len(self.registers) - 1: weight}
        for y, operands, kept in self.back:
            if (g := slopes.get(y)) is not None:
                values = [r[x] for x in operands]
                for x, f in kept:
                    part = f(g, r[y], *values)
                    slopes[x] = slopes[x] + part if x in slopes else part
        return {name: slopes[i] for i, name in enumerate(ANSWERS) if i in slopes}
