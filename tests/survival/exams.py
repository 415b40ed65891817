"""What is done to a run to see whether it survives, each as a function with a size: the tests call them small, the soak full.

A run is tortured through the commands that a user types, in processes of their own.
"""

import contextlib
import io
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "PYTHONIOENCODING": "utf-8"}
SMALL = {"envs": 2, "length": 16, "episodes": 2, "starts": 1, "group": 2, "epochs": 2, "critic_epochs": 2}
WORLDS = {
    "discrete": "--env CartPole-v1 --normalise-obs",
    "box": "--env Pendulum-v1 --backend sync --normalise-obs --recipe none",
}


def train(method: str, world: str, steps: int, out: Path, more: str = "") -> list[str]:
    """The command of a run whose iterations take a few milliseconds."""
    from logpi.methods import METHODS

    small = " ".join(
        f"--{name.replace('_', '-')} {value}"
        for name, value in SMALL.items()
        if name in METHODS[method].__dataclass_fields__
    )
    line = f"train {method} {WORLDS[world]} {small} --hidden 8 --steps {steps} --out {out} {more}"
    return command(f"{line} --quiet --no-plot --evaluate 0")


def per_iteration(method: str, world: str) -> int:
    """Steps of one, about."""
    from logpi.methods import METHODS

    return 32 if METHODS[method].rows == "segments" else {"discrete": 50, "box": 400}[world]


def command(line: str) -> list[str]:
    return [sys.executable, "-m", "logpi", *shlex.split(line)]


def start(words: list[str], **more: Any) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT}
    return subprocess.Popen(words, **pipes | more)


def finish(words: list[str]) -> str:
    process = start(words)
    out, err = process.communicate(timeout=280)
    if process.returncode:
        raise AssertionError(f"{shlex.join(words[2:])} ended with {process.returncode}: {err}")
    return out + err


def here(words: list[str]) -> str:
    """`finish` in this process, which has imported all that it takes."""
    from logpi.run import cli

    said, before = io.StringIO(), (sys.argv, signal.getsignal(signal.SIGTERM), warnings.showwarning)
    sys.argv = ["logpi", *words[3:]]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            cli.main()
    except SystemExit as end:
        if end.code:
            raise AssertionError(f"{shlex.join(words[2:])} ended with {end.code}: {said.getvalue()}") from end
    finally:
        sys.argv, _, warnings.showwarning = before
        signal.signal(signal.SIGTERM, before[1])
    return said.getvalue()


def the_run(out: Path) -> Path | None:
    """The one run folder under `out` that has a whole checkpoint."""
    found = [f.parents[2] for f in out.glob("*/*/*/checkpoints/step-*/manifest.json")]
    return found[0] if found else None


def log(run: Path) -> list[dict[str, Any]]:
    """metrics.jsonl, every line of it valid, without what a clock has put there."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def state(run: Path) -> dict[str, bytes]:
    """The files of the last checkpoint: parameters, optimisers, generators, environments, statistics."""
    last = max((run / "checkpoints").glob("step-*"))
    return {"step": last.name.encode()} | {f.name: f.read_bytes() for f in last.iterdir() if f.name != "manifest.json"}


def differences(one: Path, other: Path) -> list[str]:
    """What two runs of the same command have not in common; and what a killed one has left behind."""
    found = []
    a, b = state(one), state(other)
    found += [f"{name} differs" for name in sorted({*a, *b}) if a.get(name) != b.get(name)]
    rows = log(one), log(other)
    if rows[0] != rows[1]:
        found.append(f"metrics.jsonl differs ({len(rows[0])} and {len(rows[1])} rows)")
    for run in (one, other):
        found += [f"left behind: {f.name}" for f in run.rglob(".*")]
        if json.loads((run / "status.json").read_text())["state"] != "finished":
            found.append(f"{run} has not finished")
    return found


@dataclass
class Kills:
    """What became of a run that was killed again and again."""

    kills: int = 0
    moments: list[int] = field(default_factory=list)  # steps on record when the kill came
    differences: list[str] = field(default_factory=list)


def kill(
    method: str, world: str, count: int, seed: int, out: Path, untouched: Callable[[list[str]], str] = finish
) -> Kills:
    """SIGKILL at random moments, `count` times, resumed each time; compared with the run that nobody touched.

    A fifth of the kills comes at any time after the start (while Python still imports, while the folder is made), the
    others up to 0.3 s after the first new iteration was logged.
    """
    chance, told, size = random.Random(seed), Kills(), per_iteration(method, world)
    iterations = 40 if size < 400 else 12  # of 2 to 50 ms
    steps, more = iterations * size * (count + 1), f"--save-every {iterations // 4 * size} --keep 2"
    untouched(train(method, world, steps, out / "straight", more))
    words = train(method, world, steps, out / "killed", more)
    while told.kills < count:
        process = start(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        early = chance.random() < 0.2
        if not early:
            _wait_for_a_row(process, out / "killed")
        time.sleep(chance.uniform(0, 2.0 if early else 0.3))
        if process.poll() is not None:
            break  # it came to its end before the kill
        process.send_signal(signal.SIGKILL)
        process.wait()
        told.kills += 1
        told.moments.append(_last_steps(out / "killed"))
        runs = [f.parent for f in (out / "killed").glob("*/*/*/config.toml")]
        words = command(f"resume {runs[-1]}") if runs else words
    if process.returncode != 0:
        finish(words)
    one, other = the_run(out / "straight"), the_run(out / "killed")
    assert one is not None and other is not None
    told.differences = differences(one, other)
    return told


def _wait_for_a_row(process: subprocess.Popen[str], out: Path) -> None:
    """Until metrics.jsonl has another row, or the process has ended."""
    before = _sizes(out)
    while process.poll() is None and _sizes(out) == before:
        time.sleep(0.01)


def _sizes(out: Path) -> list[tuple[int, int]]:
    found = [f.stat() for f in out.glob("*/*/*/metrics.jsonl")]
    return [(f.st_size, f.st_mtime_ns) for f in found if f.st_size]


def _last_steps(out: Path) -> int:
    for file in out.glob("*/*/*/metrics.jsonl"):
        lines = [line for line in file.read_bytes().split(b"\n")[:-1] if line]
        return int(json.loads(lines[-1])["steps"]) if lines else 0
    return 0


@dataclass
class Stopped:
    """What a signal did."""

    number: int
    code: int
    seconds: float
    whole: bool
    differences: list[str] = field(default_factory=list)


LONG = 100_000  # steps of a run that is still at work when a signal comes


def stop(
    number: int, seed: int, out: Path, straight: Path | None = None, again: Callable[[list[str]], str] = finish
) -> Stopped:
    """One signal at a random moment after the first iteration; how the process ended, and what a resume makes of it."""
    chance = random.Random(seed)
    process = start(train("ppo", "discrete", LONG, out, "--save-every 3000"))
    _wait_for_a_row(process, out)
    time.sleep(chance.uniform(0, 0.5))
    began = time.perf_counter()
    process.send_signal(number)
    process.communicate(timeout=60)
    seconds = time.perf_counter() - began
    run = the_run(out)
    told = Stopped(number, process.returncode, seconds, run is not None)
    if straight is not None and run is not None:
        again(command(f"resume {run}"))
        told.differences = differences(straight, run)
    return told


def cases(count: int, methods: list[str]) -> Iterator[tuple[str, str, int]]:
    """(method, world, kills): `count` kills spread evenly over all methods, the kinds of action in turn."""
    each = [count // len(methods) + (i < count % len(methods)) for i in range(len(methods))]
    for i, (method, kills) in enumerate(zip(methods, each, strict=True)):
        yield method, ("discrete", "box")[i % 2], kills
