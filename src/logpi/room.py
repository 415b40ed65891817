"""How much goes through a model at once, in a memory whose size nobody knows before."""

from collections.abc import Callable
from typing import TypeVar

import torch

from logpi.errors import LogpiError

T = TypeVar("T")


class Room:
    """So many `unit`s at once, `size` (None: all); halved for good whenever memory gives out, `halvings` times at most."""

    def __init__(self, size: int | None, unit: str, cure: str, halvings: int = 63) -> None:
        self.size, self.unit, self.cure, self.halvings = size, unit, cure, halvings
        self.halved = False

    def __call__(self, run: Callable[[], T], most: int) -> T:
        """run(), which asks for `size`, of `most` units in all; from its start, with half as many, when memory gives out."""
        while True:
            try:
                return run()
            except (MemoryError, RuntimeError) as wrong:
                size = min(self.size or most, most)
                if not out_of_memory(wrong):
                    raise
                if size == 1 or not self.halvings:
                    what = f"{size:,} {self.unit}{'' if size == 1 else 's'}"
                    raise LogpiError(f"The memory does not hold {what} at once: {self.cure}.") from wrong
            # here nothing holds the failed pass any more
            self.size, self.halvings, self.halved = size // 2, self.halvings - 1, True


def slices(most: int, size: int | None) -> list[slice]:
    """`most` things, `size` at a time; None: all."""
    size = size or max(1, most)
    return [slice(at, at + size) for at in range(0, most, size)]


def out_of_memory(wrong: Exception) -> bool:
    """Python's, an accelerator's, or that of torch's allocator on the CPU, which has no class of its own."""
    words = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc")
    return isinstance(wrong, MemoryError | torch.OutOfMemoryError) or any(w in str(wrong) for w in words)
