"""A process for each of several seeds: whatever it runs, nothing of it is shared."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

STOPPED = {130, 143, -signal.SIGINT, -signal.SIGTERM}  # exit codes after a signal, in order or at once


class Process:
    """One seed's process, its run folder once it has one, and what it says when something is wrong."""

    def __init__(self, seed: int, where: Path) -> None:
        self.seed, self.where = seed, where
        self.run: Path | None = None
        self.before = set(self._folders())
        self.lines: list[str] = []
        self.said: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "logpi", *typed(seed)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.said,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            process_group=0,  # Ctrl-C is passed on by the parent, once
        )

    def ask(self, number: int) -> None:
        """It gets this signal."""
        self.process.send_signal(number)

    def look(self) -> bool:
        """Has it ended?"""
        ended = self.process.poll() is not None
        self.run = self.run or self._own()
        if ended and not self.said.closed:
            with self.said:
                self.said.seek(0)
                self.lines = [line for line in self.said.read().splitlines() if line.strip()]
        return ended

    @property
    def stopped(self) -> int:
        """The signal that ended it, 0: none."""
        return abs(self.process.returncode) % 128 if self.process.returncode in STOPPED else 0

    @property
    def wrong(self) -> str:
        """Its last sentence, where it has failed."""
        if not self.process.returncode or self.stopped:
            return ""
        return (
            self.lines[-1].removeprefix("logpi: ")
            if self.lines
            else f"its process ended with {self.process.returncode}"
        )

    def _folders(self) -> list[Path]:
        return [*self.where.glob(f"{self.seed}-*")]

    def _own(self) -> Path | None:
        """The new folder whose lock has this process's number; once that has ended, the new folder."""
        new = sorted(set(self._folders()) - self.before)
        for run in new:
            try:
                if json.loads((run / "lock").read_text())["pid"] == self.process.pid:
                    return run
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return new[0] if new and self.process.returncode is not None else None


def typed(seed: int) -> list[str]:
    """The command line of one of the seeds."""
    return [*(a for a in sys.argv[1:] if a != "--debug"), "--seed", str(seed), "--seeds", "1", "--quiet"]
