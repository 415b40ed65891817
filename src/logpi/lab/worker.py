"""The one process in which demonstrations compute: one thread, low priority, a quota of seconds, a short queue.

So neither the server nor a training run beside it waits for a picture. Questions and answers are lines of JSON.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, BinaryIO

from logpi.errors import LogpiError

COMMAND = (sys.executable, "-P", "-m", "logpi.lab.worker")
LINE = 16_000_000  # bytes of the longest answer
START = 60.0  # seconds within which a new process is ready: it imports torch
GRACE = 1.0  # seconds that a picture may still take whose reader has left: a new process would take longer to begin
LEFT = 60  # seconds after which a process whose parent has gone ends itself, whatever it computes

Answer = tuple[int, bytes]  # status, JSON


class Worker:
    """`ask` a question; what is over the quota is killed, and the next question finds a new process.

    A question whose asker has gone (its task is cancelled) is never begun, or has `grace` seconds left to end by itself.
    """

    def __init__(
        self, quota: float = 15.0, queue: int = 8, command: Sequence[str] = COMMAND, grace: float = GRACE
    ) -> None:
        self.quota, self.queue, self.command, self.grace = quota, queue, command, grace
        self.lock, self.waiting = asyncio.Lock(), 0
        self.process: asyncio.subprocess.Process | None = None

    async def ask(self, question: dict[str, Any]) -> Answer:
        if self.waiting >= self.queue:
            return told(429, "The lab is busy with other pictures: ask again in a moment.")
        self.waiting += 1
        try:
            async with self.lock:
                return await self._ask(question)
        finally:
            self.waiting -= 1

    async def begin(self) -> None:
        """The process, before it is asked for; where the machine is too busy for that, the first question tries again."""
        async with self.lock:
            try:
                await self._ready()
            except TimeoutError:
                await self.close()

    async def close(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        self.process = None

    async def _ready(self) -> asyncio.subprocess.Process:
        if self.process is not None and self.process.returncode is None:
            return self.process
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *self.command, stdin=pipe, stdout=pipe, limit=LINE, env=environment
        )
        self.process = process
        await asyncio.wait_for(_line(process), START)
        return process

    async def _ask(self, question: dict[str, Any]) -> Answer:
        found = asyncio.ensure_future(self._answer(question))
        try:
            return await asyncio.shield(found)
        except asyncio.CancelledError:
            await asyncio.wait({found}, timeout=self.grace)
            if found.cancel():  # still computing: nobody will read it, and it must not be taken for the next question's
                await self.close()
            raise

    async def _answer(self, question: dict[str, Any]) -> Answer:
        try:
            process = await self._ready()
            assert process.stdin is not None
            process.stdin.write(json.dumps(question).encode() + b"\n")
            line = await asyncio.wait_for(_line(process), self.quota)
        except TimeoutError:
            await self.close()
            return told(504, f"This took more than {self.quota:g} seconds and was stopped: ask for less.")
        except (OSError, ValueError):
            line = b""
        if not line:
            await self.close()
            return told(500, "The lab's worker process has ended: ask again, a new one begins.")
        return int(line[:3]), line[4:-1]


async def _line(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    return await process.stdout.readline()


def told(status: int, sentence: str) -> Answer:
    return status, json.dumps({"error": sentence}).encode()


def main() -> None:
    """The process itself: each line of JSON from standard input is answered by one line, STATUS JSON."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends us
    if hasattr(os, "nice"):
        os.nice(10)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    import torch

    torch.set_num_threads(1)
    one = threading.Lock()
    threading.Thread(target=warm, args=(one,), daemon=True).start()
    serve(sys.stdin.buffer, out, one)


def warm(one: threading.Lock) -> None:
    """Imports what the pages need, beside the first questions; then draws each page once, between two questions."""
    from logpi.lab import demos

    with suppress(ImportError):  # transformers is an extra; its page says what is missing
        for module in ("logpi.lab.little", "transformers.models.gpt2.modeling_gpt2"):
            import_module(module)
    for name in demos.DEMOS:
        with one:
            answered({"name": name, "params": {}, "seed": 0})


def serve(questions: BinaryIO, out: BinaryIO, one: threading.Lock) -> None:
    """One answer at a time: torch's generator belongs to the whole process."""
    out.write(b"ready\n")
    out.flush()
    for line in questions:
        if hasattr(signal, "alarm"):
            signal.alarm(LEFT)
        with one:
            status, text = answered(json.loads(line))
        out.write(b"%d %s\n" % (status, text))
        out.flush()
        if hasattr(signal, "alarm"):
            signal.alarm(0)


def answered(question: dict[str, Any]) -> Answer:
    """A demonstration's numbers, or with `describe` what stands beside them."""
    from logpi.lab import demos

    name = question["name"]
    if name not in demos.DEMOS:
        return told(404, "There is no such page.")
    try:
        found = demos.answer(name, question["params"], question["seed"]) if "seed" in question else demos.describe(name)
        return 200, json.dumps(found, allow_nan=False).encode()
    except LogpiError as wrong:
        return told(400, str(wrong))
    except Exception as wrong:
        return told(500, f"The demonstration {name} failed ({type(wrong).__name__}: {wrong}): this is a bug of logpi.")


if __name__ == "__main__":
    main()
