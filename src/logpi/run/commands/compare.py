"""logpi compare RUN RUN [RUN ...]"""

import json as json_room
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.table import Table

from logpi.errors import LogpiError
from logpi.run.flags import parse
from logpi.run.table import FRACTIONS, differences, figure, plain, printer, results, runs_of


@dataclass
class Compare:
    """What runs differ in, and what they came to, side by side."""

    runs: tyro.conf.Positional[tuple[Path, ...]]  # run folders, or folders that hold runs
    until: float | None = None  # the steps after which the last 100 episodes averaged this return
    json: bool = False  # one object for scripts


def main(args: list[str]) -> None:
    given = parse(Compare, args, "logpi compare")
    runs = runs_of(list(given.runs))
    if len(runs) < 2:
        raise LogpiError("logpi compare needs two runs or more: logpi runs lists the runs there are.")
    differing, found = differences(runs), results(runs, given.until)
    if given.json:
        whole = {"runs": [str(run) for run in runs], "differences": differing, "results": found}
        print(json_room.dumps(whole, indent=1, default=str))
        return
    letters = [chr(ord("A") + i) if len(runs) <= 26 else str(i + 1) for i in range(len(runs))]
    for letter, run in zip(letters, runs, strict=True):
        print(f"{letter}  {plain(str(run))}")
    print()
    if differing:
        show("what differs", letters, [(key, [_value(x) for x in values]) for key, values in differing.items()])
    else:
        print("Nothing differs in settings or versions.")
    print()
    show("results", letters, lines(found))


def lines(found: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """The results as rows of text."""
    shown = [("state", [x["state"] for x in found]), ("steps", [_whole(x["steps"]) for x in found])]
    shown += [("final return", [figure(x["return"]) for x in found])]
    shown += [("best return", [figure(x["best"]) for x in found])]
    levels = list(found[0]["reached"])
    shares = [f" ({share:.0%} of the way)" for share in FRACTIONS] if len(levels) > 1 else [""]
    for level, share in zip(levels, shares, strict=False):
        shown.append((f"steps to return {figure(level)}{share}", [_whole(x["reached"][level]) for x in found]))
    for kind in ("deterministic", "sampled"):
        evaluations = [x["evaluations"].get(kind) for x in found]
        if any(evaluations):
            shown.append((f"evaluated, {kind}", [_evaluation(x) for x in evaluations]))
    shown += [("seconds", [figure(x["seconds"]) for x in found])]
    return [*shown, ("steps per second", [_whole(x["steps_per_second"]) for x in found])]


def show(title: str, letters: list[str], rows: list[tuple[str, list[str]]]) -> None:
    table = Table(title, *letters, box=None, header_style="bold", pad_edge=False)
    for name, cells in rows:
        table.add_row(plain(name), *map(plain, cells))
    printer(wrap=False).print(table)


def _value(x: Any) -> str:
    return "-" if x is None else x if isinstance(x, str) else json_room.dumps(x, ensure_ascii=False, default=str)


def _whole(x: float | None) -> str:
    return "-" if x is None else f"{x:,.0f}"


def _evaluation(x: dict[str, Any] | None) -> str:
    return "-" if x is None else f"{figure(x['mean'])} ± {figure(x['interval_95'])} ({x['episodes']} episodes)"
