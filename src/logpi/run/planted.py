"""`logpi exact --planted`: bugs of one line, planted one at a time in a copy of the package. Does the test kit notice?"""

import json as json_room
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

import logpi
from logpi.errors import LogpiError
from logpi.exact.kit import alone
from logpi.run.table import plain, printer

SOURCE = Path(logpi.__file__).parent
BUGS = SOURCE.parents[1] / "tests" / "exact" / "planted.toml"
LEAST = 0.95  # of the bugs must be caught
SECONDS = 60.0  # until a copy whose kit is not done counts as hanging


@dataclass(frozen=True)
class Bug:
    """One line of one file of the package, and what a mistake makes of it."""

    what: str
    file: str
    old: str
    new: str


def report(json: bool) -> int:
    """Plant every bug and say which check caught it; 0 where 38 of 40 were caught."""
    bugs = read(BUGS)
    with Console(stderr=True).status(f"{len(bugs)} bugs, one at a time"):
        found = planted(bugs)
    caught = sum(map(bool, found))
    if json:
        lines = [asdict(bug) | {"caught_by": checks} for bug, checks in zip(bugs, found, strict=True)]
        print(json_room.dumps({"caught": caught, "of": len(bugs), "bugs": lines}, indent=1))
    else:
        show(bugs, found)
    return 0 if caught >= LEAST * len(bugs) else 1


def read(file: Path) -> list[Bug]:
    if not file.is_file():
        cure = "clone the repository and pip install -e it"
        raise LogpiError(f"The bugs to plant are in the tests, and {file} is not there: {cure}.")
    return [Bug(**entry) for entry in tomllib.loads(file.read_text(encoding="utf-8"))["bug"]]


def planted(bugs: list[Bug], source: Path = SOURCE) -> list[dict[str, str]]:
    """For each bug {check: what it said} of the checks that fail with it; without one none may fail."""
    with tempfile.TemporaryDirectory(prefix="logpi-planted-") as folder:
        copies = [Path(folder, str(i)) for i in range(len(bugs) + 1)]
        for copy, bug in zip(copies, [None, *bugs], strict=True):
            shutil.copytree(source, copy / "logpi")
            if bug is not None:
                plant(bug, copy / "logpi")
        command = [sys.executable, "-P", alone.__file__, str(SECONDS), "2", *map(str, copies)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
        healthy, *found = (json_room.loads((copy / "failed.json").read_text()) for copy in copies)
    if healthy:
        name, said = next(iter(healthy.items()))
        raise LogpiError(f"The kit fails on the package as it is, {len(healthy)} checks, first {name!r}: {said}")
    return found


def plant(bug: Bug, package: Path) -> None:
    """Change the one line that is the bug's, its indentation kept."""
    file = package / bug.file
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    at = [i for i, line in enumerate(lines) if line.strip() == bug.old]
    if len(at) != 1:
        raise LogpiError(
            f"{bug.what!r} cannot be planted: its old line stands {len(at)} times in {bug.file}, not once."
        )
    lines[at[0]] = lines[at[0]].replace(bug.old, bug.new)
    file.write_text("".join(lines), encoding="utf-8")


def show(bugs: list[Bug], found: list[dict[str, str]]) -> None:
    table = Table("file", "bug, and the checks that catch it", box=None, header_style="bold", pad_edge=False)
    table.add_column("checks", justify="right")
    for bug, checks in zip(bugs, found, strict=True):
        table.add_row(bug.file, "\n  ".join(map(plain, [bug.what, *checks])), str(len(checks) or "NOT CAUGHT"))
    console = printer()
    console.print(table)
    console.print(f"\n{sum(map(bool, found))} of {len(bugs)} caught")
