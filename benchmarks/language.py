"""A tiny model from its warm-up to mastery: python benchmarks/language.py [TASK ...] [--seeds 3]

Accuracy is exact answers to 1,000 prompts of the test, sampled at temperature 1. Seconds are those of warm-up and training on
this machine, without the evaluations between.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from figures import OTHERS, OURS
from study import about_now, interval

import logpi
from logpi.loop import Parts, Record, loop
from logpi.run.evaluate import answered
from logpi.run.language import Text
from logpi.run.setup import assemble, find_method

HERE = Path(__file__).parent
NAME, PROMPTS, GOAL = "language", 1000, 0.95
TASKS = {"addition": 130.0, "sort-digits": 130.0, "reverse-text": 180.0, "countdown": 180.0}  # seconds given
HARDER: dict[str, dict[str, Any]] = {"reverse-text": {"level": 12}}  # than the task is by itself
EVERY = 10.0  # seconds between evaluations
METHOD = "grpo"


def course(task: str, seed: int, seconds: float) -> dict[str, Any]:
    """(seconds, tokens, accuracy) as a run goes on; its first point is the warm-up's end."""
    tuned = logpi.recipe(METHOD, task) | HARDER.get(task, {})
    began = time.perf_counter()
    parts, settings = assembled(METHOD, tuned, task, seed)
    warm = time.perf_counter() - began
    points = followed(parts, settings, lambda record, spent: warm + spent, EVERY, seconds, warm)
    parts.collect.close()
    reached = next((p[0] for p in points if p[2] >= GOAL), None)
    parameters = sum(p.numel() for p in parts.policy.parameters())
    found = {"seed": seed, "warm_up": warm, "points": points, "reached": reached}
    return found | {"parameters": parameters, "settings": tuned}


def assembled(method: str, tuned: dict[str, Any], task: str, seed: int) -> tuple[Parts, Text]:
    """A run that may go on for ever; `tuned` are settings of the page and of the run."""
    page = {k: v for k, v in tuned.items() if k in {*find_method(method).__dataclass_fields__}}
    settings = Text(task=task, seed=seed, steps=10**9, **{k: v for k, v in tuned.items() if k not in page})
    return assemble(find_method(method, page), settings, name=method), settings


def followed(
    parts: Parts, settings: Text, at: Callable[[Record, float], float], every: float, end: float, begin: float = 0.0
) -> list[list[float]]:
    """(seconds, tokens, accuracy) at the start and whenever `at` (seconds, or tokens) has gone on by `every`, up to `end`."""
    points, spent, looked = [[begin, 0, accuracy(parts, settings)]], 0.0, begin
    for record in loop(parts):
        spent += record.seconds
        now = at(record, spent)
        if now >= looked + every or now >= end:
            looked = now
            points.append([begin + spent, record.steps, accuracy(parts, settings)])
        if now >= end:
            break
    return points


def accuracy(parts: Parts, settings: Text) -> float:
    """Of answers that get the whole reward."""
    found = answered(parts.policy, settings, parts.collect.rewards, PROMPTS)
    return sum(x >= 1 for x in found.returns) / PROMPTS


ABOUT = f"""# From a warm-up to mastery

Made by `python benchmarks/language.py`: `logpi train {METHOD} --task TASK` with its recipe, from a new model. Accuracy: exact answers
to {PROMPTS:,} prompts that training never shows, sampled at temperature 1; mean over seeds and its 95 % interval. Seconds: warm-up and
training, without the evaluations between.

| task | parameters | after the warm-up | at the end | seconds to 95 %, each seed | seconds in all | tokens sampled |
|---|---|---|---|---|---|---|"""


def page(results: dict[str, list[dict[str, Any]]]) -> str:
    rows = [row(task, runs) for task, runs in results.items()]
    versions = ", ".join(f"{k} {v}" for k, v in about_now("transformers").items())
    return "\n".join([ABOUT, *rows, "", "![Accuracy against seconds](results/language.png)", "", f"{versions}.", ""])


def row(task: str, runs: list[dict[str, Any]]) -> str:
    first, last = ([run["points"][at][2] for run in runs] for at in (0, -1))
    low, high = interval(last)
    reached = ", ".join("never" if run["reached"] is None else f"{run['reached']:.0f}" for run in runs)
    seconds, tokens = (statistics.fmean(run["points"][-1][k] for run in runs) for k in (0, 1))
    accuracy = f"{statistics.fmean(first):.2f} | {statistics.fmean(last):.3f} [{low:.3f}, {high:.3f}]"
    return f"| {task} | {runs[0]['parameters']:,} | {accuracy} | {reached} | {seconds:.0f} | {tokens:,.0f} |"


def draw(results: dict[str, list[dict[str, Any]]]) -> None:
    figure, axes = plt.subplots(1, len(results), figsize=(4 * len(results), 3), squeeze=False, layout="constrained")
    for axis, (task, runs) in zip(axes[0], results.items(), strict=True):
        for run in runs:
            axis.plot([p[0] for p in run["points"]], [p[2] for p in run["points"]], color=OURS, lw=1.2, alpha=0.8)
        axis.axhline(GOAL, color=OTHERS, lw=0.8, ls="--")
        axis.set(title=task, xlabel="seconds", ylim=(0, 1.02))
    axes[0][0].set_ylabel("accuracy on held-out prompts")
    figure.savefig(HERE / "results" / f"{NAME}.png", dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tasks", nargs="*", choices=[*TASKS, []], help="else addition and sort-digits")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--seconds", type=float, help="of each run, in place of the task's own; nothing is written")
    given = parser.parse_args()
    file = HERE / "results" / f"{NAME}.json"
    for task in given.tasks or ("addition", "sort-digits"):
        runs = []
        for seed in range(given.seeds):
            runs.append(course(task, seed, given.seconds or TASKS[task]))
            reached, last = runs[-1]["reached"], runs[-1]["points"][-1]
            print(
                f"{task}, seed {seed}: {runs[-1]['points'][0][2]:.3f} -> {last[2]:.3f} in {last[0]:.0f} s, 95 % at {reached}",
                flush=True,
            )
        if given.seconds is None:
            results = (json.loads(file.read_text()) if file.exists() else {}) | {task: runs}
            file.write_text(json.dumps(results, indent=1) + "\n")
            (HERE / f"{NAME}.md").write_text(page(results))
            draw(results)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
