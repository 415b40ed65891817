"""`logpi train` and `logpi resume`: callers of the loop that show, log, save, evaluate and draw."""

import contextlib
import dataclasses
import os
import shlex
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from rich.console import Console

from logpi import chance, envs
from logpi.errors import EnvironmentFailed, LogpiError
from logpi.finite import NotFinite
from logpi.loop import Parts, Record, loop
from logpi.page import Between, Count, Finite, page
from logpi.run import checkpoint, config
from logpi.run.display import Display
from logpi.run.evaluate import Evaluation, answered, evaluate, in_new_process
from logpi.run.folder import RunFolder
from logpi.run.language import Text
from logpi.run.paths import is_path
from logpi.run.plot import plot
from logpi.run.setup import Settings, assemble
from logpi.run.stop import Interrupted, Stop
from logpi.run.table import figure

SLOW = 1.0  # seconds of an iteration from which on each is saved
NOTHING = 1e-3  # of a surrogate, beside a gradient a hundred times as large
LONG = 10.0  # seconds after which the next iteration is saved, whatever it takes: more is never lost


@page
class Options:
    """What is done beside training; none of it changes a number that is learnt."""

    until: Finite | None = None  # stop once the last 100 episodes average this return
    out: str = "runs"  # where run folders go
    recipe: str = "auto"  # tuned settings by method and environment; none: the page's own values
    like: Literal["sb3"] | None = None  # in the place of a recipe: the details of stable-baselines3
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


def train(name: str, method: Any, settings: Settings | Text, options: Options) -> Path:
    """A new run: its folder. What was reached, how fast, and what to type next is printed in three lines."""
    chance.seed(settings.seed)
    if isinstance(settings, Text) and settings.warmup and not (options.init or options.quiet):
        print(f"warm-up: up to {settings.warmup} supervised steps, before there is a run folder", flush=True)
    parts, note = assembled(name, method, settings, options.init)
    short = name.rpartition(":")[2].lower() or name
    asked = config.dump(parts.config | {"train": dataclasses.asdict(options)})
    folder = RunFolder.create(options.out, settings.where, short, settings.seed)
    folder.describe(asked, parts.collect.backend, sys.argv[1:])
    return carry_out(parts, settings, options, folder, note)


def assembled(name: str, method: Any, settings: Settings | Text, init: str | None, **objects: Any) -> tuple[Parts, str]:
    """(what `loop` needs, with the weights of the run `init`; whose they are, in words). objects: the caller's own."""
    if init is None:
        return assemble(method, settings, **objects, name=name), ""
    parts = assemble(method, settings, **objects, name=name, weights=checkpoint.choose(Path(init))[0])
    return parts, f"weights: {checkpoint.inherit(parts, Path(init))}"


def carry_out(parts: Parts, settings: Settings | Text, options: Options, folder: RunFolder, note: str) -> Path:
    """Run the loop from where `parts` stand; save, tell, evaluate. A signal ends the process with 128 + its number."""
    name, start, began = parts.config["method"]["name"], parts.state["steps"], time.perf_counter()
    with Stop() as stop:
        record, state = safely(parts, settings, options, folder, note, stop)
    following = resume_line(name, settings, folder.path)
    if stop.number is not None:
        words = f"stopped; all up to {checkpoint.choose(folder.path)[0].name} is saved.\nnext: {following}"
        Console(stderr=True, highlight=False, soft_wrap=True).print(words, markup=False)
        raise SystemExit(128 + stop.number)
    assert record is not None
    seconds = time.perf_counter() - began
    if options.plot:
        draw(folder.path)
    fresh = "not evaluated"
    with contextlib.suppress(KeyboardInterrupt):  # the run itself is done
        fresh = in_new_process(folder.path, settings, options.evaluate) if options.evaluate else fresh
    report(name, folder.path, record, record.steps - start, state, seconds, fresh)
    return folder.path


def safely(
    parts: Parts, settings: Settings | Text, options: Options, folder: RunFolder, note: str, stop: Stop
) -> tuple[Record | None, str]:
    """`follow`, with a checkpoint before and after; a failure is written down. None: its last iteration was given up."""
    name, start = parts.config["method"]["name"], parts.state["steps"]
    many = f"{torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"
    title = f"{name} on {settings.where} ({parts.collect.source}), {many}, seed {settings.seed}: {folder.path}"
    with contextlib.ExitStack() as last:
        last.callback(folder.close)
        last.callback(parts.collect.close)
        try:
            folder.status("running")
            if not any(folder.checkpoints.glob("step-*")):
                keep(parts, folder, options)
            with Display(title, settings.steps, start, options.quiet) as display:
                display.say(note)
                display.say(parts.collect.note)
                record, state = follow(parts, settings, options, folder, stop, display)
            stop.settled()
            keep(parts, folder, options, record)
            folder.status(state, {"steps": record.steps, "return": record["return"]})
            return record, state
        except Interrupted:
            folder.status("stopped")
            return None, "stopped"
        except BaseException as wrong:
            told_wrong = failed(folder, parts, wrong)
            if told_wrong is wrong:
                raise
            raise told_wrong from wrong


def follow(
    parts: Parts, settings: Settings | Text, options: Options, folder: RunFolder, stop: Stop, display: Display
) -> tuple[Record, str]:
    """Log every iteration, evaluate and save now and then; to the horizon, the target return, or a signal."""
    saved = looked = parts.state["steps"]
    saved_at = time.perf_counter()
    look = evaluator(parts, settings)
    with views(options, folder, saved) as tracker:
        for record in loop(parts):
            due = bool(options.eval_every) and record.steps // options.eval_every > looked // options.eval_every
            if due:
                record, looked = dataclasses.replace(record, metrics=record.metrics | look()), record.steps
            row = {"iteration": record.iteration, "steps": record.steps} | record.metrics | {"seconds": record.seconds}
            folder.log.write(row)
            if tracker is not None:
                tracker.log(row)
            tell_failures(parts, folder, display)
            tell_fallbacks(parts, display)
            display.say(why_zero(record) if record.iteration == 1 and isinstance(settings, Text) else "")
            display.show(record)
            long = record.seconds >= SLOW or time.perf_counter() - saved_at >= LONG
            if due or long or record.steps - saved >= options.save_every:
                keep(parts, folder, options, record)
                saved, saved_at = record.steps, time.perf_counter()
            if stop.number is not None:
                return record, "stopped"
            if options.until is not None and record["episodes"] >= 100 and record["return"] >= options.until:
                return record, "solved"
    return record, "finished"


def views(options: Options, folder: RunFolder, start: int) -> contextlib.AbstractContextManager[Any]:
    """The trackers asked for, or None."""
    if not options.track:
        return contextlib.nullcontext()
    from logpi.run import track  # an extra

    return contextlib.closing(track.open(options.track, folder.path, start or None))


def evaluator(parts: Parts, settings: Any) -> Callable[[], dict[str, float]]:
    """Ten episodes of the policy as it is, in environments of their own, that leave no trace in the training; of a
    language model its answers to a hundred prompts that training never shows."""
    if isinstance(settings, Text):
        return lambda: told_of(answered(parts.policy, settings, parts.collect.rewards, 100))
    construct = envs.construction(settings.env, settings.env_options, settings.wrap, settings.masks)

    def look() -> dict[str, float]:
        with chance.untouched():
            found = evaluate(parts.policy, construct, 10, backend=settings.backend)
        return told_of(found)

    return look


def told_of(found: Evaluation) -> dict[str, float]:
    return {"eval_return": found.mean, "eval_interval": found.interval}


def keep(parts: Parts, folder: RunFolder, options: Options, record: Record | None = None) -> None:
    """A checkpoint, and none of the older ones that nobody needs any more."""
    score = None
    if record is not None and options.eval_every:
        score = record.metrics.get("eval_return")
    elif record is not None and record["episodes"] >= 100:  # fewer are luck
        score = record["return"]
    checkpoint.save(parts, folder.checkpoints, folder.log.mark(), score)
    checkpoint.prune(folder.checkpoints, options.keep)


def tell_failures(parts: Parts, folder: RunFolder, display: Display) -> None:
    """What broke and was restarted: a line each, and the environment's own traceback in failures/."""
    while parts.collect.failures:
        failure = parts.collect.failures.pop(0)
        display.say(f"{failure} It was restarted; more in {write_failure(folder, failure.details)}.")


def tell_fallbacks(parts: Parts, display: Display) -> None:
    """What no fast twin covers, once each."""
    while parts.fused is not None and parts.fused.reasons:
        display.say(f"on the plain path: {parts.fused.reasons.pop(0)}")


def why_zero(record: Record) -> str:
    """A loss of 0 that is none, explained once; and one that is, for no group has a signal."""
    if record.metrics.get("groups_without_signal") == 1:
        return (
            "no group has a signal: the rewards in each are equal, and nothing is learnt from them; where that stays so,"
            " change --level, give a larger --group, or begin with a --warmup"
        )
    surrogate, slope = (record.metrics.get(name, 0.0) for name in ("surrogate", "grad_norm"))
    if abs(surrogate) > NOTHING or slope <= 100 * abs(surrogate):
        return ""
    return (
        f"the loss is 0 ({-surrogate:.1g}), as it should be: Ψ is centred and the ratio is 1, so the surrogate is the"
        f" mean of Ψ; its gradient is not 0 (norm {slope:.2g}), and that is what learns"
    )


def write_failure(folder: RunFolder, text: str) -> Path:
    (folder.path / "failures").mkdir(exist_ok=True)
    file = folder.path / "failures" / f"{len(list((folder.path / 'failures').iterdir())) + 1:04d}.txt"
    file.write_text(text)
    return file


def failed(folder: RunFolder, parts: Parts, wrong: BaseException) -> BaseException:
    """Status, log and traceback of what went wrong; the error to raise. What is saved stays."""
    with contextlib.suppress(OSError):
        details = getattr(wrong, "details", None) or "".join(traceback.format_exception(wrong))
        file = write_failure(folder, details)
        at = {"iteration": parts.state["iteration"] + 1, "steps": parts.state["steps"]}
        place = wrong.row() if isinstance(wrong, NotFinite) else {}
        folder.status("failed", at | {"reason": f"{type(wrong).__name__}: {wrong}", "details": file.name})
        folder.log.write(at | place | {"error": str(wrong)})
        if isinstance(wrong, EnvironmentFailed) and wrong.details:
            return LogpiError(f"{wrong} Its own traceback is in {file}.")
    if isinstance(wrong, OSError):
        where = f"{wrong.filename}: " if wrong.filename else ""
        cure = f"what was saved before is whole; mend that, then {command()} resume {shlex.quote(str(folder.path))}"
        return LogpiError(f"{where}{wrong.strerror or wrong}: {cure}.")
    return wrong


def draw(run: Path) -> None:
    """The learning curve; without matplotlib one line says how to get it."""
    try:
        plot([run], run / "learning-curve.png")
    except LogpiError as missing:
        Console(stderr=True).print(f"No picture: {missing}", highlight=False, markup=False)


def report(name: str, run: Path, record: Record, steps: int, state: str, seconds: float, fresh: str) -> None:
    mean = (
        f"return {figure(record['return'])} in the last 100 episodes"
        if record["episodes"]
        else "no episode has ended yet"
    )
    reached = f"{state}: {mean}; {fresh}"
    speed = f"speed: {steps:,} steps in {seconds:.1f} s, {steps / max(seconds, 1e-9):,.0f} steps/s"
    see = "generate" if "task" in record.parts.config["run"] else "play"
    then = f"(or eval, {see}, resume --steps; then logpi show {name}, logpi methods)"
    following = f"next: {command()} plot {shlex.quote(str(run))}  {then}"
    Console(highlight=False, soft_wrap=True).print(f"{reached}\n{speed}\n{following}", markup=False)


def resume_line(name: str, settings: Any, run: Path) -> str:
    """What to type to go on; code of the user's is named again."""
    own = {"method": name} | {
        kind: getattr(settings, kind, None) or "" for kind in ("env", "network", "task", "engine")
    }
    again = [word for kind, path in own.items() if is_path(path) for word in (f"--{kind}", path)]
    for kind in ("wrap", "reward"):
        again += [f"--{kind}", *getattr(settings, kind)] if getattr(settings, kind, ()) else []
    return shlex.join([command(), "resume", str(run), *again])


def command() -> str:
    """How logpi is typed here."""
    return "logpi" if shutil.which("logpi") else os.path.relpath(Path(sys.executable).with_name("logpi"))
