"""logpi variance RUN|--env ID --method M"""

import csv as csv_room
import dataclasses
import json as json_room
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from logpi.average import Kind
from logpi.errors import LogpiError
from logpi.exact.estimators import Baseline, Credit
from logpi.page import Between, Count, Fraction, page
from logpi.run.evaluate import environment_of
from logpi.run.flags import parse
from logpi.run.load import load
from logpi.run.paths import constructor
from logpi.run.table import figure, plain
from logpi.run.variance import LESSON, UNBIASED, Measured, Noise, collect, compare, crossed, estimators, frozen, trained

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = ("variance", "ratio", "snr", "cosine", "noise_scale", "ess")
TITLES = {
    "variance": "total variance",
    "ratio": "ratio to the first",
    "snr": "SNR",
    "cosine": "cosine",
    "noise_scale": "noise scale",
    "ess": "ESS",
}


@page
class Variance:
    """How noisy the policy gradient is, for any credit and baseline, on the same episodes of a frozen policy.

    A quarter of the episodes fits V, the others are measured in batches. In brackets: 95 % jackknife intervals.
    """

    run: tyro.conf.Positional[Path | None] = None  # its newest checkpoint is measured; else --env and --method
    env: str | None = None  # a policy trained here and now; with a run: another environment than its own
    method: str = "ppo"  # that trains it
    after: Annotated[int, Between(0)] = 10_000  # for so many steps
    network: str | None = None  # ./file.py:build, where the run used one of yours
    psi: tuple[Credit, ...] = ()  # credits; else the textbook's list, from the total return to the TD error
    baseline: tuple[Baseline, ...] = ("none",)  # each is subtracted from each return (--psi total to_go q)
    average: Kind = "per_episode"  # over actions
    gamma: Fraction = 1.0  # discount of later rewards
    lam: Fraction = 0.95  # of gae
    from_start: bool = True  # times gamma^t, without which total and to_go are not the same gradient
    episodes: Count = 1024  # in all
    batch: Count = 16  # episodes of the gradients whose SNR, cosine and ESS are told
    seed: Annotated[int, Between(0, 2**31 - 1)] = 0  # of training, environments, sampling and V
    json: bool = False  # one object for scripts
    csv: bool = False  # a line for each estimator, its intervals in columns of their own
    plot: Path | None = None  # a picture, .png or .svg


def main(args: list[str]) -> None:
    given = parse(Variance, args, "logpi variance")
    batches, choices = given.episodes // given.batch, crossed(given.psi, given.baseline) if given.psi else LESSON
    if batches < 4:
        least = 4 * given.batch
        raise LogpiError(f"--episodes {given.episodes} is too few for batches of {given.batch}: give {least} or more.")
    if given.gamma < 1 and not given.from_start and any(credit == "total" for credit, _ in choices):
        raise LogpiError("The total return holds gamma^t: name other --psi, or leave --no-from-start away.")
    if given.plot is not None and given.plot.suffix not in (".png", ".svg"):
        raise LogpiError(f"The picture {given.plot} must end in .png or .svg.")
    more = {key: getattr(given, key) for key in ("average", "gamma", "lam", "from_start")}
    pages, unbiased = estimators(choices, **more), estimators(UNBIASED, **more)
    policy, where, construct = subject(given)
    kept = batches - batches // 4
    needs_q = any(c.choice.psi in ("q", "advantage") for c in pages.values())
    measured = collect(policy, construct, kept, given.batch, given.gamma, given.seed, needs_q)
    lines, reference, certainty = compare(pages, policy, measured, unbiased)
    about = {"policy": where, "episodes": kept * given.batch, "batch": given.batch, "seed": given.seed} | more
    about |= {"actions": sum(int(b.mask.sum()) for b in measured), "unit": "episode"}
    about |= {"return": sum(float(b.reward[b.mask].sum()) for b in measured) / (kept * given.batch)}
    about |= {"reference": reference, "cosine_of_reference_to_truth": certainty}
    if given.json:
        print(json_room.dumps(about | {"estimators": [finite(dataclasses.asdict(x)) for x in lines]}, indent=1))
    elif given.csv:
        write_csv(lines)
    else:
        show(lines, about)
    if given.plot is not None:
        draw(lines, about, given.plot)
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"picture: {given.plot}", markup=False)


def subject(given: Variance) -> tuple[Any, str, Any]:
    """(the frozen policy, whose it is in words, what `envs.make` takes)."""
    if given.run is not None:
        policy = load(given.run, given.network)
        env, construct = environment_of(given.run, given.env)
        return frozen(policy), f"{given.run} on {env}", construct
    if given.env is None:
        raise LogpiError("logpi variance needs a policy: give a run folder, or --env ID --method M.")
    policy = trained(given.method, given.env, given.after, given.seed)
    return frozen(policy), f"{given.method} after {given.after:,} steps on {given.env}", constructor(given.env)


def finite(x: Any) -> Any:
    """inf and NaN as null, which JSON has."""
    if isinstance(x, dict):
        return {k: finite(v) for k, v in x.items()}
    return None if isinstance(x, float) and not math.isfinite(x) else x


def write_csv(lines: list[Noise]) -> None:
    table = csv_room.writer(sys.stdout, lineterminator="\n")
    table.writerow(["estimator", *(f"{c}{end}" for c in COLUMNS for end in ("", "_low", "_high"))])
    for x in lines:
        table.writerow([x.estimator, *(y for c in COLUMNS for y in dataclasses.astuple(getattr(x, c)))])


def show(lines: list[Noise], about: dict[str, Any]) -> None:
    table = Table("estimator", box=None, header_style="bold", pad_edge=False)
    for c in COLUMNS:
        table.add_column(TITLES[c], justify="right")
    for x in lines:
        table.add_row(plain(x.estimator), *(cell(getattr(x, c)) for c in COLUMNS))
    console = Console(highlight=False, markup=False, emoji=False, width=100_000)
    console.print(plain(f"{about['policy']}: {about['episodes']:,} episodes, mean return {figure(about['return'])}"))
    console.print()
    console.print(table)
    console.print()
    certainty = about["cosine_of_reference_to_truth"]
    console.print(f"""\
total variance: trace of the covariance of one episode's gradient; its unit, and the noise scale's, is an episode
SNR, cosine, ESS: of the gradient of {about["batch"]} episodes. ESS: share of its actions after an ascent of common learning rate
cosine: to that of {about["reference"]} over all other batches, whose own cosine to the truth is about {certainty:.3f}
cut episodes: td, n_step, gae and vtrace add V of what would have followed, total and to_go nothing""")


def cell(x: Measured) -> str:
    return f"{number(x.value)} [{number(x.low)}, {number(x.high)}]"


def number(x: float) -> str:
    """Three figures: 0.0123, 12.3, 1.2e+07."""
    return f"{x:,.0f}" if 100 <= abs(x) < 1e5 else f"{x:.3g}"


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
    found = [getattr(x, column) for x in lines]
    beside = [[max(0.0, x.value - x.low) for x in found], [max(0.0, x.high - x.value) for x in found]]
    axes.barh(range(len(lines)), [x.value for x in found], xerr=beside, color=colour, alpha=0.75, ecolor="black")
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
