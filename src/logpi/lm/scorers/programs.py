"""Programs that a model writes, against tests, each in a process with limits. NO SANDBOX: run what you would run yourself."""

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from pathlib import Path
from typing import Any

from logpi.errors import LogpiError, short
from logpi.lm.judges import Broken
from logpi.lm.tasks.task import draw

CHILD = Path(__file__).with_name("program.py")
MEMORY = 1024  # MiB of a program, where nothing else is asked for
FILE = 16  # MiB of a file that it writes
BLOCK = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
ALONE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # it may start no threads


class Programs:
    """1 for a program that passes all of its tests, else 0; `failed` for one that met a limit or did not come to its tests.

    Columns: `tests`, for each prompt a list of statements such as 'assert f(2) == 4', or of {'input': ..., 'output': ...};
    `setup`, where there is one, stands before the program. The program is the last block of code, else all that was said.
    """

    name = "code"

    def __init__(self, limit: float = 10.0, memory: int = 0, failed: float = 0.0) -> None:
        self.limit, self.memory, self.failed = limit, memory or MEMORY, failed
        self.failures, self.reason = 0, ""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        self.pool = ThreadPoolExecutor(cores)
        self.running: set[subprocess.Popen[bytes]] = set()

    def __call__(self, prompts: Sequence[Any], completions: Sequence[str], **columns: Sequence[Any]) -> list[float]:
        before = columns.get("setup", [""] * len(completions))
        programs = [f"{x or ''}\n{program_in(said)}" for x, said in zip(before, completions, strict=True)]
        return [self._kept(x) for x in self.pool.map(self._run, programs, map(tests_of, columns["tests"]))]

    def _kept(self, x: float | Broken) -> float:
        if isinstance(x, Broken):
            self.failures, self.reason = self.failures + 1, str(x)
            return self.failed
        return x

    def _run(self, program: str, tests: list[Any]) -> float | Broken:
        secret = secrets.token_hex()
        asked = {"program": program, "tests": tests, "secret": secret, "seconds": ceil(self.limit)}
        request = json.dumps(asked | {"memory": self.memory, "file": FILE}) + "\n"
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            Path(folder).chmod(0o777)  # root's programs are another user's
            try:
                told, code = self._exchange(request.encode(), folder)
            except subprocess.TimeoutExpired:
                return Broken(f"it took more than {self.limit:g} s")
        with contextlib.suppress(ValueError, AttributeError, TypeError):
            found = json.loads(told)
            if found.pop("secret", "") == secret:
                return Broken(found["broken"]) if "broken" in found else float(found["passed"])
        return Broken(f"it was ended by {signal.Signals(-code).name}" if code < 0 else f"it left with exit code {code}")

    def _exchange(self, request: bytes, folder: str) -> tuple[bytes, int]:
        """(what the process told, its exit code); nothing is left of it, or of what it started."""
        pipe, env = subprocess.PIPE, {k: v for k, v in os.environ.items() if k in ("PATH", "LANG")} | ALONE
        process = subprocess.Popen(
            [sys.executable, "-I", str(CHILD)],
            stdin=pipe,
            stdout=pipe,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env=env | {"TMPDIR": folder, "HOME": folder},
            start_new_session=True,
        )
        self.running.add(process)
        try:
            told, _ = process.communicate(request, self.limit)
            return told, process.returncode
        finally:
            end(process)
            self.running.discard(process)

    def must_load(self) -> None:
        """Every program has a process of its own."""

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        for process in [*self.running]:
            end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            pipe.close()  # type: ignore[union-attr]
    process.wait()


def program_in(said: str) -> str:
    """The last fenced block of code, else the whole."""
    blocks = BLOCK.findall(said)
    return blocks[-1] if blocks else said


def tests_of(row: Any) -> list[Any]:
    return [row] if isinstance(row, str) else row


def must_have_tests(task: Any) -> None:
    """Refuse data without a test that can be run; of a task that has no rows one example is looked at."""
    splits = getattr(task, "splits", None) or {"train": [draw(task, "train", 0, 0)]}
    for row in (row for rows in splits.values() for row in rows):
        found = tests_of(row.get("tests"))
        if not isinstance(found, list) or not found or not all(map(is_test, found)):
            raise LogpiError(
                f"The prompt {short(repr(row['prompt']))} has no tests, which the reward code needs: a column with a list of"
                " statements, or of {input, output}."
            )


def is_test(x: Any) -> bool:
    return isinstance(x, str) or (isinstance(x, dict) and all(isinstance(x.get(k), str) for k in ("input", "output")))
