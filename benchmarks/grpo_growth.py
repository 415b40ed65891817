"""How a GRPO step of a language model grows with prompts, group, length and width: python benchmarks/grpo_growth.py"""

import math
import statistics
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import side_by_side
from figures import OTHERS, OURS, powers, written
from side_by_side import Case, Runner, Table, three

SWEEPS = {  # what grows, its name for the driver, and through which values
    "prompts": ("prompts", [2, 4, 8, 16, 32]),
    "answers in a group": ("group", [2, 4, 8, 16, 32]),
    "tokens of an answer": ("length", [16, 32, 64, 128, 256]),
    "width of the model": ("width", [64, 128, 256, 512]),
}
BASE = {"size": "S", "ends": 0.0, "threads": 2, "iterations": 3, "prompts": 4, "group": 8, "length": 32}
TOLD = {"sample": "sampling, ms", "train": "training, ms", "mib": "memory, MiB"}


def case(sweep: str, value: int) -> Case:
    asked = BASE | {SWEEPS[sweep][0]: value}
    return Case(f"{sweep}: {value}", asked, (Runner("logpi", "grpo_logpi"),), cores=2)


TABLE = Table(
    "grpo_growth",
    "One step of GRPO in float32 on two cores, a Qwen3 of 4 layers of 256 with random weights: 4 prompts of 15 tokens,"
    " 8 answers of 32 tokens to each, one of them varied. The exponent p of cost ~ x^p is fitted by least squares to the"
    " logarithms: 1 is in proportion, less where fixed costs still rule. Memory is the most that the process held, of which"
    " Python, torch, transformers and numba are about 490 MiB.",
    tuple(case(sweep, value) for sweep, (_, values) in SWEEPS.items() for value in values),
    "s",
    "Seconds of sampling and of training against prompts, group, length and width, both axes logarithmic",
)


def points(result: dict[str, Any], sweep: str, told: str) -> list[float]:
    """The median of each value of a sweep."""
    every = [result["runs"][case(sweep, x).name]["logpi"] for x in SWEEPS[sweep][1]]
    return [statistics.median([run[told] for run in runs if told in run] or [math.nan]) for runs in every]


def exponent(sweep: str, cost: list[float]) -> float:
    values = SWEEPS[sweep][1]
    return statistics.linear_regression([math.log(x) for x in values], [math.log(y) for y in cost]).slope


def render(table: Table, result: dict[str, Any]) -> str:
    """A table for each sweep: a column for each value of it."""
    lines = [table.about]
    for sweep, (_, values) in SWEEPS.items():
        lines += ["", f"| {sweep} | {' | '.join(f'{x:,}' for x in values)} | p |", "|---" * (len(values) + 2) + "|"]
        for told, title in TOLD.items():
            cost = points(result, sweep, told)
            cells = [three(x if told == "mib" else 1000 * x) for x in cost]
            lines.append(f"| {title} | {' | '.join(cells)} | {'' if told == 'mib' else three(exponent(sweep, cost))} |")
    return "\n".join([*lines, "", *side_by_side.conditions(result)])


def draw(result: dict[str, Any], file: Path) -> None:
    """Cost against what grows, both logarithmic: a straight line is a power."""
    figure, panels = plt.subplots(2, 2, figsize=(8, 6), layout="constrained")
    for panel, (sweep, (_, values)) in zip(panels.flat, SWEEPS.items(), strict=True):
        for (told, name), colour in zip((("sample", "sampling"), ("train", "training")), (OTHERS, OURS), strict=True):
            cost = points(result, sweep, told)
            panel.plot(values, cost, "o-", color=colour, label=f"{name}: p = {exponent(sweep, cost):.2f}")
        powers(panel, sweep, values)
    written(figure, file)


if __name__ == "__main__":
    side_by_side.main(TABLE, render, draw)
