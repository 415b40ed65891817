"""The live display, and plain lines where there is no terminal."""

import time

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from logpi.loop import Record

SHOWN = {
    "return": "return (last 100)",
    "length": "episode length",
    "kl": "KL(old || new)",
    "kl_ref": "KL(old || reference)",
    "clip_fraction": "clip fraction",
    "entropy": "entropy",
    "explained_variance": "explained variance",
    "grad_norm": "gradient norm",
    "reward_failures": "rewards that failed",
    "eval_return": "return (evaluated)",
}


class Display:
    """Shows each record: steps per second, time left, return, KL, clip fraction, entropy, explained variance."""

    def __init__(self, title: str, horizon: int, start: int = 0, quiet: bool = False, every: float = 2.0) -> None:
        self.title, self.horizon, self.start, self.quiet, self.every = title, horizon, start, quiet, every
        self.console = Console(highlight=False)
        self.began = self.said = time.perf_counter()
        fancy = self.console.is_terminal and not quiet
        self.live = Live(console=self.console, refresh_per_second=8, transient=True) if fancy else None

    def __enter__(self) -> "Display":
        self.say(self.title)
        if self.live is not None:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def say(self, line: str) -> None:
        """A line that stays, above the live table."""
        if line and not self.quiet:
            self.console.print(line, markup=False, soft_wrap=True)

    def show(self, record: Record) -> None:
        now = time.perf_counter()
        speed = (record.steps - self.start) / max(now - self.began, 1e-9)
        if self.live is not None:
            self.live.update(self._table(record, speed))
        elif not self.quiet and now - self.said >= self.every:
            self.said = now
            figures = "  ".join(f"{name} {record.metrics[name]:.3g}" for name in SHOWN if name in record.metrics)
            self.console.print(
                f"{record.steps:>9,} steps  {speed:,.0f}/s  {self._left(record, speed)} left  {figures}", soft_wrap=True
            )

    def _left(self, record: Record, speed: float) -> str:
        seconds = int(max(0, self.horizon - record.steps) / speed)
        return f"{seconds // 60}:{seconds % 60:02d}"

    def _table(self, record: Record, speed: float) -> Table:
        table = Table(show_header=False, box=None, padding=(0, 2))
        done = f"{record.steps:,} of {self.horizon:,} steps"
        table.add_row(done, ProgressBar(total=self.horizon, completed=record.steps, width=30))
        table.add_row("steps per second", f"{speed:,.0f}   ({self._left(record, speed)} left)")
        for name, label in SHOWN.items():
            if name in record.metrics:
                table.add_row(label, f"{record.metrics[name]:.4g}")
        return table
