"""Several seeds of one command, as many at a time as there are cores, in threads or in processes; their mean at the end."""

import contextlib
import math
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table

from logpi.errors import LogpiError
from logpi.page import check
from logpi.run.folder import safe, versions
from logpi.run.processes import Process
from logpi.run.setup import Settings, threads
from logpi.run.table import figure, last_row, newest_evaluation, status_of
from logpi.run.threads import Thread, taking_turns, why_not
from logpi.run.train import Options, command

TICK = 0.1  # seconds between looks at the seeds


class Seed(Protocol):
    """One of them, at work or over: a `Thread` or a `Process`."""

    seed: int

    @property
    def run(self) -> Path | None: ...  # its folder, once there is one

    @property
    def stopped(self) -> int: ...  # the signal that ended it; 0: none

    @property
    def wrong(self) -> str: ...  # why it failed, in a sentence; '': it did not

    def ask(self, number: int) -> None: ...  # to stop, by a signal

    def look(self) -> bool: ...  # has it ended?


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


def train(name: str, method: Any, settings: Settings, options: Options) -> None:
    """Seeds settings.seed, settings.seed + 1, ...: a line for each, then mean and interval. A failed one leaves the others be."""
    wanted = range(settings.seed, settings.seed + options.seeds)
    check(Settings(seed=wanted[-1]))
    where = Path(options.out) / safe(settings.where) / safe(name.rpartition(":")[2].lower() or name)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    versions()  # asked for once
    why = "--processes" if options.processes else why_not(name, method, settings, options)
    if why and not (options.processes or options.quiet):
        console.print(f"a process for each seed: {why}")

    over = threading.Event()

    def begin(seed: int) -> Seed:
        return Process(seed, where) if why else Thread(seed, name, method, settings, options, over)

    with contextlib.nullcontext() if why else taking_turns():
        done, number = _all(begin, wanted, settings, console, options.quiet, over)
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


def _all(
    begin: Callable[[int], Seed],
    wanted: range,
    settings: Settings,
    console: Console,
    quiet: bool,
    over: threading.Event,
) -> tuple[list[Seed], int]:
    """(every seed that began, in order, all of them over; the signal that kept others from it, 0: none did).

    `over` may tell that one has ended.
    """
    waiting, done = [*wanted], list[Seed]()
    alive: dict[int, Seed] = {}
    room = max(1, (os.cpu_count() or 1) // threads(settings))
    with Signals(alive) as signals, Live(console=console, transient=True, auto_refresh=False) as live:
        while alive or (waiting and not signals.number):
            while waiting and len(alive) < room and not signals.number:
                seed = waiting.pop(0)
                alive[seed] = begin(seed)
            for seed in [seed for seed, x in alive.items() if x.look()]:
                done.append(alive.pop(seed))
                console.print(_line(done[-1]))
            if console.is_terminal and not quiet:
                live.update(_progress(alive, waiting, settings.steps), refresh=True)
            over.wait(TICK)
            over.clear()
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
