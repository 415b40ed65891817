"""logpi exact [PROBLEM] [flags]"""

import csv as csv_room
import dataclasses
import io
import json as json_room
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table

from logpi.errors import LogpiError, short
from logpi.exact import bench, find
from logpi.exact.bench import Row
from logpi.exact.estimators import Choice
from logpi.exact.problem import Problem
from logpi.exact.problems import changed
from logpi.exact.trajectories import amount, count
from logpi.methods import METHODS
from logpi.page import Between, Count, NonNegative, page
from logpi.run.flags import parse, peek, together
from logpi.run.paths import is_path, load_object
from logpi.run.plot import must_be_picture
from logpi.run.plot_exact import draw
from logpi.run.table import finite, printer

ZERO = 1e-10  # a relative bias up to here is rounding


@page
class Exact:
    """Bias and variance of policy-gradient estimators against the true gradient, by enumeration of every batch."""

    problem: tyro.conf.Positional[str] = "five-states"  # shipped name, toy-text id, or ./file.py:problem
    estimator: str | None = None  # only this one: ./file.py:my_loss, ./file.py:MyPage, or a method
    vary: tuple[bench.Factor, ...] = bench.FACTORS  # factors to vary, one at a time, from the base
    alone: bool = False  # only the base itself
    rows: Count = 4  # episodes in a batch
    grouped: bool = False  # a loss's episodes are all from one start
    kl_weight: NonNegative = 0.0  # of the KL that --estimator should subtract from J
    critic_error: NonNegative | None = None  # of V and Q, in stds of Q; else 0.5, and 0 with --estimator
    drift: NonNegative = 0.0  # the actions are an older policy's, parameters this far away
    hidden: tuple[Count, ...] = ()  # layers of an MLP policy; else one logit for each state and action
    limit: Count | None = None  # steps of an episode at most
    samples: Annotated[int, Between(0)] = 20_000  # batches to draw where all are too many; 0: refuse
    seed: Annotated[int, Between(0)] = 0  # of drawn batches, of an MLP's weights, of the drift
    planted: bool = False  # instead: 40 planted bugs against the test kit
    json: bool = False  # one object for scripts
    csv: bool = False  # the same as comma-separated lines
    plot: Path | None = None  # picture of bias and variance, .png or .svg


def main(args: list[str]) -> int:
    both: Any = together([("bench", Exact, Exact()), ("choice", Choice, Choice())])
    given = parse(both, args, "logpi exact", Exact.__doc__ or "")
    asked, base = given.bench, given.choice
    if asked.planted:
        from logpi.run import planted

        return planted.report(asked.json)
    must_go_together(asked, args)
    gamma = base.gamma if "gamma" in peek(args, ("gamma",)) else None
    error = asked.critic_error if asked.critic_error is not None else 0.0 if asked.estimator else 0.5
    problem = changed(named(asked.problem), gamma, error, asked.drift, asked.hidden, asked.limit, asked.seed)
    rows = list(estimated(problem, dataclasses.replace(base, gamma=problem.gamma), asked))
    if asked.json or asked.csv:
        print(as_json(problem, rows) if asked.json else as_csv(rows))
    else:
        show(problem, rows, asked)
    if asked.plot is not None:
        draw(rows, problem.name, asked.plot)
    return 0


def must_go_together(asked: Exact, args: list[str]) -> None:
    """Refuse what would be ignored, before anything is computed."""
    if asked.json and asked.csv:
        raise LogpiError("--json and --csv are two forms of one answer: give one of them.")
    if asked.plot is not None:
        must_be_picture(asked.plot)
    flags = {word.split("=")[0].removeprefix("--").replace("-", "_") for word in args if word.startswith("--")}
    factors = flags & {x.name for x in dataclasses.fields(Choice)} - {"gamma"}
    if asked.estimator is not None and (factors or "vary" in flags):
        wrong = min(factors | (flags & {"vary"})).replace("_", "-")
        raise LogpiError(f"--{wrong} chooses among our factors, and --estimator is another estimator: leave one away.")
    if asked.alone and "vary" in flags:
        raise LogpiError("--alone varies nothing: leave --vary or --alone away.")
    if asked.kl_weight and asked.estimator is None:
        raise LogpiError("--kl-weight is of an --estimator; for our factors it is --kl k1 --beta 0.1.")


def named(name: str) -> Problem:
    """A problem by name, or what a file of the user's makes."""
    if not is_path(name):
        return find(name)
    made = load_object(name)
    try:
        return find(made() if callable(made) else made)
    except LogpiError:
        raise
    except Exception as wrong:
        raise LogpiError(f"{name} raised {type(wrong).__name__}: {short(str(wrong))} (--debug shows where).") from wrong


def estimated(problem: Problem, base: Choice, asked: Exact) -> Iterable[Row]:
    how = asked.rows, asked.samples, asked.seed
    if asked.estimator is not None:
        return [bench.single(problem, own(asked.estimator), *how, kl=asked.kl_weight, grouped=asked.grouped)]
    if asked.alone:
        return [bench.single(problem, base, *how)]
    return bench.table(problem, base, *how, factors=asked.vary)


def own(name: str) -> Any:
    """A loss or a page of the user's, or one of our methods."""
    if is_path(name):
        return load_object(name)
    if name not in METHODS:
        known = f"a method ({', '.join(METHODS)}), ./file.py:my_loss or package.module:my_loss"
        raise LogpiError(f"There is no estimator {name!r}: it takes {known}.")
    return METHODS[name]


def show(problem: Problem, rows: list[Row], asked: Exact) -> None:
    console = printer()
    many = f"{amount(count(problem.table))} trajectories of at most {problem.limit} steps"
    policy = f"a policy of {problem.jacobian.shape[-1]} parameters"
    policy += " (the actions are an older one's)" if problem.behaviour else ""
    console.print(f"{problem.name}: {many}, gamma {problem.gamma:g}, {policy}, batches of {asked.rows} episodes")
    alone, rest = ([r for r in rows if (r.factor == "kl") is kl] for kl in (True, False))
    for part, title in ((rest, ""), (alone, "The KL by itself: no reward, gamma 1.")):
        if part:
            console.print(f"\n{title}" if title else "")
            console.print(as_table(part))
    drawn = any(r.moments.measured for r in rows)
    console.print(
        "\nbias: |E[g] - truth| / |truth|, 0 up to 1e-10; scale: the part of E[g] along the truth, over the truth;"
        "\nvariance: trace of the covariance of g; SNR: |E[g]|^2 / variance; MSE: bias^2 + variance; all of one batch."
        + ("\n±: half the 95 % interval, where batches were drawn; < 0.1: no bias seen, at most this." if drawn else "")
    )


def as_table(rows: list[Row]) -> Table:
    """One line for each estimator, parted where the factor changes."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    several = rows[0].factor != "estimator"
    for column in ("\nvaried", "\nestimator") if several else ("\nestimator",):
        table.add_column(column)
    first, *others = [f"bias to\n{direction.name}" for direction in rows[0].directions]
    for column in (first, "\ncosine", "\nscale", *others, "\nvariance", "\nSNR", "\nMSE", "\nbatches"):
        table.add_column(column, justify="right")
    before = ""
    for row in rows:
        found = [(f, i) for _, f, i in row.figures()]
        f, i = found[0]
        cells = against(f, i) + [bias(f, i) for f, i in found[1:]]
        cells += [figure(f[name], i[name]) for name in ("variance", "snr", "mse")]
        cells.append(f"{'drawn' if row.moments.measured else 'all'} {row.moments.batches:,}")
        names = [row.factor if row.factor != before else "", row.name] if several else [row.name]
        table.add_row(*names, *cells)
        before = row.factor
    return table


def against(f: dict[str, float], i: dict[str, float]) -> list[str]:
    """Bias, cosine and scale of an estimator; without a mean there is no direction."""
    if math.isnan(f["cosine"]):
        return [bias(f, i), "-", "0"]
    return [bias(f, i), figure(max(-1.0, min(1.0, f["cosine"])), i["cosine"]), figure(f["scale"], i["scale"])]


def bias(f: dict[str, float], i: dict[str, float]) -> str:
    """The relative bias; where its square was not seen to be positive, the end of its interval."""
    x, half = f["relative_bias"], i["relative_bias"]
    return f"< {half:.2g}" if x == 0 < half else figure(x, half)


def figure(x: float, half: float) -> str:
    if math.isnan(x) or abs(x) <= ZERO:
        return "-" if math.isnan(x) else "0"
    shown = f"{x:.4f}" if 1e-3 <= abs(x) < 1e4 else f"{x:.2e}" if math.isfinite(x) else "inf"
    return f"{shown} ± {half:.1g}" if half else shown


def records(rows: list[Row]) -> list[dict[str, Any]]:
    """One for each estimator and direction, flat."""
    return [
        {"factor": row.factor, "estimator": row.name, "truth": to}
        | {"batches": row.moments.batches, "measured": row.moments.measured}
        | f
        | {f"{name}_interval_95": half for name, half in i.items()}
        for row in rows
        for to, f, i in row.figures()
    ]


def as_json(problem: Problem, rows: list[Row]) -> str:
    bias = [
        {"factor": r.factor, "estimator": r.name, "mean": r.moments.mean.tolist()}
        | {"choice": dataclasses.asdict(r.choice) if r.choice else None}
        for r in rows
    ]
    truth = {to.name: to.gradient.tolist() for r in rows for to in r.directions}
    whole = {"problem": problem.name, "gamma": problem.gamma, "truth": truth, "estimators": bias}
    return json_room.dumps(finite(whole | {"figures": records(rows)}), indent=1)


def as_csv(rows: list[Row]) -> str:
    found, out = records(rows), io.StringIO()
    writer = csv_room.DictWriter(out, list(found[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return out.getvalue().rstrip()
