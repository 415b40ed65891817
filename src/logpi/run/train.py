"""`logpi train`: a caller of the loop that shows, logs, saves, plots and evaluates."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Literal

from rich.console import Console

from logpi.errors import LogpiError
from logpi.loop import Parts, Record, loop
from logpi.page import Between, Count, Finite, page
from logpi.run import checkpoint
from logpi.run.display import Display
from logpi.run.folder import RunFolder
from logpi.run.paths import is_path
from logpi.run.plot import plot
from logpi.run.setup import Settings, assemble


@page
class Options:
    """What is done beside training; none of it changes a number that is learnt."""

    until: Finite | None = None  # stop once the last 100 episodes average this return
    out: str = "runs"  # where run folders go
    recipe: str = "auto"  # tuned settings by method and environment; none: the page's own values
    config: str | None = None  # my.toml with [method], [run], [train]; flags win over it
    init: str | None = None  # run whose weights this one starts from
    seeds: Count = 1  # runs, of as many seeds from --seed on
    save_every: Count = 50_000  # steps between checkpoints; slow iterations save more often
    keep: Count = 3  # newest checkpoints to keep, beside the best
    eval_every: Annotated[int, Between(0)] = 0  # steps between evaluations of 10 episodes; 0: none
    evaluate: Annotated[int, Between(0)] = 100  # episodes of the saved policy at the end, in a new process; 0: none
    track: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()  # views of metrics.jsonl, as it grows
    plot: bool = True  # learning-curve.png in the run folder
    quiet: bool = False  # no display


def train(name: str, method: Any, settings: Settings, options: Options) -> Path:
    """Train, and print in three lines what was reached, how fast, and what to type next. Returns the run folder."""
    parts = assemble(method, settings)
    folder = RunFolder.create(options.out, settings.env, name.rpartition(":")[2].lower() or name, settings.seed)
    folder.describe(name, method, settings, options, parts.collect.envs.backend)
    folder.status("running")
    title = f"{name} on {settings.env} ({parts.collect.envs.backend} environments), seed {settings.seed}: {folder.path}"
    began = time.perf_counter()
    try:
        with Display(title, settings.steps, options.quiet) as display:
            record, state = follow(parts, folder, options, display)
    except BaseException as wrong:
        folder.status("failed", {"reason": f"{type(wrong).__name__}: {wrong}"})
        raise
    seconds = time.perf_counter() - began
    checkpoint.save(parts, folder.path / "checkpoints")
    parts.collect.envs.close()
    folder.status(state, {"steps": record.steps, "seconds": round(seconds, 2), "return": record["return"]})
    if options.plot:
        draw(folder.path)
    fresh = in_new_process(folder.path, settings, options.evaluate) if options.evaluate else "not evaluated"
    report(name, folder.path, record, state, seconds, fresh)
    return folder.path


def follow(parts: Parts, folder: RunFolder, options: Options, display: Display) -> tuple[Record, str]:
    """Run the loop to its end, to the target return, or to the first Ctrl-C or SIGTERM; a second one interrupts at once."""
    asked: list[int] = []

    def stop(number: int, frame: object) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    saved, record = 0, None
    try:
        for record in loop(parts):
            folder.log(record)
            display.show(record)
            if record.steps - saved >= options.save_every:
                checkpoint.save(parts, folder.path / "checkpoints")
                saved = record.steps
            if options.until is not None and record["episodes"] >= 100 and record["return"] >= options.until:
                return record, "solved"
            if asked:
                return record, "stopped"
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert record is not None
    return record, "finished"


def draw(run: Path) -> None:
    """The learning curve; without matplotlib one line says how to get it."""
    try:
        plot([run], run / "learning-curve.png")
    except LogpiError as missing:
        Console(stderr=True).print(f"No picture: {missing}", highlight=False, markup=False)


def in_new_process(run: Path, settings: Settings, episodes: int) -> str:
    """What `logpi eval` says of the saved checkpoint, in a process that has nothing but the folder."""
    command = [sys.executable, "-m", "logpi", "eval", str(run), "--episodes", str(episodes)]
    if settings.network:
        command += ["--network", settings.network]
    if is_path(settings.env):
        command += ["--env", settings.env]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return f"could not be evaluated: {done.stderr.strip()}"
    *_, fixed, drawn, _ = done.stdout.splitlines()
    return f"{episodes} fresh ones of the saved policy: {fixed.split(' over')[0]} (sampled: {drawn.split(' over')[0]})"


def report(name: str, run: Path, record: Record, state: str, seconds: float, fresh: str) -> None:
    reached = f"{state}: return {record['return']:.1f} in the last 100 episodes; {fresh}"
    speed = f"speed: {record.steps:,} steps in {seconds:.1f} s, {record.steps / max(seconds, 1e-9):,.0f} steps/s"
    logpi = "logpi" if shutil.which("logpi") else os.path.relpath(Path(sys.executable).with_name("logpi"))
    following = f"next: {logpi} plot {run}  (or eval; then logpi show {name}, logpi methods)"
    Console(highlight=False, soft_wrap=True).print(f"{reached}\n{speed}\n{following}", markup=False)
