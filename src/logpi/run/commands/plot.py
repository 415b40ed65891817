"""logpi plot RUN [RUN ...]"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from logpi.errors import LogpiError
from logpi.run.flags import parse
from logpi.run.plot import plot


@dataclass
class Plot:
    """Learning curves of runs in one picture."""

    runs: tyro.conf.Positional[tuple[Path, ...]]  # run folders
    out: Path = Path("curves.png")  # .png or .svg
    x: str = "steps"  # steps, seconds or iteration
    y: str = "return"  # any name in metrics.jsonl


def main(args: list[str]) -> None:
    given = parse(Plot, args, "logpi plot")
    if not given.runs:
        raise LogpiError("logpi plot needs at least one run folder.")
    print(plot(list(given.runs), given.out, given.x, given.y))
