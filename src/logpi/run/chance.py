"""The global random generators: seeded by a run of the command line, kept in its checkpoints, left alone by evaluation."""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


def seed(number: int) -> None:
    """Python's, numpy's and torch's: ours are never drawn from, but an environment or a network of the user's may."""
    random.seed(number)
    np.random.seed(number % 2**32)
    torch.manual_seed(number)


def state() -> dict[str, Any]:
    version, words, gauss = random.getstate()
    name, key, position, has_gauss, cached = np.random.get_state()
    return {
        "python": [version, np.array(words, np.uint64), gauss],
        "numpy": [name, key, position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def load_state(found: dict[str, Any]) -> None:
    version, words, gauss = found["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    np.random.set_state(tuple(found["numpy"]))
    torch.set_rng_state(found["torch"])
    if found["cuda"] and torch.cuda.device_count() >= len(found["cuda"]):
        torch.cuda.set_rng_state_all(found["cuda"])


@contextlib.contextmanager
def untouched() -> Iterator[None]:
    """Whatever is drawn inside, the generators go on as if it had not been."""
    before = state()
    try:
        yield
    finally:
        load_state(before)
