"""Processes that carry out commands of logpi, one after another: torch is imported and kernels are loaded once for all of them.

A command, its words, comes to standard input as a line of JSON; its exit code and what it printed go back the same way.
"""

import contextlib
import io
import json
import os
import select
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from typing import IO, Self


class Process:
    """One of them, seen from outside."""

    def __init__(self, alone: bool = False) -> None:
        """alone: Ctrl-C in the terminal does not reach it."""
        self.errors: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "logpi.run.processes"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=os.environ | ({"OMP_NUM_THREADS": "1"} if alone else {}) | {"PYTHONIOENCODING": "utf-8"},
            process_group=0 if alone else None,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.orders, self.replies = self.process.stdin, self.process.stdout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """It has nothing to lose: whatever a command keeps is on disk."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.orders, self.replies, self.errors):
            with contextlib.suppress(OSError):  # words that a dead process did not take
                pipe.close()

    def begin(self, words: Sequence[str]) -> None:
        """Hand it a command; `answer` has its end."""
        self.errors.seek(0)
        self.errors.truncate()
        with contextlib.suppress(BrokenPipeError):  # it has died: `answer` says so
            self.orders.write(json.dumps([*words]).encode() + b"\n")
            self.orders.flush()

    def answer(self, timeout: float | None = None) -> tuple[int, str] | None:
        """(the exit code, what was printed), or (that of the process, '') where it died; None: nothing within `timeout` seconds."""
        if not select.select([self.replies], [], [], timeout)[0]:
            return None
        if line := self.replies.readline():
            code, printed = json.loads(line)
            return code, printed
        return self.process.wait(), ""

    def carry_out(self, words: Sequence[str]) -> tuple[int, str]:
        """Its exit code, and what it printed."""
        self.begin(words)
        found = self.answer()
        assert found is not None
        return found

    def complaints(self) -> list[str]:
        """The lines that the last command wrote to standard error."""
        self.errors.seek(0)
        return [line for line in self.errors.read().splitlines() if line.strip()]


def wait(processes: Sequence[Process], timeout: float) -> None:
    """Until one of them has answered, or `timeout` seconds have passed."""
    select.select([x.replies for x in processes], [], [], timeout)


_serving = False
_other: Process | None = None


@contextlib.contextmanager
def another() -> Iterator[Process]:
    """A process that has nothing of this one. Where this one serves itself, it is kept for the next command."""
    global _other
    _other, process = None, _other or Process()
    with contextlib.ExitStack() as last:
        last.enter_context(process)
        yield process
        if _serving and process.process.poll() is None:
            last.pop_all()
            _other = process


def serve() -> None:
    """The process itself, until there are no more commands."""
    global _serving
    _serving = True
    orders, replies = _apart(0, "r"), _apart(1, "w")
    from logpi.run.cli import main

    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        for line in orders:
            sys.argv = ["logpi", *json.loads(line)]
            printed = io.StringIO()
            code = 0
            with contextlib.redirect_stdout(printed):
                try:
                    main()
                except SystemExit as end:
                    code = end.code if isinstance(end.code, int) else 0
                except Exception:
                    traceback.print_exc()
                    code = 1
            print(json.dumps([code, printed.getvalue()]), file=replies, flush=True)
    os._exit(0)  # torch takes a second to leave


def _apart(number: int, mode: str) -> IO[str]:
    """A standard stream that only the parent is at the other end of; what runs here finds nothing in its place."""
    stream = os.fdopen(os.dup(number), mode, encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, number)
    os.close(nothing)
    return stream


if __name__ == "__main__":
    from logpi.run import processes  # under its own name, by which the rest of logpi knows it

    processes.serve()
