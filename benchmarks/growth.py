"""How logpi's cost grows with environments, steps, width and batch: python benchmarks/growth.py"""

import statistics
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import side_by_side
from figures import OTHERS, OURS, powers, written
from side_by_side import Case, Runner, Table, spread, three

SWEEPS = {  # what grows, and through which values
    "environments": [4, 16, 64, 256, 1024],
    "length of a segment": [16, 64, 256, 1024],
    "width of the networks": [16, 32, 64, 128, 256, 512],
    "steps of the run": [32_768, 65_536, 131_072, 262_144],
}
BASE = {"envs": 16, "length": 128, "width": 64}


def runners(points: list[int]) -> tuple[Runner, ...]:
    asked = {"points": points}
    return Runner("logpi", "growth_logpi", asked), Runner("plain", "growth_logpi", asked | {"fast": "off"})


TABLE = Table(
    "growth",
    "PPO on CartPole-v1 on one core: 16 environments x 128 steps, 64x64 tanh networks, 4 epochs x 4 minibatches, one of them"
    " varied. Milliseconds of an iteration (of the whole run, where its steps vary) and the exponent p of cost ~ x^p, fitted"
    " by least squares to the logarithms: 1 is in proportion, less where fixed costs still rule.",
    tuple(Case(name, BASE | {"grows": name}, runners(points)) for name, points in SWEEPS.items()),
    "exponent",
    "Cost of an iteration against environments, length, width and steps, both axes logarithmic",
)


def render(table: Table, result: dict[str, Any]) -> str:
    """A table for each sweep: a column for each value of it."""
    lines = [table.about]
    for name, found in result["runs"].items():
        points = SWEEPS[name]
        lines += ["", f"| {name} | {' | '.join(f'{x:,}' for x in points)} | p |", "|---" * (len(points) + 2) + "|"]
        for runner, runs in found.items():
            told = [[run["cost"][i] for run in runs if "cost" in run] for i in range(len(points))]
            cells = [three(1000 * statistics.median(x)) if x else "failed" for x in told]
            exponent = spread([run.get("value", float("nan")) for run in runs])
            lines.append(f"| {runner}, ms | {' | '.join(cells)} | {exponent} |")
    return "\n".join([*lines, "", *side_by_side.conditions(result)])


def draw(result: dict[str, Any], file: Path) -> None:
    """Cost against what grows, both logarithmic: a straight line is a power."""
    figure, panels = plt.subplots(2, 2, figsize=(8, 6), layout="constrained")
    for panel, (name, found) in zip(panels.flat, result["runs"].items(), strict=True):
        for (runner, each), colour in zip(found.items(), (OURS, OTHERS), strict=True):
            done = [run for run in each if "cost" in run]
            cost = [statistics.median(point) for point in zip(*(run["cost"] for run in done), strict=True)]
            exponent = statistics.median(run["value"] for run in done)
            panel.plot(SWEEPS[name], cost, "o-", color=colour, label=f"{runner}: p = {exponent:.2f}")
        powers(panel, name, SWEEPS[name])
    written(figure, file)


if __name__ == "__main__":
    side_by_side.main(TABLE, render, draw)
