"""The picture of `logpi variance`: the total variance of each estimator, and where a batch's gradient points."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from logpi.errors import LogpiError
from logpi.run.table import plain
from logpi.run.variance import Noise

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(lines: list[Noise], about: dict[str, Any], out: Path) -> None:
    """Bars with their intervals: the total variance on a log scale, and the cosine of a batch's gradient."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as missing:
        raise LogpiError('Plots need matplotlib: pip install "logpi[plot]".') from missing
    sheet = Figure(figsize=(10, 1.6 + 0.42 * len(lines)), layout="constrained")
    left, right = sheet.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    bars(left, lines, "variance", "#0072B2")
    left.set(xscale="log", xlabel="total variance of one episode's gradient")
    bars(right, lines, "cosine", "#D55E00")
    right.set(xlabel=f"cosine to the reference, {about['batch']} episodes")
    right.axvline(0, color="black", linewidth=0.8)
    left.set_yticks(range(len(lines)), [x.estimator.replace("_", " ") for x in lines])
    left.invert_yaxis()
    sheet.suptitle(plain(about["policy"]).replace("$", r"\$"), fontsize=10)
    sheet.supxlabel("thin line: 95 % jackknife interval", fontsize=7.5)
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.savefig(out, dpi=150)


def bars(axes: "Axes", lines: list[Noise], column: str, colour: str) -> None:
    shown = [i for i, x in enumerate(lines) if column != "variance" or not x.own_scale]
    found = [getattr(lines[i], column) for i in shown]
    beside = [[max(0.0, x.value - x.low) for x in found], [max(0.0, x.high - x.value) for x in found]]
    axes.barh(shown, [x.value for x in found], xerr=beside, color=colour, alpha=0.75, ecolor="black")
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
