"""Several seeds of one command: a process for each, as many at a time as there are cores, and their mean at the end."""

import json
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import IO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from logpi.errors import LogpiError
from logpi.page import check
from logpi.run.folder import safe
from logpi.run.setup import Settings
from logpi.run.table import figure, last_row, newest_evaluation, status_of
from logpi.run.train import Options, command

TICK = 0.1  # seconds between looks at the processes
STOPPED = {130, 143, -signal.SIGINT, -signal.SIGTERM}  # exit codes after a signal, in order or at once


class Child:
    """One seed's process, its run folder once it has one, and what it says when something is wrong."""

    def __init__(self, seed: int, where: Path) -> None:
        self.seed, self.where = seed, where
        self.run: Path | None = None
        self.before = set(self._folders())
        self.lines: list[str] = []
        self.said: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        own = ["--seed", str(seed), "--seeds", "1", "--quiet"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "logpi", *(a for a in sys.argv[1:] if a != "--debug"), *own],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.said,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            process_group=0,  # Ctrl-C is passed on by the parent, once
        )

    def look(self) -> int | None:
        """The exit code, None while it runs."""
        code = self.process.poll()
        self.run = self.run or self._own()
        if code is not None and not self.said.closed:
            with self.said:
                self.said.seek(0)
                self.lines = [line for line in self.said.read().splitlines() if line.strip()]
        return code

    @property
    def stopped(self) -> bool:
        return self.process.returncode in STOPPED

    def sentence(self) -> str:
        """Its last, once it has ended."""
        if not self.lines:
            return f"its process ended with {self.process.returncode}"
        return self.lines[-1].removeprefix("logpi: ")

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


class Signals:
    """While it is entered, SIGINT and SIGTERM go to the children, which save and stop; `number` is the first that came."""

    def __init__(self, alive: dict[int, Child]) -> None:
        self.alive, self.number = alive, 0

    def __enter__(self) -> "Signals":
        self.handlers = {n: signal.signal(n, self._pass_on) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        for child in self.alive.values():  # only after an error of this process
            child.process.terminate()

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number
        for child in [*self.alive.values()]:
            child.process.send_signal(number)


def train(name: str, settings: Settings, options: Options) -> None:
    """Seeds settings.seed, settings.seed + 1, ...: a line for each, then mean and interval. A failed one leaves the others be."""
    wanted = range(settings.seed, settings.seed + options.seeds)
    check(Settings(seed=wanted[-1]))
    where = Path(options.out) / safe(settings.env) / safe(name.rpartition(":")[2].lower() or name)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    done = _all(wanted, where, settings, console, options.quiet)
    runs = [child.run for child in done if child.process.returncode == 0 and child.run is not None]
    if runs:
        console.print(_summary(runs))
        picture = _picture(runs, where, wanted) if options.plot and len(runs) > 1 else None
        drawn = f"  (drawn: {picture})" if picture else ""
        console.print(f"next: {command()} plot {' '.join(map(str, runs))}{drawn}")
    stopped = [child for child in done if child.stopped]
    for child in stopped:
        if child.run is not None:
            console.print(f"next: {command()} resume {child.run}")
    if stopped:
        raise SystemExit(max(abs(c.process.returncode) % 128 for c in stopped) + 128)
    failed = [child.seed for child in done if child.process.returncode]
    if failed:
        raise LogpiError(f"{len(failed)} of {len(wanted)} seeds failed ({', '.join(map(str, failed))}): see above.")


def _all(wanted: range, where: Path, settings: Settings, console: Console, quiet: bool) -> list[Child]:
    """Run every seed; the processes in the order of their seeds, those that a signal left unbegun not among them."""
    waiting, done = [*wanted], []
    alive: dict[int, Child] = {}
    room = max(1, (os.cpu_count() or 1) // settings.threads)
    with Signals(alive) as signals, Live(console=console, transient=True, auto_refresh=False) as live:
        while alive or (waiting and not signals.number):
            while waiting and len(alive) < room and not signals.number:
                child = Child(waiting.pop(0), where)
                alive[child.seed] = child
            for seed in [seed for seed, child in alive.items() if child.look() is not None]:
                done.append(alive.pop(seed))
                console.print(_line(done[-1]))
            if console.is_terminal and not quiet:
                live.update(_progress(alive, waiting, settings.steps), refresh=True)
            time.sleep(TICK)
    return sorted(done, key=lambda child: child.seed)


def _line(child: Child) -> str:
    run = child.run
    head = f"seed {child.seed:<4}"
    if child.stopped:
        return f"{head}stopped   {run or 'before it had begun'}"
    if child.process.returncode or run is None:
        return f"{head}failed: {child.sentence()}"
    evaluated = newest_evaluation(run).get("deterministic")
    told = f"evaluation {figure(evaluated['mean'])}   " if evaluated else ""
    return f"{head}return {figure(last_row(run).get('return'))}   {told}{status_of(run)['state']}   {run}"


def _progress(alive: dict[int, Child], waiting: list[int], steps: int) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2))
    for child in alive.values():
        try:
            row = last_row(child.run) if child.run else {}
        except ValueError:
            row = {}
        table.add_row(
            f"seed {child.seed}", f"{row.get('steps', 0):,} of {steps:,}", f"return {figure(row.get('return'))}"
        )
    if waiting:
        table.add_row(f"{len(waiting)} more wait", "", "")
    return table


def _summary(runs: list[Path]) -> str:
    """Mean over seeds ± 1.96 standard errors of the last returns, and of the evaluations where there are some."""
    returns = [last_row(run).get("return") for run in runs]
    found = [x for run in runs if (x := newest_evaluation(run).get("deterministic"))]
    parts = [f"return {_mean(returns)}"] + (
        [f"evaluation {_mean([x['mean'] for x in found])}"] if len(found) == len(runs) else []
    )
    if len(runs) == 1:
        return f"1 seed: {', '.join(parts)}"
    return f"{len(runs)} seeds: {', '.join(parts)} (mean ± 95 % interval over seeds)"


def _mean(values: list[float | None]) -> str:
    known = [x for x in values if x is not None]
    if len(known) < 2:
        return figure(known[0] if known else None)
    return f"{figure(statistics.fmean(known))} ± {figure(1.96 * statistics.stdev(known) / math.sqrt(len(known)))}"


def _picture(runs: list[Path], where: Path, wanted: range) -> Path | None:
    from logpi.run.plot import plot

    try:
        return plot(runs, where / f"seeds-{wanted[0]}-{wanted[-1]}-{time.strftime('%Y%m%d-%H%M%S')}.png")
    except LogpiError:
        return None
