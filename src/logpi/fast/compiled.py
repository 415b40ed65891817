"""How kernels are compiled, and where what was compiled is kept: in the user's cache, by the sum of all their sources.

numba looks at a function's own file only, so a kernel that calls one of another file would stay as it was when that changes.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba import njit

OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


def folder() -> Path:
    """Of what was compiled from these very sources, by this version of numba."""
    total = hashlib.sha256(numba.__version__.encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):
        total.update(file.read_bytes())
    home = (
        os.environ.get("NUMBA_CACHE_DIR") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "logpi"
    )
    return Path(home) / f"kernels-{total.hexdigest()[:16]}"


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
