"""Rewards of the user's, in processes that can be killed: what hangs, dies or eats memory costs its own reward alone."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from logpi.errors import LogpiError

PATIENCE = 4  # times the limit that all questions of one batch may take together
LOADING = 60.0  # seconds until a function is there


class Broken(Exception):  # noqa: N818
    """A reward function did not give what was asked for, in words."""


class Misshapen(Broken):
    """It returned no list with one number for each completion: of the whole batch, for a half might fit by chance."""


class Judge:
    """One function, or a task's reward, in one process. `failed` stands for what it could not say; how often, and why, is kept."""

    def __init__(
        self, path: str, limit: float = 10.0, memory: int = 0, failed: float = 0.0, name: str | None = None
    ) -> None:
        self.path, self.limit, self.failed = path, limit, failed
        self.words = [path, str(memory)]
        self.process: subprocess.Popen[bytes] | None = None
        self.got = b""
        self.failures, self.reason = 0, ""
        self.name = name or path.rpartition(":")[2]

    @classmethod
    def of_task(cls, path: str, level: int | None, *how: Any) -> "Judge":
        """The reward of a task of the user's at its difficulty."""
        made = cls(path, *how)
        made.name = f"of {made.name}"
        made.words.append(json.dumps(level))
        return made

    def must_load(self) -> None:
        """Refuse what cannot be loaded, before it is asked anything."""
        try:
            self._started()
        except Broken as wrong:
            raise LogpiError(f"The reward {self.path} cannot be loaded: {wrong}.") from wrong

    def __call__(self, prompts: Sequence[str], completions: Sequence[str], **columns: Sequence[Any]) -> list[float]:
        """A reward for each completion; a batch that raises, hangs or dies is asked again in halves, to find who is to blame."""
        self.until = time.monotonic() + PATIENCE * self.limit
        return self._ask([*prompts], [*completions], {k: [*v] for k, v in columns.items()})

    def _ask(self, prompts: list[str], completions: list[str], columns: dict[str, list[Any]]) -> list[float]:
        try:
            if time.monotonic() > self.until:
                raise Broken(self.reason or "too slow")
            return self._once(prompts, completions, columns)
        except Broken as wrong:
            self.reason, whole = str(wrong), isinstance(wrong, Misshapen)
        if whole or len(completions) == 1 or time.monotonic() > self.until:
            self.failures += len(completions)
            return [self.failed] * len(completions)
        half = len(completions) // 2
        parts = (slice(None, half), slice(half, None))
        return [
            x for at in parts for x in self._ask(prompts[at], completions[at], {k: v[at] for k, v in columns.items()})
        ]

    def _once(self, prompts: list[str], completions: list[str], columns: dict[str, list[Any]]) -> list[float]:
        request = {"prompts": prompts, "completions": completions, "columns": columns}
        told = self._exchange(encoded(request))
        if "error" in told:
            raise Broken(told["error"])
        if "shape" in told:
            raise Misshapen(told["shape"])
        return [self._kept(x) for x in told["rewards"]]

    def _kept(self, x: float | str) -> float:
        """A number; what stands for it where there are words in its place."""
        if isinstance(x, str):
            self.failures, self.reason = self.failures + 1, x
            return self.failed
        return x

    def _exchange(self, request: bytes) -> dict[str, Any]:
        return self._line(self._started(), request, self.limit)

    def _line(self, process: "subprocess.Popen[bytes]", request: bytes, seconds: float) -> dict[str, Any]:
        """Its next line, after a request."""
        deadline = time.monotonic() + seconds
        assert process.stdin is not None and process.stdout is not None
        writer, reader = process.stdin.fileno(), process.stdout.fileno()
        os.set_blocking(writer, False)
        try:
            while b"\n" not in self.got:
                wanted = [writer] if request else []
                readable, writable, _ = select.select([reader], wanted, [], max(0.0, deadline - time.monotonic()))
                if not readable and not writable:
                    self.close()
                    raise Broken(f"it took more than {seconds:g} s")
                if writable:
                    request = request[os.write(writer, request[: select.PIPE_BUF]) :]
                if readable:
                    part = os.read(reader, 1 << 16)
                    if not part:
                        raise BrokenPipeError
                    self.got += part
        except BrokenPipeError as gone:
            with contextlib.suppress(subprocess.TimeoutExpired):  # it may have closed its pipe alone
                process.wait(1.0)
            code = process.returncode
            self.close()
            raise Broken(f"its process ended (exit code {code})") from gone
        line, _, self.got = self.got.partition(b"\n")
        told: dict[str, Any] = json.loads(line)
        return told

    def _started(self) -> "subprocess.Popen[bytes]":
        if self.process is None:
            command = [sys.executable, "-m", "logpi.lm.judge", *self.words]
            self.got = b""
            pipe = subprocess.PIPE
            # a session of its own: Ctrl-C is ours alone, and what it starts ends with it
            self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, start_new_session=True)
            told = self._line(self.process, b"", LOADING)
            if "error" in told:
                self.close()
                raise Broken(told["error"])
        return self.process

    def close(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            for pipe in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]
            self.process.wait()
            self.process = None


def encoded(request: dict[str, Any]) -> bytes:
    """A request as a line of JSON; a column that has something else is refused."""
    try:
        return json.dumps(request).encode() + b"\n"
    except TypeError as wrong:
        names = [name for name, column in request["columns"].items() if not is_json(column)]
        raise LogpiError(
            f"The column {names[0] if names else 'prompt'} has what JSON cannot hold ({wrong}), and a reward gets its columns"
            " as JSON: make it text or numbers."
        ) from wrong


def is_json(x: Any) -> bool:
    try:
        json.dumps(x)
    except TypeError:
        return False
    return True
