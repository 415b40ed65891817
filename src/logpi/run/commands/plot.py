"""logpi plot RUN [RUN ...]"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from logpi.errors import LogpiError
from logpi.run.flags import parse
from logpi.run.plot import plot


@dataclass
class Plot:
    """Learning curves in one picture. Runs that differ in the seed only are one curve: their mean and its 95 % bootstrap
    interval, the runs thin behind (of two runs of one seed, the newest)."""

    runs: tyro.conf.Positional[tuple[Path, ...]]  # run folders, or folders that hold runs
    out: Path = Path("curves.png")  # .png or .svg
    x: Literal["steps", "seconds", "iteration"] = "steps"  # along the x-axis
    y: str = "return"  # any name in metrics.jsonl
    each: bool = False  # every run by itself


def main(args: list[str]) -> None:
    given = parse(Plot, args, "logpi plot")
    if not given.runs:
        raise LogpiError("logpi plot needs at least one run folder.")
    print(plot(given.runs, given.out, given.x, given.y, given.each))
