"""Runners side by side: in turn, round by round, each a process of its own; then a table in docs/benchmarks.md.

A table is a list of cases, a case the runners that do the same work. A runner is a script of drivers/ that takes its
settings as JSON, works, and prints one JSON object with its `value` as its last line.
"""

import argparse
import contextlib
import ctypes
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import homes

PAGE = homes.HERE.parent / "docs" / "benchmarks.md"
LIMIT = 600  # seconds after which a run is given up
Render = Callable[["Table", dict[str, Any]], str]
Draw = Callable[[dict[str, Any], Path], None]
INSTRUCTIONS = ("avx512_bf16", "avx512f", "avx2")  # of a processor, from the fastest
POOLS = ("OMP", "MKL", "OPENBLAS", "NUMEXPR")  # pools of threads that read NAME_NUM_THREADS


@dataclass(frozen=True)
class Runner:
    """One row of a case; the first of a case is what the others are compared with."""

    name: str  # as the table shows it
    driver: str  # file of drivers/ without .py
    settings: dict[str, Any] = field(default_factory=dict)  # beside the case's
    peer: str = "logpi"  # whose environment it runs in: a key of homes.PACKAGES


@dataclass(frozen=True)
class Case:
    """The same work for all its runners."""

    name: str
    settings: dict[str, Any]
    runners: tuple[Runner, ...]
    cores: int = 1  # that a run may use at all


@dataclass(frozen=True)
class Table:
    """What one command measures. unit 's' is better when small, every other when large."""

    name: str  # of the file, the JSON and the markers in docs/benchmarks.md
    about: str  # one sentence: settings that hold for all cases
    cases: tuple[Case, ...]
    unit: str = "steps/s"
    picture: str = ""  # what it shows, in words; none is drawn without


def main(table: Table, render: Render | None = None, draw: Draw | None = None) -> None:
    """Measure, print, and write JSON, page and picture, unless only a part was measured."""
    args = flags(table)
    file = homes.HERE / "results" / f"{table.name}.json"
    if args.rounds:
        runs = rounds(plan(table, args.only), args.rounds, args.steps, table.unit)
        result = {"about": machine(args.rounds, runs), "table": table.about, "unit": table.unit, "runs": runs}
        if whole := not (args.only or args.steps):
            file.write_text(json.dumps(result, indent=1) + "\n")
    else:
        result, whole = json.loads(file.read_text()), True
    text = (render or markdown)(table, result)
    print(f"\n{text}")
    if whole:
        if table.picture:
            import figures

            (draw or figures.bars)(result, file.with_suffix(".png"))
            text += f"\n\n![{table.picture}](../benchmarks/results/{table.name}.png)"
        insert(table.name, text)


def flags(table: Table) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=table.about, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each runner; 0: the page anew from the JSON")
    parser.add_argument("--only", default="", help="words in 'case: runner', with commas; nothing is written")
    parser.add_argument("--steps", type=int, help="of every run, in place of its own number; nothing is written")
    for peer in homes.COMMITS:
        parser.add_argument(f"--{peer.lower()}", metavar="PATH", help=f"a clone of {peer}, where there is no network")
    args = parser.parse_args()
    homes.CLONES.update({peer: path for peer in homes.COMMITS if (path := getattr(args, peer.lower()))})
    return args


def plan(table: Table, only: str) -> list[tuple[Case, Runner]]:
    """What to run, in its order; a peer that cannot be installed, or a type that is not here, is told and left out."""
    words = only.lower().split(",")
    every = [(case, runner) for case in table.cases for runner in case.runners]
    asked = [x for x in every if any(word in f"{x[0].name}: {x[1].name}".lower() for word in words)]
    missing = set()
    for peer in sorted({runner.peer for _, runner in asked}):
        try:
            homes.make(peer)
        except (subprocess.CalledProcessError, OSError) as failed:
            print(f"{peer} is left out, its environment could not be made: {failed}", file=sys.stderr)
            missing.add(peer)
    if told := "bf16" in " ".join(runner.name for _, runner in asked) and instructions() == "avx2":
        print("Runners in bfloat16 are left out: without AVX-512 they take a hundred times as long.", file=sys.stderr)
    return [x for x in asked if x[1].peer not in missing and not (told and "bf16" in x[1].name)]


def rounds(
    todo: list[tuple[Case, Runner]], count: int, steps: int | None, unit: str
) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """What every runner found, by case: all of them once, then all of them again, ..."""
    adopt()
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for number in range(count):
        for case, runner in todo:
            found = measure(case, runner, number, steps)
            runs.setdefault(case.name, {}).setdefault(runner.name, []).append(found)
            told = found.get("failed") or f"{three(found['value']):>9} {unit}   neighbours {found['neighbours']}"
            print(f"round {number + 1}: {case.name}: {runner.name:44s} {told}", flush=True)
    return runs


def measure(case: Case, runner: Runner, number: int, steps: int | None = None) -> dict[str, Any]:
    """What the driver found, its wall time, and how many cores other programs kept busy meanwhile; or {'failed': why}."""
    asked = {"threads": 1, "cores": case.cores, "seed": number} | case.settings | runner.settings
    asked |= {"steps": steps} if steps else {}
    if runner.peer in homes.COMMITS:
        asked["source"] = str(homes.source(runner.peer))
    pools = {f"{pool}_NUM_THREADS": str(asked["threads"]) for pool in POOLS} | {"NUMBA_NUM_THREADS": str(case.cores)}
    script = homes.HERE / "drivers" / f"{runner.driver}.py"
    command = [homes.python(runner.peer), "-W", "ignore", str(script), json.dumps(asked)]
    with tempfile.TemporaryDirectory() as folder, confined(case.cores):
        began, before = time.perf_counter(), busy()
        try:
            done = subprocess.run(
                command, cwd=folder, env=os.environ | pools, capture_output=True, text=True, timeout=LIMIT
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"longer than {LIMIT} s"}
        wall = time.perf_counter() - began
        reap()
        after = busy()
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return {"failed": re.sub(r"/\S+/", "", why)[:200]}  # no folders of this machine
    neighbours = round(max(0.0, after - before) / wall, 2) if after else None
    found = json.loads(done.stdout.splitlines()[-1]) | {"wall": round(wall, 2), "neighbours": neighbours}
    return found | ({"value": wall} if found["value"] is None else {})


@contextlib.contextmanager
def confined(cores: int) -> Iterator[None]:
    """This process, and what it starts, on its `cores` idlest cores: no pool of threads can get around that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    every = os.sched_getaffinity(0)
    first = per_core()
    time.sleep(0.2)
    used = {core: spent - first.get(core, 0.0) for core, spent in per_core().items()}
    os.sched_setaffinity(0, sorted(every, key=lambda core: used.get(core, 0.0))[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, every)


def adopt() -> None:
    """Processes whose parents end become this one's children (Linux), so that their time is known."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def reap() -> None:
    """Take note of what a driver left behind: servers that forked its workers end a moment after it."""
    until = time.monotonic() + 2
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < until:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.01)


def per_core() -> dict[int, float]:
    """Seconds that each core has been busy; empty where the system does not tell."""
    stat = Path("/proc/stat")
    lines = re.findall(r"^cpu(\d+) (.*)$", stat.read_text(), re.MULTILINE) if stat.exists() else []
    ticks = {int(core): [int(x) for x in rest.split()] for core, rest in lines}
    return {core: (sum(t[:8]) - t[3] - t[4]) / os.sysconf("SC_CLK_TCK") for core, t in ticks.items()}


def busy() -> float:
    """Seconds of work on all cores so far, less this process's own and its children's."""
    own = os.times()
    return sum(per_core().values()) - own.user - own.system - own.children_user - own.children_system


def machine(rounds: int, runs: dict[str, dict[str, list[dict[str, Any]]]]) -> dict[str, Any]:
    """Date, machine and versions; the latter as the drivers told them, and taken out of their results."""
    name, has = told_of("model name") or platform.machine(), instructions()
    versions: dict[str, str] = {}
    for found in (run for case in runs.values() for each in case.values() for run in each):
        for package, version in found.pop("versions", {}).items():
            known = versions.get(package, version)
            versions[package] = known if version in known.split(" and ") else f"{known} and {version}"
    return {
        "date": time.strftime("%F"),
        "machine": f"{os.cpu_count()} cores of {name}{has and f' with {has}'}, {platform.system()}",
        "python": platform.python_version(),
        "rounds": rounds,
        "versions": dict(sorted(versions.items())),
    }


def told_of(what: str) -> str:
    """What Linux says of the first processor."""
    info = Path("/proc/cpuinfo")
    found = re.search(rf"^{what}\s*: (.*)", info.read_text(), re.MULTILINE) if info.exists() else None
    return found[1] if found else ""


def instructions() -> str:
    """The widest that it multiplies with; empty where nobody says."""
    return next((x for x in INSTRUCTIONS if x in told_of("flags").split()), "")


def values(runs: list[dict[str, Any]]) -> list[float]:
    return [run.get("value", float("nan")) for run in runs]


def three(x: float) -> str:
    """Three digits, thousands apart: 151,000 or 0.0834."""
    return f"{float(f'{x:.3g}'):,.10g}"


def spread(numbers: list[float]) -> str:
    """Median [least, most] in three digits, of the runs that did not fail."""
    tried, numbers = len(numbers), [x for x in numbers if x == x]
    if not numbers:
        return "failed"
    low, middle, high = (three(x) for x in (min(numbers), statistics.median(numbers), max(numbers)))
    told = middle if len(numbers) == 1 else f"{middle} [{low}, {high}]"
    return told if len(numbers) == tried else f"{told}, {tried - len(numbers)} failed"


def markdown(table: Table, result: dict[str, Any]) -> str:
    """The table: medians, ranges, and the first runner's lead over each other one, taken round by round."""
    lines = [table.about, ""]
    lines += [f"| case | runner | {table.unit}: median [least, most] | the first one's lead |", "|---|---|---|---|"]
    for case, found in result["runs"].items():
        first = values(next(iter(found.values())))
        for number, (name, runs) in enumerate(found.items()):
            own = values(runs)
            leads = [b / a if table.unit == "s" else a / b for a, b in zip(first, own, strict=True)]
            lead = spread(leads) if number else "1"
            lines.append(f"| {'' if number else case} | {name} | {spread(own)} | {lead} |")
    return "\n".join([*lines, "", *conditions(result)])


def conditions(result: dict[str, Any]) -> list[str]:
    """When, where and with what it was measured."""
    about = result["about"]
    every = [run for case in result["runs"].values() for runs in case.values() for run in runs]
    load = max((run.get("neighbours") or 0.0 for run in every), default=0.0)
    versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
    return [
        f"{about['date']}, {about['rounds']} round(s), {about['machine']}, Python {about['python']}; {versions}.",
        f"Other programs kept at most {load:.2f} of a core busy during any run.",
    ]


def insert(name: str, text: str) -> None:
    """Put a text between its two markers on the page."""
    begin, end = f"<!-- {name}: written by benchmarks/{name}.py -->", f"<!-- end of {name} -->"
    page = PAGE.read_text()
    if begin not in page or end not in page:
        raise SystemExit(f"docs/benchmarks.md has no place for {name}: it needs the lines {begin} and {end}")
    head, rest = page.split(begin)
    PAGE.write_text(f"{head}{begin}\n{text}\n{end}{rest.split(end, 1)[1]}")
