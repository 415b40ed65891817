"""The table of `logpi exact`: from a base, one factor varied at a time over all that the library offers."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from logpi.exact import estimators
from logpi.exact.estimators import Choice, Estimator
from logpi.exact.expectation import Moments, figures, intervals, moments, surrogate_of
from logpi.exact.problem import Direction, Problem
from logpi.exact.verdict import surrogate_and_rows
from logpi.methods import METHODS

Factor = Literal["psi", "baseline", "objective", "average", "kl", "method"]
FACTORS: tuple[Factor, ...] = get_args(Factor)[:-1]  # the factors; a method is a choice of all of them
LAMBDAS = (0.0, 0.5, 0.9, 1.0)


@dataclass(frozen=True)
class Row:
    """One estimator against every direction it may be the gradient of."""

    factor: str  # which one was varied; "estimator" for the user's own
    name: str
    moments: Moments
    directions: list[Direction]
    choice: Choice | None = None

    def figures(self) -> list[tuple[str, dict[str, float], dict[str, float]]]:
        """(direction, figures, half-widths of their 95 % intervals)."""
        return [(to.name, figures(self.moments, to), intervals(self.moments, to)) for to in self.directions]


def varied(base: Choice, factors: tuple[Factor, ...] = FACTORS) -> Iterator[tuple[str, str, Choice]]:
    """(factor, name, choice): the base in each of its variants; a name says only what differs from the base."""
    if "psi" in factors:
        for kind in get_args(estimators.Credit):
            for lam in LAMBDAS if kind == "gae" else (1.0,):
                more = f" lam {lam:g}" if kind == "gae" else f" n {base.n}" if kind == "n_step" else ""
                baseline = base.baseline if kind in estimators.RETURNS else "none"  # the others hold V already
                if not (base.grouped and kind != "total"):
                    yield "psi", kind + more, dataclasses.replace(base, psi=kind, baseline=baseline, lam=lam)
        if base.gamma < 1 and not base.grouped:
            yield "psi", "to_go, no gamma^t", dataclasses.replace(base, psi="to_go", from_start=False)
    if "baseline" in factors:
        for kind in (*get_args(estimators.Alone), *get_args(estimators.Grouped)):
            psi = "total" if kind in get_args(estimators.Grouped) else base.psi
            yield "baseline", kind, dataclasses.replace(base, baseline=kind, psi=psi)
    for factor, kinds in (("objective", estimators.Form), ("average", estimators.Average)):
        for kind in get_args(kinds) if factor in factors else ():
            yield factor, kind, dataclasses.replace(base, **{factor: kind})
    if "kl" in factors:
        alone = dataclasses.replace(base, gamma=1.0, baseline="none", objective="score", average="per_episode")
        for kind in get_args(estimators.KL)[1:]:
            for psi in ("total", "to_go") if kind.endswith("_reward") else ("to_go",):
                shown = f"{kind}, {psi}" if kind.endswith("_reward") else f"{kind} in the loss"
                yield "kl", shown, dataclasses.replace(alone, kl=kind, psi=psi)


def table(
    problem: Problem,
    base: Choice,
    rows: int = 4,
    samples: int = 20_000,
    seed: int = 0,
    factors: tuple[Factor, ...] = FACTORS,
) -> Iterator[Row]:
    """A row for each variant, or for each method as its page is. The KL is judged alone, without rewards, undiscounted."""
    directions = problem.directions()
    silent = dataclasses.replace(problem.without_reward(), gamma=1.0) if problem.reference is not None else None
    for factor, name, choice in varied(base, factors if silent else tuple(x for x in factors if x != "kl")):
        if rows == 1 and choice.baseline == "group_leave_one_out":
            continue  # there are no others
        page, where = Estimator(choice), silent if factor == "kl" and silent else problem
        found = moments(where, surrogate_of(page), page.rows, rows, samples, seed, symmetric=True)
        towards = where.directions(choice.beta) if factor == "kl" else directions
        yield Row(factor, name, found, towards, choice)
    for name, method in METHODS.items() if "method" in factors else ():
        _, surrogate, kind = surrogate_and_rows(method, problem)
        yield Row("method", name, moments(problem, surrogate, kind, rows, samples, seed), directions)


def single(
    problem: Problem,
    estimator: Any,
    rows: int = 4,
    samples: int = 20_000,
    seed: int = 0,
    kl: float = 0.0,
    grouped: bool = False,
) -> Row:
    """The row of one estimator: a `Choice`, a method page, or a loss of the user's (`grouped`: from one start)."""
    own, surrogate, kind = surrogate_and_rows(estimator, problem, grouped)
    choice = estimator if isinstance(estimator, Choice) else None
    beta = choice.beta if choice is not None and choice.kl != "none" else kl
    found = moments(problem, surrogate, kind, rows, samples, seed, symmetric=choice is not None)
    in_reward = choice is not None and choice.kl.endswith("_reward")
    return Row("estimator", own, found, problem.directions(beta, discounted=in_reward), choice)
