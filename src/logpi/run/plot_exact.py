"""The picture of `logpi exact`: bias and variance of each estimator, side by side."""

import math
from collections.abc import Sequence
from pathlib import Path

from logpi.exact.bench import Row
from logpi.run.plot import COLOURS, keep, sheet

FLOOR = 1e-3  # of the axis of bias: what is less is drawn hollow, at its edge


def draw(rows: Sequence[Row], title: str, out: Path) -> Path:
    """One line for each estimator: the relative bias left (hollow: 0 to rounding), the variance of a batch right."""
    factors = list(dict.fromkeys(row.factor for row in rows))
    at, place = {}, 0.0
    for i, row in enumerate(rows):
        place += 1.0 if i == 0 or row.factor == rows[i - 1].factor else 1.7
        at[i] = place
    chart = sheet(figsize=(9, 1.3 + 0.21 * place))
    chart.get_layout_engine().set(wspace=0.06)
    bias, spread = chart.subplots(1, 2, sharey=True)
    for i, row in enumerate(rows):
        colour = COLOURS[factors.index(row.factor) % len(COLOURS)]
        _, f, interval = row.figures()[0]
        for axes, x, half in (
            (bias, f["relative_bias"], interval["relative_bias"]),
            (spread, f["variance"], interval["variance"]),
        ):
            least = FLOOR if axes is bias else 1e-12
            shown = least if math.isnan(x) else max(x, least)
            axes.plot(shown, at[i], "o", ms=5, color=colour, mfc=colour if x > least else "white", clip_on=False)
            if half:
                axes.plot([max(least, x - half), max(least, x + half)], [at[i]] * 2, "-", lw=1.2, color=colour)
    for axes, words in ((bias, "relative bias (hollow: 0)"), (spread, "variance of a batch's gradient")):
        axes.set_xscale("log")
        axes.set_xlabel(words)
        axes.grid(axis="x", lw=0.4, alpha=0.6)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    bias.set_xlim(left=FLOOR)
    bias.set_yticks([at[i] for i in range(len(rows))], [row.name for row in rows], fontsize=8)
    bias.set_ylim(place + 0.8, -0.4)
    for factor in factors:
        first = next(i for i, row in enumerate(rows) if row.factor == factor)
        words = f"{factor}, against {rows[first].directions[0].name}"
        colour = COLOURS[factors.index(factor) % len(COLOURS)]
        bias.text(FLOOR * 1.2, at[first] - 0.8, words, va="center", fontsize=8, color=colour)
    chart.suptitle(title, x=0.01, ha="left", fontsize=11)
    return keep(chart, out)
