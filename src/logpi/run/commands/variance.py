"""logpi variance RUN|--env ID --method M"""

import csv as csv_room
import json as json_room
import math
import sys
from dataclasses import asdict, astuple, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from logpi import envs
from logpi.average import Kind
from logpi.errors import LogpiError
from logpi.exact.estimators import Baseline, Credit
from logpi.page import Between, Count, Fraction, page
from logpi.run.evaluate import environment_of
from logpi.run.flags import parse
from logpi.run.load import load_actor
from logpi.run.own_page import Own, own
from logpi.run.plot import must_be_picture
from logpi.run.plot_variance import draw
from logpi.run.table import figure, finite, plain, printer
from logpi.run.variance import (
    UNBIASED,
    Measured,
    Noise,
    collect,
    compare,
    crossed,
    estimators,
    frozen,
    refusal,
    trained,
)

COLUMNS = ("variance", "ratio", "snr", "cosine", "noise_scale", "ess")
DEFAULTS: dict[str, Any] = {"gamma": 1.0, "lam": 0.95, "average": "per_episode"}
TITLES = {
    "variance": "variance",
    "ratio": "ratio",
    "snr": "SNR",
    "cosine": "cosine",
    "noise_scale": "noise scale",
    "ess": "ESS",
}


@page
class Variance:
    """How noisy the policy gradient is, for any credit and baseline, on the same episodes of a frozen policy.

    A quarter of the episodes (and what fills no batch) fits V, the others are measured in batches. Intervals: 95 %, jackknife.
    """

    run: tyro.conf.Positional[Path | None] = None  # its newest checkpoint is measured; else --env and --method
    env: str | None = None  # a policy trained here and now; with a run: another environment than its own
    method: str | None = None  # that trains it (ppo); with a run: ./file.py:MyMethod, where it used one of yours
    after: Annotated[int, Between(0)] | None = None  # for so many steps (10,000)
    network: str | None = None  # ./file.py:build, where the run used one of yours
    wrap: tuple[str, ...] = ()  # wrappers, where the run used one of yours
    psi: tuple[Credit, ...] = ()  # credits; else the textbook's list, from the total return to the TD error
    baseline: tuple[Baseline, ...] = ()  # each is subtracted from each return (--psi total to_go q)
    average: Kind | None = None  # over actions; else the run's, or per_episode
    gamma: Fraction | None = None  # discount of later rewards; else the run's, or 1
    lam: Fraction | None = None  # of gae; else the run's, or 0.95
    from_start: bool = True  # times gamma^t, without which total and to_go are not the same gradient
    episodes: Count = 1024  # in all
    batch: Count = 16  # episodes of the gradients whose SNR, cosine and ESS are told
    seed: Annotated[int, Between(0, 2**31 - 1)] = 0  # of training, environments, sampling and V
    json: bool = False  # one object for scripts
    csv: bool = False  # a line for each estimator, its intervals in columns of their own
    plot: Path | None = None  # a picture, .png or .svg


def main(args: list[str]) -> None:
    given = parse(Variance, args, "logpi variance")
    choices = crossed(given.psi, given.baseline)
    must_be_of_use(given)
    found = Own("") if given.run is None else own(given.run, given.method)
    flags = {k: getattr(given, k) for k in ("gamma", "lam", "average") if getattr(given, k) is not None}
    more: dict[str, Any] = DEFAULTS | found.given | flags | {"from_start": given.from_start}
    if more["gamma"] < 1 and not given.from_start and any(credit == "total" for credit, _ in choices):
        raise LogpiError("The total return holds gamma^t: name other --psi, or leave --no-from-start away.")
    pages, unbiased = estimators(choices, **more), estimators(UNBIASED, **more)
    policy, where, construct, backend = subject(given)
    kept = (given.episodes - given.episodes // 4) // given.batch
    needs_q, others = any(c.critic == "q" for c in pages.values()), given.episodes - kept * given.batch
    measured = collect(policy, construct, kept, given.batch, more["gamma"], given.seed, needs_q, others, backend)
    if found.page is not None and not found.missing:
        has = {k: v for k, v in flags.items() if hasattr(found.page, k) and k in ("gamma", "lam")}
        found = replace(found, page=replace(found.page, **has))
        found = replace(found, missing=refusal(found.page, policy, measured[0], found.state))
    row = {} if found.page is None or found.missing else {f"{found.name} (the run's page)": found.page}
    lines, reference, certainty = compare(pages | row, policy, measured, unbiased, found.state)
    about = {"policy": where, "episodes": kept * given.batch, "batch": given.batch, "seed": given.seed} | more
    about |= {"actions": sum(int(b.mask.sum()) for b in measured), "unit": "episode", "episodes_for_v": others}
    about |= {"return": sum(float(b.reward[b.mask].sum()) for b in measured) / (kept * given.batch)}
    about |= {"reference": reference, "cosine_of_reference_to_truth": certainty}
    about |= {"run_page": next(iter(row), None), "run_page_left_out": found.missing or None}
    if given.json:
        print(json_room.dumps(about | {"estimators": [finite(asdict(x)) for x in lines]}, indent=1))
    elif given.csv:
        write_csv(lines)
    else:
        show(lines, about, found)
    if given.plot is not None:
        draw(lines, about, given.plot)
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"picture: {given.plot}", markup=False)


def must_be_of_use(given: Variance) -> None:
    """Refuse what would be left unread, or could not be measured, before anything is played."""
    if given.episodes < 4 * given.batch:
        least = 4 * given.batch
        raise LogpiError(f"--episodes {given.episodes} is too few for batches of {given.batch}: give {least} or more.")
    if given.json and given.csv:
        raise LogpiError("--json and --csv are two forms of one table: give one of them.")
    if given.plot is not None:
        must_be_picture(given.plot)
    if given.run is None and given.env is None:
        raise LogpiError("logpi variance needs a policy: give a run folder, or --env ID --method M.")
    if given.run is not None and given.after is not None:
        raise LogpiError(f"--after trains a policy, and {given.run} has one: leave --after away, or the run.")
    for flag in ("network", "wrap"):
        if given.run is None and getattr(given, flag):
            raise LogpiError(f"--{flag} belongs to a run: give its folder, or leave --{flag} away.")


def subject(given: Variance) -> tuple[Any, str, Any, envs.Backend]:
    """(the frozen policy, whose it is in words, what `envs.make` takes, by which backend)."""
    if given.run is not None:
        policy = load_actor(given.run, given.network)
        if policy.memory is not None:
            raise LogpiError(
                "logpi variance looks at single steps, and this policy has a memory: it has no answer for it."
            )
        env, construct, backend = environment_of(given.run, given.env, given.wrap)
        return frozen(policy), f"{given.run} on {env}", construct, backend
    assert given.env is not None
    method, after = given.method or "ppo", 10_000 if given.after is None else given.after
    policy = trained(method, given.env, after, given.seed)
    return frozen(policy), f"{method} after {after:,} steps on {given.env}", envs.construction(given.env), "auto"


def write_csv(lines: list[Noise]) -> None:
    table = csv_room.writer(sys.stdout, lineterminator="\n")
    table.writerow(["estimator", *(f"{c}{end}" for c in COLUMNS for end in ("", "_low", "_high")), "own_scale"])
    for x in lines:
        table.writerow([x.estimator, *(y for c in COLUMNS for y in astuple(getattr(x, c))), x.own_scale])


def show(lines: list[Noise], about: dict[str, Any], found: Own) -> None:
    table = Table("estimator", box=None, header_style="bold", pad_edge=False)
    for c in COLUMNS:
        table.add_column(TITLES[c], justify="right")
    for x in lines:
        cells = [percent(x.variance), percent(x.ratio), *(cell(getattr(x, c)) for c in COLUMNS[2:])]
        if x.own_scale:
            cells[1] = cells[-1] = "-"
        table.add_row(plain(x.estimator) + " *" * x.own_scale, *cells)
    console = printer()
    console.print(plain(f"{about['policy']}: {about['episodes']:,} episodes, mean return {figure(about['return'])}"))
    console.print(f"gamma {about['gamma']:g}, lam {about['lam']:g}, average {about['average']}")
    console.print()
    console.print(table)
    console.print()
    certainty = about["cosine_of_reference_to_truth"]
    console.print(f"""\
variance: trace of the covariance of one episode's gradient; ratio: to the first row's; noise scale: in episodes
SNR, cosine, ESS: of the gradient of {about["batch"]} episodes. ESS: share of its actions after an ascent of common learning rate
cosine: to that of {about["reference"]} over all other batches, whose own cosine to the truth is about {certainty:.3f}
cut episodes: td, n_step, gae and vtrace add V of what would have followed, total and to_go nothing""")
    for text in remarks(lines, about, found):
        console.print(plain(text))


def remarks(lines: list[Noise], about: dict[str, Any], found: Own) -> list[str]:
    """What is to be known of the run's page, and of rows in a scale of their own."""
    told = (
        ["* standardised: variance, ratio and ESS are in a scale of its own"] if any(x.own_scale for x in lines) else []
    )
    if found.missing:
        return [*told, f"the run's page, {found.name}, is not among the rows: {found.missing}"]
    if found.page is None:
        return told
    told.append(
        f"{about['run_page']}: on whole episodes, with V as fitted here, and rewards as the environment gave them"
    )
    if getattr(found.page, "entropy", 0):
        told.append("its gradient holds that of its entropy bonus")
    if about["gamma"] < 1 and about["from_start"] and not getattr(found.page, "from_start", True):
        told.append("it leaves gamma^t out, which the other rows have: its gradient is not quite theirs")
    return told


def percent(x: Measured) -> str:
    """A positive number and half its interval in percent of it: 12,345 ±6.1%."""
    half = 50 * (x.high - x.low) / x.value if x.value else math.nan
    return f"{number(x.value)} ±{half:.2g}%" if 0 < half < 10 else f"{number(x.value)} ±{half:,.0f}%" if half else "1"


def cell(x: Measured) -> str:
    """0.351 ± 0.022; where the sides differ, 0.949 [0.89, 1]."""
    half = (x.high - x.low) / 2
    if abs(x.high + x.low - 2 * x.value) <= 0.1 * half < math.inf:
        return f"{number(x.value)} ± {half:.2g}"
    return f"{number(x.value)} [{number(x.low, 2)}, {number(x.high, 2)}]"


def number(x: float, figures: int = 3) -> str:
    """0.0123, 12.3, 12,345, 1.2e+07."""
    return f"{x:,.0f}" if 100 <= abs(x) < 1e5 else f"{x:.{figures}g}"
