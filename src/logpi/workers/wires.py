"""What a kernel needs to talk to workers by itself: their files, who owes what, and where the shared arrays lie."""

import ctypes
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from logpi.workers.pipe import POLLIN

POLLED = np.dtype([("file", np.int32), ("events", np.int16), ("found", np.int16)])  # struct pollfd
NOBODY = -1


class Wires:
    """Tables of whole numbers. groups [G, 3]: first environment, the one after the last, worker. workers [W, 4]: the file to
    write to, groups owed (at most two), of which the first one answers first. polled [2 W]: answers, then ends of processes.
    """

    def __init__(self, workers: Sequence[Any], groups: Sequence[Any]) -> None:
        self.workers, self.of = workers, groups
        table = [(x.rows.start, x.rows.stop, workers.index(x.worker)) for x in groups]
        self.groups = np.array(table, np.int64)
        self.requests = np.frombuffer(b"".join(x.request for x in groups), np.uint8).copy()
        self.owed = np.zeros((len(workers), 4), np.int64)
        self.polled = np.zeros(2 * len(workers), POLLED)
        self.rest = np.zeros((len(workers), 9), np.uint8)  # read of an answer that says more: how many bytes, the bytes
        self.over = np.zeros(len(table) and table[-1][1], np.uint8)  # environments of which an episode ended
        library = ctypes.CDLL(None)
        calls = (getattr(library, name) for name in ("poll", "read", "write"))
        self.calls = np.array([ctypes.cast(call, ctypes.c_void_p).value for call in calls], np.int64)

    def take_over(self) -> bool:
        """The workers as they are now; False where one needs more than steps."""
        if any(x.failure is not None or x.came or x.channel.got or len(x.owed) > 2 for x in self.workers):
            return False
        if any(key < 0 for x in self.workers for key in x.owed):
            return False
        for i, x in enumerate(self.workers):
            owed = [*x.owed]
            self.owed[i] = (x.channel.writer, len(owed), *owed, *[NOBODY] * (2 - len(owed)))
            self.polled[i] = x.files[0], POLLIN, 0
            self.polled[len(self.workers) + i] = x.files[1], POLLIN, 0
        self.rest[:], self.over[:] = 0, 0
        return True

    def hand_back(self, now: float) -> set[int]:
        """The groups that are still at work; the workers know it again."""
        sent = set[int]()
        for x, (_, count, *groups), rest in zip(self.workers, self.owed.tolist(), self.rest, strict=True):
            if [*x.owed] != (owed := groups[:count]):
                x.owed, x.since, x.ready = deque(owed), now, True
            x.channel.got += rest[1 : 1 + rest[0]].tobytes()
            sent |= {*owed}
        return sent
