"""The picture of a table in docs/benchmarks.md."""

import statistics
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from side_by_side import three

OURS, OTHERS = "#1f5f8b", "#b8b8b8"


def bars(result: dict[str, Any], file: Path) -> None:
    """Medians as bars from zero with their ranges, a panel with its own scale for each case."""
    cases = result["runs"]
    counts = [len(found) for found in cases.values()]
    figure, panels = plt.subplots(
        len(cases), 1, squeeze=False, figsize=(8, 0.32 * sum(counts) + 0.55 * len(cases) + 0.6),
        height_ratios=counts, layout="constrained",
    )  # fmt: skip
    for panel, (case, found) in zip(panels[:, 0], cases.items(), strict=True):
        told = {runner: [r["value"] for r in runs if "value" in r] for runner, runs in found.items()}
        told = {runner: values for runner, values in told.items() if values}
        middle = [statistics.median(values) for values in told.values()]
        reach = [[m - min(v) for m, v in zip(middle, told.values(), strict=True)]]
        reach.append([max(v) - m for m, v in zip(middle, told.values(), strict=True)])
        colours = [OURS if r.startswith(("logpi", "--seeds", "one run")) else OTHERS for r in told]
        panel.barh(list(told), middle, xerr=reach, color=colours, height=0.7, error_kw={"elinewidth": 1})
        for row, value in enumerate(middle):
            panel.annotate(f"  {three(value)}", (value + reach[1][row], row), va="center", fontsize=8)
        panel.set(title=case, xlim=(0, 1.15 * max(map(max, told.values()))))
        panel.title.set(fontsize=9, ha="left", x=0)
        panel.tick_params(labelsize=8)
        panel.invert_yaxis()
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1, 0].set_xlabel({"s": "seconds"}.get(result["unit"], "steps per second"), fontsize=9)
    written(figure, file)


def powers(panel: Axes, grows: str, values: list[int]) -> None:
    """Seconds against what grows, both logarithmic: a straight line is a power."""
    panel.set(xscale="log", yscale="log", xlabel=grows, ylabel="seconds")
    panel.set_xticks(values, [f"{x:,}" for x in values], fontsize=8)
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.yaxis.set_major_formatter("{x:g}")
    panel.minorticks_off()
    panel.legend(fontsize=8, frameon=False)
    panel.spines[["top", "right"]].set_visible(False)


def written(figure: Figure, file: Path) -> None:
    figure.savefig(file, dpi=130)
    plt.close(figure)
