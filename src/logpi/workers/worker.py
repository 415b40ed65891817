"""One process, seen from the parent: started, asked, waited for with a deadline, and ended whatever it does."""

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

import gymnasium

from logpi.errors import EnvironmentFailed, LogpiError
from logpi.workers import child, wire
from logpi.workers.pipe import receive, send
from logpi.workers.shared import Shared

METHODS = multiprocessing.get_all_start_methods()
CONTEXT: Any = multiprocessing.get_context("forkserver" if "forkserver" in METHODS else "spawn")
PATIENCE = 1.0  # seconds to close, then it is killed
STEP = wire.encode({"do": "step"})


class Worker:
    """Environments `numbers` of `name` in process `index`."""

    def __init__(
        self, index: int, numbers: range, name: str, construct: Callable[[], gymnasium.Env], shared: Shared
    ) -> None:
        self.index, self.numbers, self.name, self.construct, self.shared = index, numbers, name, construct, shared
        self.at = shared.arrays()["at"]
        self.failure: EnvironmentFailed | None = None  # how the process went
        self.ready, self.busy = False, False  # it has answered once; it owes an answer
        self.process: Any = None
        self.pipe: Connection

    def start(self) -> None:
        """A new process, in the place of the one before."""
        self.kill()
        self.pipe, theirs = CONTEXT.Pipe()
        self.at[self.index], self.failure, self.ready, self.busy = child.IDLE, None, False, False
        CONTEXT.set_forkserver_preload(["logpi.workers.child"])
        args = (theirs, self.shared, self.construct, self.numbers[0], self.index, self.name)
        process = CONTEXT.Process(target=child.serve, args=args, daemon=True, name=f"logpi worker {self.index}")
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # inherited: Ctrl-C is ours alone
        try:
            process.start()
        except OSError:
            raise
        except Exception as unknown:  # multiprocessing cannot say where the constructor is to be found
            self.pipe.close()
            raise LogpiError(
                f"--backend async needs an environment that another process can import, and {self.construct!r} is not "
                "a class or function of a module: move it to one, or use --backend sync."
            ) from unknown
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
        self.process = process

    def ask(self, request: bytes, deadline: float) -> None:
        if self.busy and self.failure is None:
            self._give_up("was interrupted")
        if self.failure is None:
            self.busy = True
            with contextlib.suppress(OSError):  # `answer` finds out how it died, or that it does not read
                send(self.pipe, request, deadline)

    def answer(self, deadline: float, seconds: float) -> bytes | EnvironmentFailed:
        """Its answer, once there is one or its process is gone; else how it failed."""
        if self.failure is None:
            try:
                found = receive(self.pipe, deadline)
                self.ready, self.busy = True, False
                return found
            except TimeoutError:
                alive = self.process.exitcode is None
                self._give_up(f"gave no answer for {seconds:g} s" if alive else _end(self.process.exitcode))
            except (EOFError, OSError):
                self.process.join(PATIENCE)
                self._give_up(_end(self.process.exitcode))
        assert self.failure is not None
        return self.failure

    def _give_up(self, how: str) -> None:
        first, last, at = self.numbers[0], self.numbers[-1], int(self.at[self.index])
        its = f"environment {first}" if first == last else f"environments {first} to {last}"
        where = f"at environment {at}" if at != child.IDLE else "between steps"
        cure = "--on-failure restart goes on with a new one"
        if not self.ready and at == child.IDLE:
            where = "before it was ready"
            cure = 'its environment must be importable, and a script needs if __name__ == "__main__"'
        sentence = f"Worker {self.index} ({its} of {self.name}) {how} {where}: {cure}."
        self.failure = EnvironmentFailed(sentence, first if at == child.IDLE else at)
        self.kill()

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process.close()
            self.pipe.close()
            self.process = None


def _end(code: int | None) -> str:
    if code is None:
        return "closed its pipe"
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def ask(
    workers: Sequence[Worker], requests: Sequence[bytes], seconds: float
) -> list[tuple[Worker, bytes | EnvironmentFailed]]:
    """All at once; each has `seconds` for its answer. A dead process is found at once."""
    deadline = time.monotonic() + seconds
    for worker, request in zip(workers, requests, strict=True):
        worker.ask(request, deadline)
    found = [(worker, worker.failure) for worker in workers if worker.failure is not None]
    waiting = {
        x: worker for worker in workers if worker.failure is None for x in (worker.pipe, worker.process.sentinel)
    }
    answers: list[tuple[Worker, bytes | EnvironmentFailed]] = [*found]
    while waiting:
        ready = wait(list(waiting), max(0.0, deadline - time.monotonic()))
        for worker in {waiting[x] for x in ready} or set(waiting.values()):
            waiting = {x: other for x, other in waiting.items() if other is not worker}
            gone = worker.process.sentinel in ready  # so its last words, if any, are here already
            answers.append(
                (worker, worker.answer(min(deadline, time.monotonic() + 0.1) if gone else deadline, seconds))
            )
    return sorted(answers, key=lambda pair: pair[0].index)


def end(workers: list[Worker]) -> None:
    """No process is left: an idle one closes its environments first, others are killed."""
    idle = [worker for worker in workers if worker.process is not None and not worker.busy]
    sentinels = [worker.process.sentinel for worker in idle]
    for worker in idle:
        worker.pipe.close()
    deadline = time.monotonic() + PATIENCE
    while sentinels and time.monotonic() < deadline:
        gone = wait(sentinels, max(0.0, deadline - time.monotonic()))
        sentinels = [x for x in sentinels if x not in gone]
    for worker in workers:
        worker.kill()
