"""Learning curves from metrics.jsonl, as PNG or SVG."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from logpi.errors import LogpiError, nearest
from logpi.run.bootstrap import bootstrap
from logpi.run.folder import rows
from logpi.run.table import asked, number, plain, runs_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe & Ito 2008, no yellow
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))
POINTS = 400  # of a mean curve
NAMES = {"return": "mean return of the last 100 episodes", "eval_return": "mean return of evaluation episodes"}


@dataclass(frozen=True)
class Run:
    """One run: what was asked of it, and its points."""

    env: str
    method: str
    seed: Any
    settings: dict[str, Any]  # [method] and [run] but for the seed; {} unknown
    x: np.ndarray
    y: np.ndarray  # both empty: it has no such number yet
    names: set[str]  # of what its rows hold


def plot(runs: Sequence[Path], out: Path, x: str = "steps", y: str = "return", each: bool = False) -> Path:
    """Runs that differ in the seed only are one curve: their mean, its 95 % bootstrap interval, the runs thin behind.

    `runs`: run folders, or folders that hold runs. `each` draws every run by itself; one panel for each environment.
    `out` ends in .png or .svg.
    """
    must_be_picture(out)
    if x not in ("steps", "seconds", "iteration"):
        raise LogpiError(f"The x-axis cannot be {x!r}: there is steps, seconds and iteration.")
    found = [read(run, x, y) for run in runs_of(runs)]
    _must_have(found, runs[0], x, y)
    panels = {
        env: grouped([run for run in found if run.env == env], each) for env in dict.fromkeys(r.env for r in found)
    }
    names = [_label(*group) if each else group[0] for groups in panels.values() for group in groups]
    styles = {name: i for i, name in enumerate(dict.fromkeys(names))}
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = sheet(figsize=(7 if columns == 1 else 5 * columns, 4.2 * lines))
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes, (env, groups) in zip(grid.flat, panels.items(), strict=False):
        for group in groups:
            _draw(axes, _label(*group), group[1], styles[_label(*group) if each else group[0]])
        _furnish(axes, x, y)
        axes.set_title(_words(env), loc="left")
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    if any(len(runs) > 1 for groups in panels.values() for _, runs in groups):
        figure.supxlabel("line: mean over seeds; band: its 95 % bootstrap interval; thin: single runs", fontsize=7.5)
    return keep(figure, out)


def must_be_picture(out: Path) -> None:
    if out.suffix not in (".png", ".svg"):
        raise LogpiError(f"The picture {out} must end in .png or .svg.")


def sheet(**given: Any) -> Any:
    """An empty matplotlib figure, drawn without a display."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as missing:
        raise LogpiError('Plots need matplotlib: pip install "logpi[plot]".') from missing
    return Figure(layout="constrained", **given)


def keep(figure: Any, out: Path) -> Path:
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)
    return out


def grouped(runs: Sequence[Run], each: bool = False) -> list[tuple[str, list[Run]]]:
    """(name, runs that differ in the seed only). Of two runs of one seed the later given stands: a copy is no evidence."""
    groups: dict[str, dict[str, Run]] = {}
    for i, run in enumerate(runs):
        alone = each or not run.settings
        key = str(i) if alone else json.dumps([run.method, run.settings], sort_keys=True, default=str)
        groups.setdefault(key, {})[str(run.seed)] = run
    made = [[r for r in group.values() if len(r.x)] or list(group.values())[:1] for group in groups.values()]
    return [
        (_name(group[0], [other[0] for other in made if other[0].method == group[0].method]), group) for group in made
    ]


def _name(run: Run, rivals: list[Run]) -> str:
    """The method, and the settings in which runs of it differ."""
    keys = sorted({key for rival in rivals for key in rival.settings})
    differing = [k for k in keys if any(rival.settings.get(k) != run.settings.get(k) for rival in rivals)]
    return ", ".join([run.method, *(f"{k.split('.')[1]}={_shown(run.settings.get(k))}" for k in differing)])


def _label(name: str, group: list[Run]) -> str:
    if len(group) > 1:
        return f"{name} ({len(group)} seeds)"
    return f"{name}, seed {group[0].seed}{'' if len(group[0].x) else ' (no value yet)'}"


def mean_curve(group: Sequence[Run]) -> tuple[np.ndarray, np.ndarray]:
    """(x [G], y [n, G]): the runs interpolated to one grid over the range that all of them have; G = 0 where they share none."""
    low, high = max(run.x[0] for run in group), min(run.x[-1] for run in group)
    grid = np.linspace(low, high, POINTS) if low < high else np.empty(0)
    return grid, np.stack([np.interp(grid, run.x, run.y) for run in group])


def _draw(axes: "Axes", label: str, group: list[Run], number: int) -> None:
    style: Any = {"color": COLOURS[number % len(COLOURS)], "linestyle": DASHES[number % len(DASHES)]}
    if len(group) == 1:
        marker = "o" if len(group[0].x) == 1 else None
        axes.plot(group[0].x, group[0].y, label=_words(label), linewidth=1.6, marker=marker, **style)
        return
    for run in group:
        axes.plot(run.x, run.y, color=style["color"], linewidth=0.7, alpha=0.35)
    grid, samples = mean_curve(group)
    axes.plot(grid, samples.mean(0), label=_words(label), linewidth=2, **style)
    if len(grid):
        axes.fill_between(grid, *bootstrap(samples), color=style["color"], alpha=0.18, linewidth=0)


def _furnish(axes: "Axes", x: str, y: str) -> None:
    """Axes that are labelled, a light grid, and the legend: beside the picture where it is long."""
    from matplotlib.ticker import EngFormatter

    axes.set(xlabel=x, ylabel=NAMES.get(y, y.replace("_", " ")))
    axes.grid(alpha=0.25)
    axes.margins(x=0.01)
    if x != "seconds":
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.spines[["top", "right"]].set_visible(False)
    beside: Any = (
        {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)} if len(axes.get_legend_handles_labels()[1]) > 10 else {}
    )
    axes.legend(frameon=False, fontsize=8, handlelength=3, **beside)


def read(run: Path, x: str, y: str) -> Run:
    """A run's curve."""
    table = list(rows(run))
    seconds = np.cumsum([number(row.get("seconds")) or 0.0 for row in table])
    places = seconds.tolist() if x == "seconds" else [number(row.get(x)) for row in table]
    points = [(at, height) for at, height in zip(places, (number(row.get(y)) for row in table), strict=True)]
    known = np.array([p for p in points if None not in p], dtype=float).reshape(-1, 2)
    return Run(**described(run), x=known[:, 0], y=known[:, 1], names={name for row in table for name in row})


def described(run: Path) -> dict[str, Any]:
    """env, method, seed and settings: what was asked of a run. [train] changes no number, so it is left out."""
    where = run.resolve()
    try:
        told = asked(run)
    except LogpiError:  # a run is drawn without its settings, by itself
        told = {}
    page, settings = told.get("method", {}), told.get("run", {})
    flat = {f"{title}.{k}": v for title in ("method", "run") for k, v in told.get(title, {}).items()}
    return {
        "env": str(settings.get("env", where.parent.parent.name)),
        "method": str(page.get("name", where.parent.name)),
        "seed": settings.get("seed", where.name.split("-")[0]),
        "settings": {k: v for k, v in flat.items() if k not in ("run.seed", "run.env", "method.name")},
    }


def _must_have(found: list[Run], first: Path, x: str, y: str) -> None:
    known = set().union(*(run.names for run in found))
    if not known:
        raise LogpiError(f"{first} has no finished iteration to plot.")
    for name in (x, y):
        if name not in known:
            raise LogpiError(f"{first} has no {name!r} in its metrics.{nearest(name, known)}")


def _shown(value: Any) -> str:
    return "-" if value is None else str(value)


def _words(text: str) -> str:
    """Text as it stands, not as TeX."""
    return plain(text).replace("$", r"\$")
