"""The arrays that the processes of one run read and write: in memory without a name, gone with the last process."""

from multiprocessing.context import BaseContext
from typing import Any

import numpy as np


class Shared:
    """Arrays by name, each [n, ...]; sent to a process when it starts."""

    def __init__(self, context: BaseContext, fields: dict[str, tuple[tuple[int, ...], Any]]) -> None:
        self.fields = {name: (shape, np.dtype(dtype)) for name, (shape, dtype) in fields.items()}
        self.memory = context.RawArray("B", max(1, sum(map(_size, self.fields.values()))))

    def arrays(self) -> dict[str, np.ndarray]:
        found, at = {}, 0
        for name, (shape, dtype) in self.fields.items():
            count = int(np.prod(shape))
            found[name] = np.frombuffer(self.memory, dtype, count, at).reshape(shape)
            at += _size((shape, dtype))
        return found


def _size(field: tuple[tuple[int, ...], np.dtype]) -> int:
    """In bytes, to the next cache line: two processes never write the same one's neighbour."""
    shape, dtype = field
    return -(-int(np.prod(shape)) * dtype.itemsize // 64) * 64
