"""The process: it owns a slice of the environments and does what the pipe says, one environment after another."""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from typing import Any

import gymnasium

from logpi.errors import EnvironmentFailed
from logpi.workers import wire
from logpi.workers.guard import Guard, raised
from logpi.workers.pipe import receive, send
from logpi.workers.shared import Shared

IDLE = -1  # in the shared `at`: the worker is at no environment
FINE = wire.encode({"failed": []})
DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG


def serve(
    pipe: Connection, shared: Shared, construct: Callable[[], gymnasium.Env], first: int, worker: int, name: str
) -> None:
    """Answer requests until the other end closes. Environments are numbered from `first` on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    follow_the_parent()
    environments = Slice(shared.arrays(), construct, first, worker, name)
    with contextlib.suppress(EOFError, OSError):
        while True:
            request = wire.decode(receive(pipe))
            send(pipe, environments.answer(**request))
    environments.close()


def follow_the_parent() -> None:
    """End when the parent does, even if stopped or in an endless loop: the kernel sees to it.

    Under a fork server that is our parent. It ends when nobody holds its 'alive' pipe, and lets every process it makes
    hold it: we let go, so that it ends with the process that started it.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(DIE_WITH_PARENT, signal.SIGKILL)
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
        failed = [[str(error), error.number, error.details] for error in found.pop("failed", [])]
        return wire.encode({"failed": failed} | found) if failed or found else FINE

    def each(self, one: Callable[[int], None], numbers: Any = None) -> dict[str, list[EnvironmentFailed]]:
        failed = []
        for number in sorted(self.guards) if numbers is None else numbers:
            self.arrays["at"][self.worker] = number
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
            if seeds is not None:
                self._begin(number, seeds[numbers.index(number)])

        return self.each(build, numbers)

    def _begin(self, number: int, seed: int | None = None) -> None:
        self.arrays["obs"][number] = self.guards[number].reset(seed=seed)[0]

    def do_reset(self, seeds: list[int] | None) -> dict[str, Any]:
        """seeds: of all the environments of the run."""
        return self.each(lambda number: self._begin(number, None if seeds is None else seeds[number]))

    def do_step(self) -> dict[str, Any]:
        return self.each(self._step)

    def _step(self, number: int) -> None:
        x = self.arrays
        x["broken"][number] = True
        action = x["action"][number]
        obs, reward, terminated, truncated, _ = self.guards[number].step(action)
        x["final"][number], x["reward"][number] = obs, reward
        x["terminated"][number], x["truncated"][number], x["broken"][number] = terminated, truncated, False
        x["obs"][number] = self.guards[number].reset()[0] if terminated or truncated else obs

    def do_state(self) -> dict[str, Any]:
        return {"states": [self.guards[number].state() for number in sorted(self.guards)]}

    def do_load(self, states: list[dict[str, Any]]) -> dict[str, Any]:
        """states: of this slice alone."""

        def load(number: int) -> None:
            self.guards[number].load_state(states[number - self.first])
            self.arrays["obs"][number] = self.guards[number].obs

        return self.each(load)

    def close(self) -> None:
        for guard in self.guards.values():
            with contextlib.suppress(Exception):
                guard.close()
