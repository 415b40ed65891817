"""logpi runs [FOLDER]"""

import json as json_room
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from logpi.errors import LogpiError, nearest
from logpi.run.flags import parse
from logpi.run.folder import STATES
from logpi.run.table import ago, figure, find, ordered, plain, summary

BEGIN = "begin one with logpi train ppo --env CartPole-v1."


@dataclass
class Runs:
    """The runs in a folder, newest first."""

    folder: tyro.conf.Positional[Path] = Path("runs")  # looked through with all that is in it
    env: str | None = None  # only runs of this environment
    method: str | None = None  # only runs of this method
    state: str | None = None  # running, finished, solved, stopped, failed, interrupted or unreadable
    sort: Literal["age", "return", "steps", "env", "method", "seed", "state"] = "age"  # return, steps: highest first
    reverse: bool = False  # the other way round
    json: bool = False  # one object a line, for scripts; age is in seconds


def main(args: list[str]) -> None:
    given = parse(Runs, args, "logpi runs")
    states = (*STATES, "unreadable")
    if given.state is not None and given.state not in states:
        raise LogpiError(f"There is no state {given.state!r}.{nearest(given.state, states)}")
    if not given.folder.is_dir() and given.folder != Path("runs"):
        raise LogpiError(f"There is no folder {plain(str(given.folder))}: give one that holds runs.")
    runs = [summary(run, time.time()) for run in find(given.folder)] if given.folder.is_dir() else []
    where = plain(str(given.folder))
    if not runs and not given.json:
        print(f"There is no run in {where} yet: {BEGIN}")
        return
    for field in ("env", "method"):
        wanted, known = getattr(given, field), {run[field] for run in runs}
        if wanted is not None and runs and wanted not in known:
            raise LogpiError(f"No run in {where} has the {field} {wanted!r}.{nearest(wanted, map(plain, known))}")
    chosen = [r for r in runs if all(getattr(given, f) in (None, r[f]) for f in ("env", "method", "state"))]
    chosen = ordered(chosen, given.sort, given.reverse)
    if given.json:
        for run in chosen:
            print(json_room.dumps(run))
    elif chosen:
        show(chosen)
    else:
        print(f"No run of {len(runs)} in {where} is all that was asked for.")


def show(runs: list[dict]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("env", "method", box=None, header_style="bold", pad_edge=False)
    for name in ("seed", "steps", "of", "return"):
        table.add_column(name, justify="right")
    for name in ("state", "age", "folder"):
        table.add_column(name)
    for run in runs:
        steps = ("-" if run[key] is None else f"{run[key]:,.0f}" for key in ("steps", "of"))
        seed = "-" if run["seed"] is None else str(run["seed"])
        age = "-" if run["age"] is None else ago(run["age"])
        cells = (run["env"], run["method"], seed, *steps, figure(run["return"]), run["state"], age, run["folder"])
        table.add_row(*map(plain, cells))
    # as wide as its rows: a terminal wraps a long one, a pipe keeps every folder whole
    Console(highlight=False, markup=False, emoji=False, width=100_000).print(table)
