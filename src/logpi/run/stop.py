"""Ctrl-C and SIGTERM: the first asks, the second ends the process at once."""

import signal
from types import FrameType

GRACE = 0.8  # seconds that an iteration may still take after the first signal


class Interrupted(BaseException):
    """The iteration did not end in time after a signal: it is given up, and will be done again on a resume."""


class Stop:
    """While it is entered, a signal sets `number`; after GRACE seconds more it raises Interrupted, unless `settled`.

    From the first signal on the kernel's own action is in force again: a second one ends the process wherever it is.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    def __enter__(self) -> "Stop":
        self.before = {n: signal.signal(n, self._first) for n in (signal.SIGINT, signal.SIGTERM)}
        self.before[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._late)
        return self

    def __exit__(self, *_: object) -> None:
        self.settled()
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def settled(self) -> None:
        """Nothing is to be interrupted any more: what follows is saving."""
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _first(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        for n in (signal.SIGINT, signal.SIGTERM):
            signal.signal(n, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, GRACE)

    def _late(self, number: int, frame: FrameType | None) -> None:
        raise Interrupted
