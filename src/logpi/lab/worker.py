"""The one process in which demonstrations compute: one thread, low priority, a quota of seconds, a short queue.

So neither the server nor a training run beside it waits for a picture. Questions and answers are lines of JSON.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

from logpi.errors import LogpiError

COMMAND = (sys.executable, "-P", "-m", "logpi.lab.worker")
LINE = 16_000_000  # bytes of the longest answer
START = 60.0  # seconds within which a new process is ready: it imports torch
LEFT = 60  # seconds after which a process whose parent has gone ends itself, whatever it computes

Answer = tuple[int, bytes]  # status, JSON


class Worker:
    """`ask` a question; what is over the quota is killed, and the next question finds a new process."""

    def __init__(self, quota: float = 15.0, queue: int = 8, command: Sequence[str] = COMMAND) -> None:
        self.quota, self.queue, self.command = quota, queue, command
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
        """The process, before it is asked for."""
        async with self.lock:
            await self._ready()

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
        except BaseException:  # nobody will read the answer: it must not be taken for that to the next question
            await self.close()
            raise
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
    serve(sys.stdin.buffer, out)


def serve(questions: BinaryIO, out: BinaryIO) -> None:
    out.write(b"ready\n")
    out.flush()
    for line in questions:
        if hasattr(signal, "alarm"):
            signal.alarm(LEFT)
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
