"""The picture of `logpi variance`: the total variance of each estimator, and where a batch's gradient points."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from logpi.run.plot import COLOURS, keep, sheet
from logpi.run.table import plain
from logpi.run.variance import Noise

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(lines: list[Noise], about: dict[str, Any], out: Path) -> None:
    """Bars with their intervals: the total variance on a log scale, and the cosine of a batch's gradient."""
    chart = sheet(figsize=(10, 1.6 + 0.42 * len(lines)))
    left, right = chart.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    bars(left, lines, "variance", COLOURS[0])
    left.set(xscale="log", xlabel="total variance of one episode's gradient")
    bars(right, lines, "cosine", COLOURS[1])
    right.set(xlabel=f"cosine to the reference, {about['batch']} episodes")
    right.axvline(0, color="black", linewidth=0.8)
    left.set_yticks(range(len(lines)), [x.estimator.replace("_", " ") for x in lines])
    left.invert_yaxis()
    chart.suptitle(plain(about["policy"]).replace("$", r"\$"), fontsize=10)
    chart.supxlabel("thin line: 95 % jackknife interval", fontsize=7.5)
    keep(chart, out)


def bars(axes: "Axes", lines: list[Noise], column: str, colour: str) -> None:
    shown = [i for i, x in enumerate(lines) if column != "variance" or not x.own_scale]
    found = [getattr(lines[i], column) for i in shown]
    beside = [[max(0.0, x.value - x.low) for x in found], [max(0.0, x.high - x.value) for x in found]]
    axes.barh(shown, [x.value for x in found], xerr=beside, color=colour, alpha=0.75, ecolor="black")
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
