"""How the guide's figures look: readable on white and on black paper, colours that everybody can tell apart, text as text."""

import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PINK, GOLD, SKY, GREY = "#3b7dd8", "#d9661f", "#1a9873", "#c9679f", "#c08a00", "#56a5d8", "#808080"
COLOURS = [BLUE, ORANGE, GREEN, PINK, GOLD, SKY]

mpl.rcParams.update(
    {
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
        "axes.edgecolor": GREY,
        "axes.labelcolor": GREY,
        "axes.titlecolor": GREY,
        "axes.titlesize": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.prop_cycle": mpl.cycler(color=COLOURS),
        "xtick.color": GREY,
        "ytick.color": GREY,
        "text.color": GREY,
        "grid.color": "#80808040",
        "legend.frameon": False,
        "font.size": 10,
        "svg.fonttype": "none",  # text stays text: small files, sharp, found by a search
        "svg.hashsalt": "logpi",  # the same figure is the same file
    }
)


def new(width: float = 7.0, height: float = 3.2, columns: int = 1) -> tuple[Figure, list]:
    """A figure and its axes in a row."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def write(script: str, **figures: Callable[[], Figure]) -> None:
    """`python 03_baselines.py [FOLDER]` writes 03-NAME.svg for each figure, beside the script or into FOLDER."""
    number = Path(script).name[:2]
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(script).parent
    for name, draw in figures.items():
        draw().savefig(folder / f"{number}-{name}.svg", metadata={"Date": None})
