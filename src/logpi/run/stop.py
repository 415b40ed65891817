"""Ctrl-C and SIGTERM: the first asks, the second ends the process at once."""

import os
import signal
from types import FrameType

GRACE = 0.8  # seconds that an iteration may still take after the first signal
MOMENT = (
    0.01  # seconds in which Python itself answers a second one: taking its handler away would lose what is on its way
)


class Interrupted(BaseException):
    """The iteration did not end in time after a signal: it is given up, and will be done again on a resume."""


class Stop:
    """While it is entered, a signal sets `number`; after GRACE seconds more it raises Interrupted, unless `settled`.

    From a moment after the first signal on the kernel's own action is in force again: a second one ends the process
    wherever it is.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.alone = True  # no second signal can be on its way any more

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
        self.alone = False
        for n in (signal.SIGINT, signal.SIGTERM):
            signal.signal(n, self._second)
        signal.setitimer(signal.ITIMER_REAL, MOMENT)

    def _second(self, number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _late(self, number: int, frame: FrameType | None) -> None:
        if self.alone:
            raise Interrupted
        self.alone = True
        for n in (signal.SIGINT, signal.SIGTERM):
            signal.signal(n, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, GRACE)
