"""The process: it owns a slice of the environments and does what the pipe says, one environment after another."""

import contextlib
import ctypes
import os
import signal
import struct
import sys
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from typing import Any

import gymnasium

from logpi.errors import EnvironmentFailed
from logpi.workers import wire, work
from logpi.workers.guard import Guard, raised
from logpi.workers.pipe import Channel
from logpi.workers.shared import Shared

IDLE = -1  # in the shared `at`: the worker is at no environment
FINE = b""  # the answer that says: done, and nothing failed
STEP = struct.Struct("<II")  # the request to step environments from the first number to before the second
DIE_WITH_PARENT, TIMER_SLACK = 1, 29  # PR_SET_PDEATHSIG, PR_SET_TIMERSLACK


def serve(
    reader: Connection,
    writer: Connection,
    shared: Shared,
    construct: Callable[[], gymnasium.Env],
    first: int,
    worker: int,
    name: str,
) -> None:
    """Answer requests until the other end closes. Environments are numbered from `first` on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    follow_the_parent()
    environments, channel = Slice(shared.arrays(), construct, first, worker, name), Channel(reader, writer)
    with contextlib.suppress(EOFError, OSError):
        while True:
            request = channel.receive()
            if len(request) == STEP.size:
                channel.send(environments.step(*STEP.unpack(request)))
            else:
                channel.send(environments.answer(**wire.decode(request)))
    environments.close()


def follow_the_parent() -> None:
    """End when the parent does, even if stopped or in an endless loop: the kernel sees to it.

    Under a fork server that is our parent. It ends when nobody holds its 'alive' pipe, and lets every process it makes
    hold it: we let go, so that it ends with the process that started it.
    """
    if sys.platform != "linux":
        return
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(DIE_WITH_PARENT, signal.SIGKILL)
    prctl(TIMER_SLACK, 1)  # ns: who sleeps is not woken 50 us late
    server: Any = forkserver._forkserver
    alive = getattr(server, "_forkserver_alive_fd", None)
    if alive is not None:
        os.close(alive)
        server._forkserver_alive_fd = None


class Slice:
    """The environments of one process; each keeps the number it has among all."""

    def __init__(
        self, arrays: dict[str, Any], construct: Callable[[], gymnasium.Env], first: int, worker: int, name: str
    ) -> None:
        self.arrays, self.construct, self.first, self.worker, self.name = arrays, construct, first, worker, name
        self.guards: dict[int, Guard] = {}

    def answer(self, do: str, **given: Any) -> bytes:
        """What `do` asks for: its result, and what failed in which environment; the others were done."""
        found = getattr(self, f"do_{do}")(**given)
        self.arrays["at"][self.worker] = IDLE
        return _told(found.pop("failed", []), found)

    def step(self, first: int, end: int) -> bytes:
        failed = self.each(self._step, range(first, end))["failed"]
        self.arrays["at"][self.worker] = IDLE
        return _told(failed, {}) if failed else FINE

    def each(self, one: Callable[[int], None], numbers: Any = None) -> dict[str, list[EnvironmentFailed]]:
        failed, at = [], self.arrays["at"]
        for number in sorted(self.guards) if numbers is None else numbers:
            at[self.worker] = number
            try:
                one(number)
            except EnvironmentFailed as error:
                failed.append(error)
        return {"failed": failed}

    def do_build(self, numbers: list[int], seeds: list[int] | None) -> dict[str, Any]:
        """Make these environments, anew where there is one, and reset them if there are seeds."""

        def build(number: int) -> None:
            if number in self.guards:
                with contextlib.suppress(Exception):
                    self.guards[number].close()
            try:
                self.guards[number] = Guard(self.construct, number)
            except Exception as error:
                raise raised(error, "its constructor", number, self.name) from error
            self.guards[number].show_in(self.arrays["obs"][number, ...])
            if seeds is not None:
                self._begin(number, seeds[numbers.index(number)])

        return self.each(build, numbers)

    def _begin(self, number: int, seed: int | None = None) -> None:
        self.guards[number].reset(seed=seed)

    def do_reset(self, seeds: list[int] | None) -> dict[str, Any]:
        """seeds: of all the environments of the run."""
        return self.each(lambda number: self._begin(number, None if seeds is None else seeds[number]))

    def _step(self, number: int) -> None:
        x, guard = self.arrays, self.guards[number]
        if x["resting"][number]:
            return
        x["broken"][number] = True
        terminated, truncated = guard.advance(x["action"][number])
        x["reward"][number], x["terminated"][number], x["truncated"][number] = guard.reward, terminated, truncated
        if terminated or truncated:
            x["final"][number] = guard.obs
        x["broken"][number] = False
        if terminated or truncated:
            guard.reset()

    def do_try(self) -> dict[str, Any]:
        """See `work.measure`; of an environment for this alone."""
        found: dict[str, Any] = {}

        def one(number: int) -> None:
            guard = Guard(self.construct, number)
            found.update(work.measure(guard))
            guard.close()

        return self.each(one, [self.first]) | found

    def do_state(self) -> dict[str, Any]:
        return {"states": [self.guards[number].state() for number in sorted(self.guards)]}

    def do_load(self, states: list[dict[str, Any]]) -> dict[str, Any]:
        """states: of this slice alone."""

        return self.each(lambda number: self.guards[number].load_state(states[number - self.first]))

    def close(self) -> None:
        for guard in self.guards.values():
            with contextlib.suppress(Exception):
                guard.close()


def _told(failed: list[EnvironmentFailed], found: dict[str, Any]) -> bytes:
    if not failed and not found:
        return FINE
    return wire.encode({"failed": [[str(error), error.number, error.details] for error in failed]} | found)
