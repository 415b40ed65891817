"""logpi doctor RUN: what the log says (`doctor`), and what a fresh batch tells (measured in `examine`, judged in `judge`)."""

import dataclasses
import json as json_room
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.table import Table

from logpi.errors import LogpiError
from logpi.run import doctor, doctor_text, examine, judge
from logpi.run.doctor import Finding
from logpi.run.examine import Live
from logpi.run.flags import parse
from logpi.run.paths import is_path, load_object
from logpi.run.table import plain, printer

# A cause before what follows from it: the first that is wrong is the one to mend.
ORDER = (
    *("run", "fresh batch", "NaN", "first ratio", "first KL", "masks", "direction"),
    *(
        "rewards",
        "step size",
        "signal",
        "groups",
        "line search",
        "movement",
        "critic",
        "entropy",
        "length",
        "reference",
    ),
    *("normaliser", "return", "environments", "memory"),
)
TEXT = ("rewards", "groups", "length", "reference")  # of language models alone
CONTROL = ("normaliser", "environments")  # of the others

OWN = ("method", "env", "network", "wrap", "task", "reward")  # flags that name code of the user's


@dataclass
class Doctor:
    """Is something wrong with a run, and what to do: its log, and a fresh batch of its newest checkpoint, looked at before
    any step. Nothing is written. The exit code is 1 where something is wrong."""

    run: tyro.conf.Positional[Path]  # its folder
    live: bool = True  # --no-live: the log only
    method: str | None = None  # ./file.py:MyMethod, where the run used one of yours
    env: str | None = None  # ./file.py:MyEnv, the same
    network: str | None = None  # ./file.py:build, the same
    wrap: tuple[str, ...] = ()  # ./file.py:MyWrapper, the same
    task: str | None = None  # ./file.py:MyTask, the same
    reward: tuple[str, ...] = ()  # ./file.py:f, the same
    json: bool = False  # one object for scripts


def main(args: list[str]) -> int:
    given = parse(Doctor, args, "logpi doctor")
    log = doctor.read(given.run)
    live = look(given.run, {k: getattr(given, k) for k in OWN}, given.live)
    found = [check(log, live) for check in judge.CHECKS] + [check(log) for check in doctor.CHECKS]
    if log.text:
        own = {f.name: f for f in [check(log) for check in doctor_text.CHECKS]}
        found = [f for f in found if f.name not in {*CONTROL, *own}] + [*own.values()]
    found.sort(key=lambda finding: ORDER.index(finding.name))
    wrong, odd = ([f for f in found if f.state == state] for state in ("wrong", "look"))
    advice = advise(next(iter(wrong + odd), None))
    if given.json:
        told = {"run": str(given.run), "wrong": len(wrong), "look": len(odd), "advice": advice}
        print(json_room.dumps(told | {"findings": [dataclasses.asdict(f) for f in found]}, indent=1))
    else:
        show(found)
        print(f"\n{advice}")
    return int(bool(wrong))


def look(run: Path, given: dict[str, Any], wanted: bool) -> Live:
    """A fresh batch's measures, or why there are none. What was typed must be there; what was not only limits what is seen."""
    if not wanted:
        return Live(why="not asked for (--no-live)")
    for value in given.values():
        for path in value if isinstance(value, tuple) else (value,):
            if path and is_path(path):
                load_object(path)
    try:
        return examine.examine(run, given)
    except (LogpiError, OSError) as missing:
        return Live(why=str(missing))


def advise(first: Finding | None) -> str:
    """The one line to read."""
    if first is None:
        return "nothing wrong found"
    begins = "first" if first.state == "wrong" else "nothing wrong found; worth a look"
    return plain(f"{begins}: {first.name}: {first.seen.rstrip('.')}; {first.do}.")


def show(found: list[Finding]) -> None:
    names = ["check", "state", "what was seen", *["what to do"] * any(finding.do for finding in found)]
    table = Table(*names, box=None, header_style="bold", pad_edge=False)
    for finding in found:
        cells = (finding.name, finding.state, finding.seen, finding.do)
        table.add_row(*map(plain, cells[: len(names)]))
    printer().print(table)
