"""One process, seen from the parent: started, asked, waited for with a deadline, and ended whatever it does."""

import contextlib
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from select import poll
from typing import Any

import gymnasium

from logpi.errors import EnvironmentFailed, LogpiError
from logpi.workers import child, wire
from logpi.workers.pipe import POLLIN, Channel, framed
from logpi.workers.shared import Shared

METHODS = multiprocessing.get_all_start_methods()
CONTEXT: Any = multiprocessing.get_context("forkserver" if "forkserver" in METHODS else "spawn")
PATIENCE = 1.0  # seconds to close, then it is killed
BUILD = -1  # among the groups that a process owes an answer for: it is asked to make environments
WORD = -2  # any other request, asked when nothing is owed


class Worker:
    """Environments `numbers` of `name` in process `index`."""

    def __init__(
        self, index: int, numbers: range, name: str, construct: Callable[[], gymnasium.Env], shared: Shared
    ) -> None:
        self.index, self.numbers, self.name, self.construct, self.shared = index, numbers, name, construct, shared
        self.at = shared.arrays()["at"]
        self.failure: EnvironmentFailed | None = None  # how the process went
        self.ready = False  # it has answered once
        self.owed: deque[int] = deque()  # groups whose step it was asked for, in that order
        self.came: dict[int, bytes] = {}  # answers that nobody has taken yet
        self.since = 0.0  # when it began to owe what it owes longest
        self.process: Any = None
        self.channel: Channel
        self.files: tuple[int, ...] = ()  # readable when there is an answer; when the process is gone

    def start(self) -> None:
        """A new process, in the place of the one before."""
        self.kill()
        (reader, theirs), (their_reader, writer) = CONTEXT.Pipe(duplex=False), CONTEXT.Pipe(duplex=False)
        self.at[self.index], self.failure, self.ready = child.IDLE, None, False
        CONTEXT.set_forkserver_preload(["logpi.workers.child"])
        args = (their_reader, theirs, self.shared, self.construct, self.numbers[0], self.index, self.name)
        process = CONTEXT.Process(target=child.serve, args=args, daemon=True, name=f"logpi worker {self.index}")
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # inherited: Ctrl-C is ours alone
        try:
            process.start()
        except OSError:
            raise
        except Exception as unknown:  # multiprocessing cannot say where the constructor is to be found
            reader.close(), writer.close()
            raise LogpiError(
                f"--backend async needs an environment that another process can import, and {self.construct!r} is not "
                "a class or function of a module: move it to one, or use --backend sync."
            ) from unknown
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close(), their_reader.close()
        self.process, self.channel = process, Channel(reader, writer, process.sentinel)
        self.files = self.channel.reader, process.sentinel

    def ask(self, key: int, request: bytes, deadline: float | None = None) -> None:
        """key: the group that is to step, BUILD or WORD. deadline: None where the request is a `step`."""
        if self.failure is None and (key in self.owed or key in self.came or (key == WORD and self.owed)):
            self._give_up("was interrupted")
        if self.failure is None:
            if not self.owed:
                self.since = time.monotonic()
            self.owed.append(key)
            with contextlib.suppress(OSError):  # `answer` finds out how it died, or that it does not read
                if deadline is None:
                    self.channel.put(request)
                else:
                    self.channel.send(request, deadline)

    def answer(self, key: int, deadline: float, seconds: float) -> bytes | EnvironmentFailed:
        """Its answer, once there is one or its process is gone; else how it failed."""
        try:
            while not self.has(key):
                self._keep(self.channel.receive(deadline))
        except TimeoutError:
            self.silent(seconds)
        except (EOFError, OSError):
            self._gone()
        return self.take(key)

    def look(self, gone: bool) -> None:
        """Keep what it has answered, without waiting. gone: its process is."""
        try:
            before = len(self.owed)
            while (found := self.channel.look()) is not None:
                self._keep(found)
            if gone and len(self.owed) == before:
                self._gone()
        except (EOFError, OSError):
            self._gone()

    def has(self, key: int) -> bool:
        """Is there nothing to wait for?"""
        return key in self.came or self.failure is not None

    def fine(self, key: int) -> bool:
        """Has it done what it was asked, and nothing failed?"""
        return self.failure is None and self.came.get(key) == child.FINE

    def take(self, key: int) -> bytes | EnvironmentFailed:
        return self.came.pop(key) if self.failure is None else self.failure

    def _keep(self, found: bytes) -> None:
        self.came[self.owed.popleft()] = found
        self.ready, self.since = True, time.monotonic()

    def silent(self, seconds: float) -> None:
        """It has owed an answer for so long that nothing more is expected of it."""
        alive = self.process.exitcode is None
        self._give_up(f"gave no answer for {seconds:g} s" if alive else _end(self.process.exitcode))

    def _gone(self) -> None:
        self.process.join(PATIENCE)
        self._give_up(_end(self.process.exitcode))

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
        self.owed.clear()
        self.came.clear()
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.process.close()
            self.channel.close()
            self.process, self.files = None, ()


class Watch:
    """Looks after several workers at once."""

    def __init__(self, workers: Sequence[Worker]) -> None:
        self.workers, self.files = workers, list[tuple[int, ...]]()

    def wait(self, seconds: float) -> None:
        """Until one has answered or is gone. Who has owed an answer for `seconds` is given up."""
        self._follow()
        longest = min((worker.since for worker in self.workers if worker.owed), default=0.0)
        ready = {file for file, _ in self.poll.poll(1000 * max(0.0, longest + seconds - time.monotonic()))}
        for worker, files in zip(self.workers, self.files, strict=True):
            if not ready.isdisjoint(files):
                worker.look(gone=files[1] in ready)
            elif not ready and worker.owed and worker.since <= time.monotonic() - seconds:
                worker.silent(seconds)

    def _follow(self) -> None:
        """Processes that are new, or no more."""
        files = [worker.files for worker in self.workers]
        if files != self.files:
            self.files, self.poll = files, poll()
            for file in (file for pair in files for file in pair):
                self.poll.register(file, POLLIN)


def _end(code: int | None) -> str:
    if code is None:
        return "closed its pipe"
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def step(rows: range) -> bytes:
    """The request to step these environments: shorter than any other."""
    return framed(child.STEP.pack(rows.start, rows.stop))


def ask(
    workers: Sequence[Worker], requests: Sequence[bytes], seconds: float, key: int = WORD
) -> list[tuple[Worker, bytes | EnvironmentFailed]]:
    """All at once; each has `seconds` for its answer."""
    deadline = time.monotonic() + seconds
    for worker, request in zip(workers, requests, strict=True):
        worker.ask(key, request, deadline)
    return [(worker, worker.answer(key, deadline, seconds)) for worker in workers]


def end(workers: list[Worker]) -> None:
    """No process is left: an idle one closes its environments first, others are killed."""
    idle = [worker for worker in workers if worker.process is not None and not worker.owed]
    sentinels = [worker.process.sentinel for worker in idle]
    for worker in idle:
        worker.channel.close()
    deadline = time.monotonic() + PATIENCE
    while sentinels and time.monotonic() < deadline:
        gone = wait(sentinels, max(0.0, deadline - time.monotonic()))
        sentinels = [x for x in sentinels if x not in gone]
    for worker in workers:
        worker.kill()


def failures_in(answer: bytes | EnvironmentFailed) -> list[EnvironmentFailed]:
    """What an answer says has failed: in environments, or their whole process."""
    if isinstance(answer, EnvironmentFailed):
        return [answer]
    return [EnvironmentFailed(*x) for x in wire.decode(answer)["failed"]] if answer else []
