"""logpi track RUN [RUN ...] --to VIEW"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from logpi.errors import LogpiError
from logpi.run import track
from logpi.run.flags import parse
from logpi.run.table import runs_of


@dataclass
class Track:
    """TensorBoard, W&B (offline) or trackio, made from metrics.jsonl after the fact."""

    runs: tyro.conf.Positional[tuple[Path, ...]]  # run folders, or folders that hold runs
    to: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ("tensorboard",)  # one or several


def main(args: list[str]) -> None:
    given = parse(Track, args, "logpi track")
    if not given.runs:
        raise LogpiError("logpi track needs at least one run folder.")
    if not given.to:
        raise LogpiError("logpi track needs a view: --to tensorboard, wandb or trackio.")
    for run in runs_of(list(given.runs)):
        track.open(given.to, run, math.inf).close()
        for name in given.to:
            print(f"{run}: {track.where(name, run)}")
