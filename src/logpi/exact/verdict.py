"""Is this the gradient of what you say? One call, for tests: it says where and how an estimator is wrong."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from logpi.errors import LogpiError
from logpi.exact.batches import Draws, Shape, batches
from logpi.exact.estimators import Choice, Estimator
from logpi.exact.expectation import (
    Moments,
    Surrogate,
    coefficients,
    figures,
    half,
    intervals,
    moments,
    squared_gap,
    surrogate_of,
)
from logpi.exact.lookalike import lookalike
from logpi.exact.losses import name_of, surrogate_of_loss
from logpi.exact.problem import Direction, Problem
from logpi.exact.problems import changed, find

WIDE = 0.25  # an interval of the relative bias from which on a check by drawn batches says nothing


def surrogate_and_rows(
    estimator: Any, problem: Problem, grouped: bool = False, **constants: Any
) -> tuple[str, Surrogate, str]:
    """(name, surrogate, rows) of a loss, a method page (class or instance) or a `Choice`."""
    if isinstance(estimator, Choice) or (hasattr(estimator, "psi") and hasattr(estimator, "objective")):
        if constants:
            raise LogpiError(f"Nobody asks for {min(constants)}: a page has its fields, a loss its parameters.")
        page = Estimator(estimator) if isinstance(estimator, Choice) else _made(estimator, problem)
        name = str(estimator) if isinstance(estimator, Choice) else type(page).__name__
        if getattr(page, "reference", False) and problem.ref is None:
            raise LogpiError(f"{name} has a KL to a reference policy, which {problem.name} has not.")
        return name, surrogate_of(page), page.rows
    constants, kind = {"gamma": problem.gamma} | constants, "one start" if grouped else "episodes"
    return name_of(estimator), surrogate_of_loss(estimator, **constants), kind


def _made(page: Any, problem: Problem) -> Any:
    """A page of the problem's gamma; one that was made with another is refused."""
    names = [x.name for x in dataclasses.fields(page)]
    if isinstance(page, type):
        return page(gamma=problem.gamma) if "gamma" in names else page()
    if "gamma" in names and page.gamma != problem.gamma:
        both = f"The gamma of {type(page).__name__} is {page.gamma:g}, that of {problem.name} is {problem.gamma:g}"
        raise LogpiError(f"{both}: give both the same.")
    return page


def check(
    loss: Any,
    problem: Any = "sequences",
    tolerance: float = 1e-10,
    *,
    rows: int = 3,
    kl: float = 0.0,
    per_action: bool = False,
    from_start: bool = True,
    grouped: bool = False,
    samples: int = 0,
    gamma: float | None = None,
    critic_error: float | None = None,
    hidden: Sequence[int] = (),
    **constants: Any,
) -> Moments:
    """Assert that the expected gradient is the true one; the error says by how much it is not, and where.

    loss: a function that returns a number to be minimised, whose parameters are named as in `losses.GIVEN` (log_pi,
    reward, mask, ...; [rows, T] each) or in `constants`; or a method page; or a `Choice`. problem: a name, a Table, a
    Problem. tolerance: on |E[g] - grad J| / |grad J|. The truth is grad J with gamma^t (`from_start=False`: without it),
    less kl x grad KL(pi || ref) of whole episodes (`per_action`: of each action, the visits held fixed). rows: episodes in
    a batch; `grouped`: from one start.
    samples: measured from so many batches where there are too many to enumerate; the interval is allowed for.
    gamma, critic_error, hidden: another discount, critic, policy than the problem's (see `problems.changed`).

    On policy: the ratio is 1, so what happens off it (a clip, its sides) is not seen here.
    """
    where = changed(find(problem), gamma, critic_error, hidden=hidden)
    name, surrogate, kind = surrogate_and_rows(loss, where, grouped, **constants)
    found = moments(where, surrogate, kind, rows, samples)
    truths = where.directions(kl)
    if (per_action if kl else not from_start) and len(truths) > 1:
        truths = [truths[1], truths[0], *truths[2:]]
    wrong, slack = told_bias(found, truths[0])
    if wrong <= tolerance + slack:
        if slack > WIDE:
            raise LogpiError(
                f"{found.batches:,} batches tell the bias of {name} to {slack:.2g} only: draw more (samples)."
            )
        return found
    said = [summary(name, where, found, truths[0], rows)]
    why = reason(where, found, truths, kl, rows)
    said += [why or ("" if kl else lookalike(where, found, rows)), "" if why else silent(where, surrogate, kind, rows)]
    said.append(worst(where, found, truths[0]))
    raise AssertionError(" ".join(x for x in said if x))


def told_bias(m: Moments, to: Direction) -> tuple[float, float]:
    """(|E[g] - truth| / |truth|, half its 95 % interval); the distance itself where the truth is 0."""
    relative = figures(m, to)["relative_bias"]
    if math.isnan(relative):
        left = [m.without(k) for k in range(0 if m.blocks is None else len(m.blocks[0]))]
        slack = half([squared_gap(x, to) for x in left]) if left else 0.0
        return math.sqrt(max(0.0, squared_gap(m, to))), math.sqrt(slack)
    return relative, intervals(m, to)["relative_bias"]


def summary(name: str, problem: Problem, m: Moments, to: Direction, rows: int) -> str:
    told = figures(m, to)
    how = f"{m.batches:,} drawn" if m.measured else f"all {m.batches:,}"
    return (
        f"{name} does not have the gradient of {to.name} on {problem.name}: relative bias {told['relative_bias']:.2g}, "
        f"cosine {told['cosine']:.4f}, scale {told['scale']:.4f} ({how} batches of {rows})."
    )


def reason(problem: Problem, m: Moments, truths: list[Direction], kl: float, rows: int) -> str:
    """What the error looks like, where it looks like something known."""
    told = figures(m, truths[0])
    near = lambda x, y: abs(x - y) < 1e-6  # noqa: E731
    if told["relative_bias"] < 1e-5:
        return "That much is rounding: is something computed in float32? Give a tolerance of 1e-5, or mend it."
    if float(m.mean.norm()) < 1e-12:
        return "Its expected gradient is zero: is something detached, under no_grad, or k1 in the loss?"
    if near(told["cosine"], -1):
        return "The sign is wrong: a loss is minimised."
    others = [*truths[1:], *(problem.directions() if kl else [])]
    for other in others:
        if figures(m, other)["relative_bias"] < 1e-6:
            kind = " alone: the KL adds nothing (no_grad, or k1 in the loss?)" if kl and other.name == "J" else ""
            return f"It is the gradient of {other.name}{kind}."
    if near(told["cosine"], 1):
        known = [
            ((rows - 1) / rows, "a mean that holds the row itself"),
            (1 / rows, "one division by the rows too many"),
        ]
        known += [(float(rows), "a sum over rows, not a mean"), (1 / problem.limit, "a division by the longest length")]
        fits = [words for scale, words in known if near(told["scale"], scale)]
        return "Only its length is wrong" + (f": {', or '.join(fits)}?" if fits else ".")
    return ""


def silent(problem: Problem, surrogate: Surrogate, kind: str, rows: int) -> str:
    """An action that never gets a gradient, wherever it is taken."""
    some, _ = batches(problem, Shape.of(kind, rows), samples=4096)
    x = next(some).rows
    found = coefficients(problem, surrogate, kind, Draws(x, x.chance)).abs().sum(-1)
    for action in x.action[x.mask].unique().tolist():
        if not bool(found[x.mask & (x.action == action)].any()) and bool(found.any()):
            return f"No gradient comes of {_action(problem, action)}: is it masked?"
    return ""


def worst(problem: Problem, m: Moments, to: Direction, most: int = 2) -> str:
    """The logits that it would move most wrongly."""
    moved, right = (problem.jacobian @ x for x in (m.mean, to.gradient))
    order = (moved - right).abs().flatten().argsort(descending=True)[:most].tolist()
    A = moved.shape[1]
    told = [
        f"{_state(problem, i // A)}, {_action(problem, i % A)}: {moved.flatten()[i]:+.3g}, not {right.flatten()[i]:+.3g}"
        for i in order
    ]
    return f"Furthest off, on the logits: {'; '.join(told)}."


def _state(problem: Problem, s: int) -> str:
    return problem.states[s] if problem.states else f"state {s}"


def _action(problem: Problem, a: int) -> str:
    return problem.actions[a] if problem.actions else f"action {a}"
