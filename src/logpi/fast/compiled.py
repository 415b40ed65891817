"""How kernels are compiled, and kept."""

import os
from collections.abc import Callable
from typing import Any

import numba
from numba import njit

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


def entry(kernel: Callable[..., Any]) -> Any:
    """A kernel that Python calls: kept in the cache, with all that it calls."""
    config: Any = numba.config
    before, config.CACHE_DIR = config.CACHE_DIR, str(FOLDER)
    try:
        return njit(cache=WRITABLE, **OPTIONS)(kernel)
    finally:
        config.CACHE_DIR = before


def inner(*freedoms: str) -> Callable[[Callable[..., Any]], Any]:
    """A kernel that other kernels call; `freedoms` of fastmath beyond fused multiply-adds."""
    options = OPTIONS | {"fastmath": {"contract", *freedoms}, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return lambda kernel: njit(**options)(kernel)


def inlined(kernel: Callable[..., Any]) -> Any:
    """One that is called once: part of its caller, which saves compiling it twice."""
    return njit(inline="always", **OPTIONS)(kernel)
