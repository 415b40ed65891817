"""Kernels that other kernels alone can call, made callable from Python, on arrays.

numba keeps what it compiled by the file that a function stands in: what stands here is compiled again where any file of
logpi.fast was changed, for the hash of them all is a part of each kernel.
"""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

import logpi.fast
from logpi.fast import network, special, tape, tile, update
from logpi.fast.machine import Loaded, address

FOLDER = Path(logpi.fast.__file__).parent
SOURCES = int(hashlib.sha256(b"".join(f.read_bytes() for f in sorted(FOLDER.glob("*.py")))).hexdigest()[:12], 16)
floats, ints = tile.floats, tile.ints


def made(sources: int) -> tuple[Any, ...]:
    @njit(cache=True)
    def product(a: int, sm: int, sk: int, b: int, ldb: int, c: int, ldc: int, m: int, n: int, k: int, add: bool) -> int:
        tile.product(floats(a), sm, sk, floats(b), ldb, floats(c), ldc, m, n, k, add)
        return sources

    @njit(cache=True)
    def each(which: int, x: Any, y: Any) -> int:
        for i in range(len(x)):
            y[i] = network.tanh(x[i]) if which == 0 else special.exp(x[i])
        return sources

    @njit(cache=True)
    def gammas(x: Any, first: Any, second: Any) -> int:
        for i in range(len(x)):
            first[i], second[i] = special.digamma(x[i]), special.trigamma(x[i])
        return sources

    @njit(cache=True)
    def follow(program: int, registers: int, weight: int, n: int) -> int:
        p, r = ints(program), floats(registers)
        count, first, lines = p[update.COUNT], p[update.FIRST], tile.at(p, update.TAPE)
        tape.evaluate(lines, count, first, r, n)
        tape.differentiate(lines, count, first, r, tile.at(r, (first + count) * tape.BLOCK), floats(weight), n)
        return sources

    @njit(cache=True)
    def adam(theta: int, grad: int, m: int, v: int, size: int, step: float, rates: Any, shrink: float) -> int:
        update.adam(floats(theta), floats(grad), floats(m), floats(v), size, step, rates, shrink)
        return sources

    return product, each, gammas, follow, adam


_product, _each, _gammas, _follow, _adam = made(SOURCES)


def product(a: np.ndarray, strides: tuple[int, int], b: np.ndarray, c: np.ndarray, shape: tuple[int, ...], add: bool) -> None:
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


def gammas(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """digamma and trigamma."""
    first, second = np.empty_like(x), np.empty_like(x)
    _gammas(x, first, second)
    return first, second


def follow(loaded: Loaded, given: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the objective of n rows, its weighted slopes by the answers [5, n]); given: rows of answers and data."""
    count, first, n = loaded.ints[update.COUNT], loaded.ints[update.FIRST], len(weight)
    loaded.registers[: len(given), :n] = given
    _follow(address(loaded.ints), address(loaded.registers), address(weight), n)
    slopes = loaded.registers[first + count :]
    return loaded.registers[first + count - 1, :n].copy(), slopes[: update.ANSWERS + 1, :n].copy()


def adam(theta: Any, grad: Any, m: Any, v: Any, step: int, rates: tuple[float, ...], shrink: float) -> None:
    _adam(*map(address, (theta, grad, m, v)), len(theta), float(step), rates, shrink)
