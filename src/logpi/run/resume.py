"""`logpi resume` and `logpi.resume`: from a checkpoint to the parts of a run that goes on as if nothing had been."""

import contextlib
import dataclasses
import json
import shlex
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from logpi import chance
from logpi.errors import LogpiError
from logpi.loop import Parts, Record
from logpi.methods import METHODS
from logpi.page import option
from logpi.run import checkpoint, config
from logpi.run.files import write_whole
from logpi.run.folder import RunFolder, agrees, status_of, versions
from logpi.run.paths import is_path, rewards, wrappers
from logpi.run.setup import Settings, assemble, find_method, records
from logpi.run.train import Options, assembled, carry_out
from logpi.run.worlds import kind_of


def resume(
    run: str | Path,
    method: Any = None,
    env: Any = None,
    network: Any = None,
    steps: int | None = None,
    wrap: Sequence[str] = (),
    task: str | None = None,
    reward: Sequence[str] = (),
    engine: Any = None,
) -> Iterator[Record]:
    """Go on from a checkpoint that `record.save(folder)` or `logpi train` wrote, bit for bit; one record per iteration.

    run: a checkpoint, a run folder, or the folder given to `record.save`. method, env, network, wrap, task, reward and engine are needed
    where they were the caller's own. steps: another horizon, which moves schedules.
    """
    run = Path(run)
    folder, skipped = checkpoint.choose(run)
    for reason in skipped:
        warnings.warn(f"Skipped: {reason}", stacklevel=2)
    for line in changed(checkpoint.unseal(folder)["versions"]):
        warnings.warn(line, stacklevel=2)
    typed = {} if steps is None else {"steps": steps}
    return records(
        reopen(folder, config.read(folder / "config.toml"), method, env, network, wrap, typed, task, reward, engine)[0]
    )


def reopen(
    folder: Path,
    asked: dict[str, Any],
    method: Any = None,
    env: Any = None,
    network: Any = None,
    wrap: Sequence[str] = (),
    typed: dict[str, Any] | None = None,
    task: str | None = None,
    reward: Sequence[str] = (),
    engine: Any = None,
) -> tuple[Parts, Settings, str]:
    """(parts as they were at a checkpoint, their settings, what a moved horizon does to schedules).

    asked: the sections of a config.toml. typed: settings instead of its own.
    """
    given = {"method": method, "env": env, "network": network, "wrap": wrap, "task": task, "reward": reward}
    given |= {"engine": engine}
    name, page, settings, objects = named(str(folder), asked, given, typed or {})
    chance.seed(settings.seed)
    parts = assemble(page, settings, **objects, name=name, weights=folder)
    checkpoint.restore(parts, folder)
    return parts, settings, extend(parts, settings.steps)


def named(
    where: str, asked: dict[str, Any], given: dict[str, Any], typed: dict[str, Any]
) -> tuple[str, Any, Settings, dict[str, Any]]:
    """(the method's name, its page, the settings, the caller's own objects) of a config.toml and what was given again."""
    name = asked.get("method", {}).pop("name", None)
    if not isinstance(name, str) or "run" not in asked:
        raise LogpiError(
            f"The config.toml of {where} does not say what was trained: it needs [method] with a name, and [run]."
        )
    method, code = given["method"], {k: given.get(k) for k in ("env", "network", "task", "engine")}
    own = {k: v for k, v in asked["run"].items() if k in code and (is_path(str(v)) or v == "custom")}
    for kind, path, other in (("method", name, method), *((k, v, code[k]) for k, v in own.items())):
        if other is None and (kind != "method" or path not in METHODS):
            noun = {"env": "an environment", "engine": "an engine"}.get(kind, f"a {kind}")
            raise LogpiError(f"This run used {noun} of yours ({path}): pass it again, --{kind} {path}.")
    page = config.fill(find_method(method or name), asked["method"], where)
    paths: dict[str, Any] = {k: v for k, v in code.items() if isinstance(v, str)}
    if "wrap" in asked["run"]:
        paths["wrap"] = [*wrappers(asked["run"]["wrap"], given.get("wrap") or (), where)]
    if "reward" in asked["run"]:
        paths["reward"] = [*rewards(asked["run"]["reward"], given.get("reward") or (), where)]
    settings: Any = config.fill(kind_of(asked["run"])(), asked["run"] | paths | typed, where)
    return (
        name,
        page,
        settings,
        {k: None if isinstance(code[k], str) else code[k] for k in ("env", "network", "engine")},
    )


def extend(parts: Parts, horizon: int) -> str:
    """Move the horizon, and say what that does to schedules."""
    state = parts.state
    before, done = (state["horizon"], state["progress"]), state["steps"]
    if horizon == before[0]:
        return ""
    if horizon < done:
        raise LogpiError(f"This run has taken {done:,} steps: --steps must be more, not {horizon:,}.")
    state["horizon"], state["progress"] = horizon, min(1.0, done / horizon)
    said = f"the horizon moves from {before[0]:,} to {horizon:,} steps: progress from {before[1]:.2f} to {state['progress']:.2f}"
    if not option(parts.method, "anneal"):
        return said
    rates = [parts.optimizer.param_groups[0]["initial_lr"] * (1 - x) for x in (before[1], state["progress"])]
    return f"{said}, the learning rate from {rates[0]:.3g} to {rates[1]:.3g}"


def fresh(run: Path, asked: dict[str, Any], options: Options, own: dict[str, Any]) -> tuple[Parts, Settings, str]:
    """(parts as they were at a run's start, their settings, whose weights they have, in words)."""
    name, page, settings, objects = named(str(run / "config.toml"), asked, own, {})
    chance.seed(settings.seed)
    parts, note = assembled(name, page, settings, options.init, **objects)
    return parts, settings, note and f"; {note}"


def begin(run: Path, asked: dict[str, Any], options: Options, own: dict[str, Any]) -> Path:
    """A run that was interrupted before its first checkpoint: from its start."""
    parts, settings, note = fresh(run, asked, options, own)
    folder = RunFolder(run)
    folder.log.back_to({"bytes": 0})
    return carry_out(parts, settings, options, folder, f"begins, for there is no checkpoint yet{note}")


def go_on(run: Path, typed: dict[str, Any], changes: dict[str, Any], own: dict[str, Any]) -> Path:
    """What the command does: the newest whole checkpoint, the log cut back to it, and on to the horizon."""
    if (run / "manifest.json").exists():
        raise LogpiError(f"{run} is a checkpoint: resume the run folder that it lies in.")
    if not (run / "config.toml").is_file():
        raise LogpiError(f"{run} is not a run folder that can go on: it has no config.toml.")
    with contextlib.ExitStack() as undo:
        folder = RunFolder(run)
        undo.callback(folder.close)
        asked = config.read(run / "config.toml")
        options = dataclasses.replace(
            config.fill(Options(), asked.get("train", {}), str(run / "config.toml")), **changes
        )
        checkpoint.sweep(folder.checkpoints)
        for left in run.glob(".*.*.*"):  # of write_whole
            left.unlink()
        if folder.checkpoints.is_dir() and not any(folder.checkpoints.iterdir()):
            undo.close()
            return begin(run, asked, options, own)
        newest, skipped = checkpoint.choose(run, lambda manifest: misfit(run, manifest))
        for line in (*(f"skipped: {reason}" for reason in skipped), *other_versions(run)):
            say(line)
        parts, settings, note = reopen(newest, asked, **own, typed=typed)
        end = ended(run, parts, settings, changes | {"until": ...} if skipped else changes)
        if end:
            if status_of(run)["state"] == "running":  # killed between the last checkpoint and this word
                folder.status("finished", {"steps": parts.state["steps"]})
            say(end)
            return run
        set_aside(folder.checkpoints, newest)
        folder.log.back_to(checkpoint.unseal(newest)["log"])
        if typed or changes:
            told = parts.config | {"train": dataclasses.asdict(options)}
            write_whole(run / "config.toml", config.dump(told))
        remember(run, newest, settings, skipped)
        undo.pop_all()
        if note:
            say(note)
        return carry_out(parts, settings, options, folder, f"goes on from {newest.name}")


def misfit(run: Path, manifest: dict[str, Any]) -> str | None:
    """Why a run cannot go on from a checkpoint that is whole."""
    if manifest["log"] is None:
        return f"{manifest['step']} was not saved by logpi train: it does not know what was logged."
    if not agrees(run, manifest["log"]):
        cure = f"put the file back, or start a new run from its weights with --init {run}"
        return f"{manifest['step']}: {run / 'metrics.jsonl'} does not begin with what was logged up to it: {cure}."
    return None


def ended(run: Path, parts: Parts, settings: Settings, changes: dict[str, Any]) -> str:
    """Why there is nothing left to do, or nothing."""
    steps, state = parts.state["steps"], status_of(run)["state"]
    if steps >= settings.steps:
        return f"{run} has taken its {steps:,} steps: resume with --steps {2 * steps} to go on."
    if state == "solved" and "until" not in changes:
        return f"{run} has reached its target return: resume with another --until (or --until none) to go on."
    return ""


def set_aside(checkpoints: Path, newest: Path) -> None:
    """What was skipped is kept under another name, since its place will be written anew."""
    for folder in checkpoints.glob("step-*"):
        if folder.name > newest.name:
            number = 1 + len([*checkpoints.glob(f"damaged-{folder.name}-*")])
            folder.rename(checkpoints / f"damaged-{folder.name}-{number}")


def other_versions(run: Path) -> list[str]:
    """What is not as it was, where equal numbers are promised for equal versions only."""
    try:
        before = json.loads((run / "versions.json").read_text())
        before["torch"]
    except (OSError, ValueError, LookupError, TypeError):
        return [f"{run / 'versions.json'} cannot be read: whether versions are as they were is not known."]
    return changed(before)


def changed(before: dict[str, Any]) -> list[str]:
    """A line about what is another version now."""
    found = [f"{k} {before[k]} -> {v}" for k, v in versions().items() if before.get(k, v) != v and k != "commit"]
    return [f"not the versions this run began with, numbers may differ: {', '.join(found)}"] if found else []


def remember(run: Path, newest: Path, settings: Settings, skipped: list[str]) -> None:
    """history.jsonl: when the run went on, from where, how it was called."""
    row = {"time": time.strftime("%FT%T"), "from": newest.name, "steps": settings.steps, "skipped": skipped}
    with (run / "history.jsonl").open("a") as file:
        file.write(json.dumps(row | {"command": shlex.join(["logpi", *sys.argv[1:]])}) + "\n")


def say(line: str) -> None:
    Console(stderr=True, highlight=False, soft_wrap=True).print(line, markup=False)
