"""Learning curves from metrics.jsonl, as PNG or SVG."""

from pathlib import Path

from logpi.errors import LogpiError, nearest
from logpi.run.folder import rows


def plot(runs: list[Path], out: Path, x: str = "steps", y: str = "return") -> Path:
    """One curve for each run, methods told apart by colour; `out` ends in .png or .svg."""
    try:
        import matplotlib
    except ModuleNotFoundError as missing:
        raise LogpiError('Plots need matplotlib: pip install "logpi[plot]".') from missing
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    if out.suffix not in (".png", ".svg"):
        raise LogpiError(f"The picture {out} must end in .png or .svg.")
    curves = [(run, *_curve(run, x, y)) for run in runs]
    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    names = [run.resolve().parent.name for run, _, _ in curves]
    colours = {name: f"C{i}" for i, name in enumerate(dict.fromkeys(names))}
    for name, (_, xs, ys) in zip(names, curves, strict=True):
        axes.plot(xs, ys, color=colours[name], alpha=0.9 if names.count(name) == 1 else 0.6)
    for name, colour in colours.items():  # one line in the legend for each method
        own = [run.name.split("-")[0] for other, (run, _, _) in zip(names, curves, strict=True) if other == name]
        axes.plot([], [], color=colour, label=f"{name}, seed {own[0]}" if len(own) == 1 else f"{name}, {len(own)} runs")
    axes.set(xlabel=x, ylabel="mean return of the last 100 episodes" if y == "return" else y.replace("_", " "))
    axes.set_title(", ".join(dict.fromkeys(run.resolve().parent.parent.name for run, _, _ in curves)), loc="left")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)
    plt.close(figure)
    return out


def _curve(run: Path, x: str, y: str) -> tuple[list[float], list[float]]:
    table = list(rows(run))
    if not table:
        raise LogpiError(f"{run} has no finished iteration to plot.")
    total, points = 0.0, []
    for row in table:
        total += row["seconds"]
        row = row | {"seconds": total}
        for name in (x, y):
            if name not in row:
                raise LogpiError(f"{run} has no {name!r} in its metrics.{nearest(name, row)}")
        if row[y] is not None:
            points.append((row[x], row[y]))
    return [p[0] for p in points], [p[1] for p in points]
