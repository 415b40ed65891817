"""Kernels that other kernels alone can call, made callable from Python, on arrays."""

from typing import Any

import numpy as np

from logpi.fast import network, special, tape, update
from logpi.fast.compiled import entry
from logpi.fast.machine import Loaded, address
from logpi.fast.tile import STRIP, at, call, floats, ints
from logpi.fast.tile import address as of
from logpi.fast.tile import product as tiles

BLOCK, COUNT, FIRST, TAPE = tape.BLOCK, update.COUNT, update.FIRST, update.TAPE
adams, tanhs, exps, logs = update.adam, network.tanh, special.exp, special.log
digamma, trigamma = special.digamma, special.trigamma


@entry
def _product(a: int, sm: int, sk: int, b: int, ldb: int, c: int, ldc: int, m: int, n: int, k: int, add: bool) -> None:
    tiles(floats(a), sm, sk, floats(b), ldb, STRIP, floats(c), ldc, m, n, k, add)


@entry
def _each(which: int, x: Any, y: Any) -> None:
    for i in range(len(x)):
        y[i] = tanhs(x[i]) if which == 0 else exps(x[i]) if which == 1 else logs(x[i])


@entry
def _gammas(x: Any, first: Any, second: Any) -> None:
    for i in range(len(x)):
        first[i], second[i] = digamma(x[i]), trigamma(x[i])


@entry
def _follow(evaluate: int, differentiate: int, program: int, registers: int, weight: int, n: int) -> None:
    p, r = ints(program), floats(registers)
    count, first, lines = p[COUNT], p[FIRST], of(at(p, TAPE))
    call(evaluate, (lines, count, first, registers, n))
    call(differentiate, (lines, count, first, registers, of(at(r, (first + count) * BLOCK)), weight, n))


@entry
def _adam(theta: int, grad: int, m: int, v: int, size: int, step: float, rates: Any, shrink: float) -> None:
    adams(floats(theta), floats(grad), floats(m), floats(v), size, step, rates, shrink)


def product(
    a: np.ndarray, strides: tuple[int, int], b: np.ndarray, c: np.ndarray, shape: tuple[int, ...], add: bool
) -> None:
    """C [m, n] (+)= A [m, k] B [k, n]; shape (m, n, k), strides of A in floats."""
    _product(address(a), *strides, address(b), b.shape[1], address(c), c.shape[1], *shape, add)


def tanh(x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    _each(0, x, y)
    return y


def exp(x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    _each(1, x, y)
    return y


def log(x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    _each(2, x, y)
    return y


def gammas(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """digamma and trigamma."""
    first, second = np.empty_like(x), np.empty_like(x)
    _gammas(x, first, second)
    return first, second


def follow(loaded: Loaded, given: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the objective of n rows, its weighted slopes by the answers [5, n]); given: rows of answers and data."""
    count, first, n = loaded.ints[update.COUNT], loaded.ints[update.FIRST], len(weight)
    loaded.registers[: len(given), :n] = given
    given_to = address(loaded.ints), address(loaded.registers), address(weight)
    _follow(tape.evaluate.address, tape.differentiate.address, *given_to, n)
    slopes = loaded.registers[first + count :]
    return loaded.registers[first + count - 1, :n].copy(), slopes[: update.ANSWERS + 1, :n].copy()


def adam(theta: Any, grad: Any, m: Any, v: Any, step: int, rates: tuple[float, ...], shrink: float) -> None:
    _adam(*map(address, (theta, grad, m, v)), len(theta), float(step), rates, shrink)
