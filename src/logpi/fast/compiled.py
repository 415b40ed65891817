"""How kernels are compiled, and kept."""

import inspect
import os
import threading
from collections.abc import Callable
from typing import Any

import numba
from numba import cfunc, njit, types

from logpi.fast.warm import folder

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


FOLDER = folder()


def writable() -> bool:
    try:
        FOLDER.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return False
    return os.access(FOLDER, os.W_OK)


WRITABLE = writable()


ONE = threading.RLock()  # at a time: numba's configuration belongs to the process


def kept(decorate: Callable[[], Any]) -> Any:
    """What it makes, with our folder as its cache."""
    config: Any = numba.config
    with ONE:
        before, config.CACHE_DIR = config.CACHE_DIR, str(FOLDER)
        try:
            return decorate()
        finally:
            config.CACHE_DIR = before


def entry(kernel: Callable[..., Any]) -> Any:
    """A kernel that Python calls: kept in the cache, with all that it calls but for parts."""
    return kept(lambda: njit(cache=WRITABLE, **OPTIONS)(kernel))


def brief(kernel: Callable[..., Any]) -> Any:
    """One that is done before another thread would have woken up: it keeps the interpreter's lock."""
    return kept(lambda: njit(cache=WRITABLE, **OPTIONS | {"nogil": False})(kernel))


def arguments(kernel: Any) -> tuple[Any, ...]:
    """The types that an entry is annotated with, as numba calls them."""
    kinds = {int: types.int64, float: types.float64, bool: types.boolean}
    return tuple(kinds[x.annotation] for x in inspect.signature(kernel.py_func).parameters.values())


def compile_whole(kernel: Any) -> None:
    """An entry, before it is called."""
    kernel.compile(arguments(kernel))


class Part:
    """A kernel that others call by its `address`, with whole numbers alone: compiled once for all of them, when it is needed."""

    def __init__(self, kernel: Callable[..., Any]) -> None:
        self.kernel, self.compiled = kernel, None

    def compile(self) -> Any:
        with ONE:
            self.compiled = self.compiled or self._compile()
        return self.compiled

    def _compile(self) -> Any:
        signature = types.void(*[types.int64] * len(inspect.signature(self.kernel).parameters))
        options = {name: OPTIONS[name] for name in ("error_model", "fastmath")}
        return kept(lambda: cfunc(signature, cache=WRITABLE, **options)(self.kernel))

    @property
    def address(self) -> int:
        return int(self.compile().address)


def inner(*freedoms: str) -> Callable[[Callable[..., Any]], Any]:
    """A kernel that other kernels call; `freedoms` of fastmath beyond fused multiply-adds."""
    options = OPTIONS | {"fastmath": {"contract", *freedoms}, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return lambda kernel: njit(**options)(kernel)


def inlined(kernel: Callable[..., Any]) -> Any:
    """One that is small or has one caller, and is a part of it: compiled for itself it would be compiled twice."""
    return njit(inline="always", **OPTIONS)(kernel)
