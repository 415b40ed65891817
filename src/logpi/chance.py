"""The global random generators: seeded by a run of the command line, kept in its checkpoints, left alone by what only looks.

Ours are never drawn from, but an environment or a network of the user's may. torch's are meant where torch is loaded.
"""

import contextlib
import random
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np


def seed(number: int) -> None:
    """Python's, numpy's and torch's."""
    random.seed(number)
    np.random.seed(number % 2**32)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(number)


def state() -> dict[str, Any]:
    version, words, gauss = random.getstate()
    torch = sys.modules.get("torch")
    return {
        "python": [version, np.array(words, np.uint64), gauss],
        "numpy": list(np.random.get_state()),
        "torch": torch.get_rng_state() if torch else None,
        "cuda": torch.cuda.get_rng_state_all() if torch and torch.cuda.is_initialized() else [],
    }


def load_state(found: dict[str, Any]) -> None:
    version, words, gauss = found["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    np.random.set_state(tuple(found["numpy"]))
    torch = sys.modules.get("torch")
    if torch and found["torch"] is not None:
        torch.set_rng_state(found["torch"])
    if torch and found["cuda"] and torch.cuda.device_count() >= len(found["cuda"]):
        torch.cuda.set_rng_state_all(found["cuda"])


@contextlib.contextmanager
def untouched() -> Iterator[None]:
    """Whatever is drawn inside, the generators go on as if it had not been."""
    before = state()
    try:
        yield
    finally:
        load_state(before)
