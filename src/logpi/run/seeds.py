"""Several seeds of one command, as many processes at a time as there are cores, each with seeds in turn; their mean at the end."""

import contextlib
import dataclasses
import json
import math
import os
import signal
import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from logpi.envs import NATIVE
from logpi.errors import LogpiError
from logpi.page import check
from logpi.run import language
from logpi.run.folder import safe, versions
from logpi.run.language import Text
from logpi.run.paths import is_path
from logpi.run.processes import Process, wait
from logpi.run.setup import Settings, threads
from logpi.run.table import figure, last_row, newest_evaluation, status_of
from logpi.run.train import Options, command

TICK = 0.1  # seconds between looks at the seeds
STOPPED = {130, 143, -signal.SIGINT, -signal.SIGTERM}  # exit codes after a signal, in order or at once


class Seed:
    """One of them, in a process that trains it.

    `run` is its folder, once there is one; `stopped` the signal that ended it, `wrong` the sentence of its failure.
    """

    def __init__(self, seed: int, process: Process, where: Path) -> None:
        self.seed, self.process, self.where = seed, process, where
        self.run: Path | None = None
        self.code: int | None = None
        self.stopped, self.wrong = 0, ""
        self.before = set(self._folders())
        process.begin([*(a for a in sys.argv[1:] if a != "--debug"), *f"--seed {seed} --seeds 1 --quiet".split()])

    def ask(self, number: int) -> None:
        """To stop, by a signal."""
        self.process.process.send_signal(number)

    def look(self) -> bool:
        """Has it ended?"""
        if self.code is None and (answer := self.process.answer(0)):
            self.code, _ = answer
            self.stopped = abs(self.code) % 128 if self.code in STOPPED else 0
            self.wrong = self._why() if self.code and not self.stopped else ""
        self.run = self.run or self._own()
        return self.code is not None

    def _why(self) -> str:
        lines = self.process.complaints()
        return lines[-1].removeprefix("logpi: ") if lines else f"its process ended with {self.code}"

    def _folders(self) -> list[Path]:
        return [*self.where.glob(f"{self.seed}-*")]

    def _own(self) -> Path | None:
        """The new folder whose lock has the process's number; once this has ended, the new folder."""
        new = sorted(set(self._folders()) - self.before)
        for run in new:
            try:
                if json.loads((run / "lock").read_text())["pid"] == self.process.process.pid:
                    return run
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return new[0] if new and self.code is not None else None


class Signals:
    """While it is entered, SIGINT and SIGTERM reach the seeds, which save and stop; `number` is the first that came."""

    def __init__(self, alive: dict[int, Seed]) -> None:
        self.alive, self.number = alive, 0

    def __enter__(self) -> "Signals":
        self.handlers = {n: signal.signal(n, self._pass_on) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        for seed in self.alive.values() if not self.number else ():  # only after an error of ours
            seed.ask(signal.SIGTERM)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number
        for seed in [*self.alive.values()]:
            seed.ask(number)


def train(name: str, method: Any, settings: Settings | Text, options: Options) -> None:
    """Seeds settings.seed, settings.seed + 1, ...: a line for each, then mean and interval. A failed one leaves the others be."""
    wanted = range(settings.seed, settings.seed + options.seeds)
    check(dataclasses.replace(settings, seed=wanted[-1]))
    where = Path(options.out) / safe(settings.where) / safe(name.rpartition(":")[2].lower() or name)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    versions()  # asked for once
    done, number = _all(wanted, where, settings, clean(name, settings, options), console, options.quiet)
    runs = [x.run for x in done if not x.stopped and not x.wrong and x.run is not None]
    if runs:
        console.print(_summary(runs))
        picture = _picture(runs, where, wanted) if options.plot and len(runs) > 1 else None
        drawn = f"  (drawn: {picture})" if picture else ""
        console.print(f"next: {command()} plot {' '.join(map(str, runs))}{drawn}")
    for x in done:
        if x.stopped and x.run is not None:
            console.print(f"next: {command()} resume {x.run}")
    if len(done) < len(wanted):
        console.print(f"not begun: {', '.join(map(str, wanted[len(done) :]))}")
    if number := max([number, *(x.stopped for x in done)]):
        raise SystemExit(128 + number)
    failed = [x.seed for x in done if x.wrong]
    if failed:
        raise LogpiError(f"{len(failed)} of {len(wanted)} seeds failed ({', '.join(map(str, failed))}): see above.")


def clean(name: str, settings: Settings | Text, options: Options) -> bool:
    """May a process that has trained one seed train another? Not where it may hold something that is not ours."""
    if isinstance(settings, Text) or settings.wrap or options.track:
        return False
    own = any(is_path(path) for path in (name, settings.env, settings.network or ""))
    return not own and settings.env in NATIVE and settings.backend in ("auto", "native")


def _all(
    wanted: Iterable[int], where: Path, settings: Any, again: bool, console: Console, quiet: bool
) -> tuple[list[Seed], int]:
    """(every seed that began, in order, all of them over; the signal that kept others from it, 0: none did).

    again: a process takes one seed after another.
    """
    waiting, done, free = [*wanted], list[Seed](), list[Process]()
    alive: dict[int, Seed] = {}
    each = language.threads(settings) if isinstance(settings, Text) else threads(settings)
    room = max(1, (os.cpu_count() or 1) // each)
    with (
        contextlib.ExitStack() as processes,
        Signals(alive) as signals,
        Live(console=console, transient=True, auto_refresh=False) as live,
    ):
        while alive or (waiting and not signals.number):
            while waiting and len(alive) < room and not signals.number:
                process = free.pop() if free else processes.enter_context(Process(alone=True))
                seed = waiting.pop(0)
                alive[seed] = Seed(seed, process, where)
            for seed in [seed for seed, x in alive.items() if x.look()]:
                done.append(alive.pop(seed))
                console.print(_line(done[-1]))
                if again and done[-1].process.process.poll() is None:
                    free.append(done[-1].process)
            if console.is_terminal and not quiet:
                live.update(_progress(alive, waiting, settings.steps), refresh=True)
            wait([x.process for x in alive.values()], TICK)
    return sorted(done, key=lambda x: x.seed), signals.number if waiting else 0


def _line(x: Seed) -> str:
    head = f"seed {x.seed:<4}"
    if x.stopped:
        return f"{head}stopped   {x.run or 'before it had begun'}"
    if x.wrong or x.run is None:
        return f"{head}failed: {x.wrong}"
    evaluated = newest_evaluation(x.run).get("deterministic")
    told = f"evaluation {figure(evaluated['mean'])}   " if evaluated else ""
    return f"{head}return {figure(last_row(x.run).get('return'))}   {told}{status_of(x.run)['state']}   {x.run}"


def _progress(alive: dict[int, Seed], waiting: list[int], steps: int) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2))
    for x in alive.values():
        try:
            row = last_row(x.run) if x.run else {}
        except ValueError:
            row = {}
        table.add_row(f"seed {x.seed}", f"{row.get('steps', 0):,} of {steps:,}", f"return {figure(row.get('return'))}")
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
