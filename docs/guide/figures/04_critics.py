"""The figures of chapter 4: what stands in the place of the return, and what it costs. All of it is enumerated."""

from typing import Any

import torch
from matplotlib.figure import Figure
from style import BLUE, GREEN, GREY, ORANGE, new, write
from torch import Tensor

from logpi import exact, psi
from logpi.batch import Batch
from logpi.envs.tabular import Table
from logpi.exact import Choice, Estimator, Problem
from logpi.exact.problems import changed


def judged(problem: Problem, episodes: int = 1, **choice: Any) -> tuple[float, float]:
    """(relative bias, variance) of an estimator from batches of so many episodes."""
    page = Estimator(Choice(gamma=problem.gamma, **choice))
    found = exact.moments(problem, exact.surrogate_of(page), "episodes", episodes, symmetric=True)
    told = exact.figures(found, problem.directions()[0])
    return told["relative_bias"], told["variance"]


def credit() -> Figure:
    """The variance of each credit with exact V and Q; none of them is biased."""
    problem = exact.find("five-states")
    kinds = {
        "total return": {"psi": "total"},
        r"return $G_t$": {"psi": "to_go"},
        r"$Q(s_t,a_t)$": {"psi": "q"},
        r"$G_t - V(s_t)$": {"psi": "to_go", "baseline": "value"},
        r"TD error $\delta_t$": {"psi": "td"},
        r"$A(s_t,a_t)$": {"psi": "advantage"},
    }
    found = {name: judged(problem, **kind) for name, kind in kinds.items()}
    assert all(bias < 1e-12 for bias, _ in found.values())
    variance = [v for _, v in found.values()]
    assert variance == sorted(variance, reverse=True)
    figure, (axes,) = new(height=2.8)
    bars = axes.barh(list(found), variance, color=BLUE, height=0.6)
    axes.bar_label(bars, fmt="%.3f", padding=4, color=GREY)
    axes.invert_yaxis()
    axes.set_xlabel("variance of the gradient of one episode")
    axes.set_xlim(0, 1.2)
    return figure


def n_step() -> Figure:
    """Bias and variance by n, for critics that are off by more and more."""
    ns, errors = (1, 2, 3, 4), (0.25, 0.5, 1.0)
    found = {
        error: [judged(changed(exact.find("five-states"), critic_error=error), psi="n_step", n=n) for n in ns]
        for error in errors
    }
    for runs in found.values():
        bias = [b for b, _ in runs]
        assert bias == sorted(bias, reverse=True)  # falls with n
        assert bias[-1] < 1e-12  # no episode is longer than four steps
        assert runs[0][1] < runs[-1][1]  # paid in variance
    assert abs(found[1.0][0][0] - 4 * found[0.25][0][0]) < 1e-12  # linear in the error
    figure, (left, right) = new(columns=2)
    for (error, runs), colour in zip(found.items(), (BLUE, GREEN, ORANGE), strict=True):
        left.plot(ns, [b for b, _ in runs], "o-", color=colour, label=f"critic off by {error:g} std")
        right.plot(ns, [v for _, v in runs], "o-", color=colour)
    left.legend()
    left.set_ylabel("relative bias of the gradient")
    right.set_ylabel("variance, one episode")
    right.set_ylim(0, 0.5)
    for axes in (left, right):
        axes.set_xticks(ns)
        axes.set_xlabel("n, rewards before the critic")
    return figure


def sticky(stay: float, steps: int) -> Problem:
    """Two states that the actions do not move: each step it stays with probability `stay`. What an action pays depends on the state."""
    move = torch.full((2, 2), 1 - stay, dtype=torch.float64) + (2 * stay - 1) * torch.eye(2, dtype=torch.float64)
    R = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    half = torch.full((2,), 0.5, dtype=torch.float64)
    return exact.from_table(
        Table(move[:, None].repeat(1, 2, 1), R, half, torch.tensor([False, False]), steps), gamma=0.0
    )


def parallel() -> Figure:
    """As many actions: of as many environments, or of one that changes slowly."""

    def variance(problem: Problem, n: int) -> float:
        return judged(problem, n, psi="td", average="per_action", from_start=False)[1]

    counts = (1, 2, 3, 4, 6, 8)
    one = variance(sticky(0.5, 1), 1)
    apart = [variance(sticky(0.5, 1), n) for n in counts]
    alone = {stay: [variance(sticky(stay, n), 1) for n in counts] for stay in (0.9, 0.99)}
    fresh = [variance(sticky(0.5, n), 1) for n in counts]
    for n, v, w in zip(counts, apart, fresh, strict=True):
        assert abs(v - one / n) < 1e-12  # independent environments: 1/n exactly
        assert abs(w - one / n) < 1e-12  # and steps whose state is drawn afresh
    for n, v, w in zip(counts[1:], alone[0.9][1:], alone[0.99][1:], strict=True):
        assert one / n < v < w
    figure, (axes,) = new()
    axes.plot(counts, counts, "o-", color=BLUE, label="n environments, one step each")
    axes.plot(
        counts, [one / v for v in alone[0.9]], "o-", color=GREEN, label="one environment, its state stays with 0.9"
    )
    axes.plot(
        counts, [one / v for v in alone[0.99]], "o-", color=ORANGE, label="one environment, its state stays with 0.99"
    )
    axes.set_xlabel("n, actions in the batch")
    axes.set_ylabel("worth as many independent ones")
    axes.legend()
    return figure


def corrected(problem: Problem, clip: float) -> tuple[float, float]:
    """(relative bias, variance) of V-trace with both clips there."""

    def surrogate(now: Any, b: Batch) -> Tensor:
        rho = (now.log_pi.detach() - b.log_pi).exp()
        ends = (b.terminated, b.truncated)
        _, credit = psi.vtrace(b.reward, b.value, b.value_next, *ends, problem.gamma, rho, 1.0, clip, clip)
        credit = psi.discount_from_start(credit, b.ended, problem.gamma)
        return torch.where(b.mask, now.log_pi * credit, 0.0).sum(-1).mean()

    told = exact.figures(exact.moments(problem, surrogate, n=1), problem.directions()[0])
    return told["relative_bias"], told["variance"]


def vtrace() -> Figure:
    """Actions of an older policy: V-trace by its clip, against no correction at all."""
    problem = changed(exact.find("five-states"), drift=0.5)
    clips = (0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
    found = [corrected(problem, clip) for clip in clips]
    plain = judged(problem, psi="gae", lam=1.0)
    bias, variance = ([x[k] for x in found] for k in (0, 1))
    assert bias == sorted(bias, reverse=True)
    assert variance == sorted(variance)
    assert bias[0] > plain[0] > bias[-1] > 0.01  # what no clip removes: the states are still the older policy's
    figure, axes = new(columns=2)
    for ax, mine, other, name in zip(
        axes, (bias, variance), plain, ("relative bias", "variance, one episode"), strict=True
    ):
        ax.plot(clips, mine, "o-", color=BLUE, label="V-trace")
        ax.axhline(other, color=ORANGE, linestyle="--", label="uncorrected $G_t - V(s_t)$")
        ax.set_xlabel(r"clip $\bar\rho = \bar c$")
        ax.set_ylabel(name)
        ax.set_ylim(0, None)
    axes[0].legend()
    return figure


write(__file__, credit=credit, **{"n-step": n_step}, parallel=parallel, vtrace=vtrace)
