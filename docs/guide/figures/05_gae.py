"""The figures of chapter 5: how GAE weighs what follows, and its bias and variance by lambda. All of it is enumerated."""

import torch
from matplotlib.figure import Figure
from style import BLUE, COLOURS, GREEN, ORANGE, new, write

from logpi import exact, psi
from logpi.exact import Choice, Direction, Estimator, Moments, Problem
from logpi.exact.problems import changed

LAMBDAS = [k / 10 for k in range(10)] + [0.95, 1.0]


def gradient(problem: Problem, lam: float, from_start: bool = True) -> Moments:
    """Of GAE's gradient, from one episode."""
    page = Estimator(Choice(psi="gae", gamma=problem.gamma, lam=lam, from_start=from_start))
    return exact.moments(problem, exact.surrogate_of(page), n=1)


def off(found: Moments, truth: Direction) -> float:
    return exact.figures(found, truth)["relative_bias"]


def weights() -> Figure:
    """What psi.gae gives the TD error l steps on: a reward of 1 there, and a critic that says 0."""
    gamma, steps = 0.99, 60
    figure, (axes,) = new(height=3.0)
    zero, no = torch.zeros(steps, steps, dtype=torch.float64), torch.zeros(steps, steps, dtype=torch.bool)
    for lam, colour in zip((0.0, 0.5, 0.9, 0.95, 1.0), COLOURS, strict=False):
        found = psi.gae(torch.eye(steps, dtype=torch.float64), zero, zero, no, no, gamma, lam)[:, 0]
        powers = torch.tensor([(gamma * lam) ** k for k in range(steps)], dtype=torch.float64)
        assert torch.allclose(found, powers)
        axes.plot(found.tolist(), color=colour, label=rf"$\lambda$ = {lam:g}")
    axes.set_xlabel("l, steps on")
    axes.set_ylabel(r"weight of $\delta_{t+l}$")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def tradeoff() -> Figure:
    """Bias and variance by lambda, for three critics."""
    figure, (left, right) = new(columns=2)
    for error, colour in zip((0.25, 0.5, 1.0), (BLUE, GREEN, ORANGE), strict=True):
        problem = changed(exact.find("five-states"), critic_error=error)
        truth = problem.directions()[0]
        found = [gradient(problem, lam) for lam in LAMBDAS]
        bias, variance = [off(m, truth) for m in found], [m.variance for m in found]
        assert bias == sorted(bias, reverse=True)
        assert bias[-1] < 1e-12
        assert variance == sorted(variance)
        left.plot(LAMBDAS, bias, color=colour, label=f"critic off by {error:g} std")
        right.plot(LAMBDAS, variance, color=colour)
    left.set_ylabel("relative bias of the gradient")
    right.set_ylabel("variance, one episode")
    right.set_ylim(0, 0.5)
    left.legend()
    for axes in (left, right):
        axes.set_xlabel(r"$\lambda$")
    return figure


def batch() -> Figure:
    """The root of bias^2 + variance / N, over the gradient's length: the best lambda rises with N."""
    problem = changed(exact.find("five-states"), critic_error=1.0)
    truth, grid = problem.directions()[0], [k / 20 for k in range(21)]
    length = float(truth.gradient.norm())
    found = [gradient(problem, lam) for lam in grid]
    figure, (axes,) = new()
    best = []
    for n, colour in zip((16, 64, 256, 1024, 4096), COLOURS, strict=False):
        error = [(off(m, truth) ** 2 + m.variance / n / length**2) ** 0.5 for m in found]
        least = min(range(len(grid)), key=error.__getitem__)
        best.append(grid[least])
        axes.plot(grid, error, color=colour, label=f"{n} episodes")
        axes.plot(grid[least], error[least], "o", color=colour)
    assert best == sorted(best)
    assert best[0] < 0.3 < 0.9 < best[-1]
    axes.set_yscale("log")
    axes.set_yticks([0.05, 0.1, 0.2, 0.5], ["0.05", "0.1", "0.2", "0.5"])
    axes.minorticks_off()
    axes.set_xlabel(r"$\lambda$  (dots: the best)")
    axes.set_ylabel("rms error of the gradient")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def knobs() -> Figure:
    """With an exact critic: lambda below 1 biases nothing, gamma below 1 biases the undiscounted gradient."""
    base, grid = exact.find("five-states"), [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0]
    truth = changed(base, gamma=1.0).directions()[0]
    by_lam = [gradient(changed(base, gamma=1.0), lam, from_start=False) for lam in grid]
    by_gamma = [gradient(changed(base, gamma=gamma), 1.0, from_start=False) for gamma in grid]
    assert max(off(m, truth) for m in by_lam) < 1e-12
    bias = [off(m, truth) for m in by_gamma]
    assert bias == sorted(bias, reverse=True)
    assert bias[0] > 0.1
    assert bias[-1] < 1e-12
    figure, (left, right) = new(columns=2)
    for name, found, colour in (
        (r"$\lambda$, at $\gamma$ = 1", by_lam, BLUE),
        (r"$\gamma$, at $\lambda$ = 1", by_gamma, ORANGE),
    ):
        left.plot(grid, [off(m, truth) for m in found], "o-", color=colour, label=name)
        right.plot(grid, [m.variance for m in found], "o-", color=colour)
    left.set_ylabel(r"relative bias to $\nabla J$ at $\gamma$ = 1")
    right.set_ylabel("variance, one episode")
    right.set_ylim(0, None)
    left.legend()
    for axes in (left, right):
        axes.set_xlabel("the one that is turned")
    return figure


write(__file__, weights=weights, tradeoff=tradeoff, batch=batch, knobs=knobs)
