"""The figures of chapter 3: the parabola of the best constant, the bias of batch baselines, learning with and without."""

from typing import Any

import torch
from matplotlib.figure import Figure
from style import BLUE, COLOURS, GREEN, GREY, ORANGE, PINK, new, write
from torch import Tensor

from logpi import average, exact, objective, psi
from logpi.batch import Batch
from logpi.envs.tabular import bandit
from logpi.exact import Choice, Estimator, mdp
from logpi.exact.problems import linear
from logpi.lab.demos import baseline as demonstration


def variance(world: exact.Problem, baseline: float | Tensor) -> float:
    """Of one episode's estimate, reward-to-go less a constant, or a number for each state."""

    def surrogate(now: Any, b: Batch) -> Tensor:
        less = torch.as_tensor(baseline, dtype=torch.float64).expand(len(world.table.start))[b.obs]
        credit = psi.reward_to_go(b.reward, b.ended, world.gamma) - less
        credit = psi.discount_from_start(credit, b.ended, world.gamma)
        return average.per_episode(objective.score(now.log_pi, credit), b.mask)

    return exact.moments(world, surrogate, n=1).variance


def vertex(world: exact.Problem) -> float:
    """Where the parabola through three of its points is lowest."""
    at_0, at_1, at_2 = (variance(world, x) for x in (0.0, 1.0, 2.0))
    return (3 * at_0 - 4 * at_1 + at_2) / (2 * (at_0 - 2 * at_1 + at_2))


def parabola() -> Figure:
    logits = torch.tensor([[0.9, 0.1], [0.5, 0.5]], dtype=torch.float64).log()
    arms = exact.from_table(bandit((1.0, 2.0)), gamma=1.0, policy=linear(logits))
    five = exact.find("five-states")
    figure, axes = new(7.4, 3.4, 2)
    for x, world, to in zip(axes, (arms, five), (3.6, 2.4), strict=True):
        constants = torch.linspace(-0.2, to, 25).tolist()
        curve = torch.tensor([variance(world, c) for c in constants])
        J = float(mdp.expected_return(world.table, world.pi, world.gamma, world.limit))
        best = vertex(world)
        assert variance(world, best) <= curve.min() and variance(world, best) < variance(world, J) < variance(
            world, 0.0
        )
        x.plot(constants, curve, color=BLUE)
        for name, at, colour in (("none", 0.0, GREY), ("mean return J", J, ORANGE), ("best constant b*", best, GREEN)):
            x.plot(at, variance(world, at), "o", color=colour, label=name)
        x.set(xlabel="constant b", ylim=(-0.03 * curve.max(), 1.45 * curve.max()))
    assert abs(vertex(arms) - (0.1 * 1 + 0.9 * 2)) < 1e-9 and variance(arms, vertex(arms)) < 1e-12
    V, _ = mdp.values(five.table, five.pi, five.gamma)
    axes[1].axhline(variance(five, V), color=PINK, lw=1, ls="--", label="true V(s)")
    assert variance(five, vertex(five)) < variance(five, V)
    axes[0].set(ylabel="variance", title="two arms")
    axes[1].set(title="five states")
    axes[0].legend(loc="upper center")
    axes[1].legend(loc="upper center", ncols=2, columnspacing=1, handletextpad=0.4)
    return figure


def batch() -> Figure:
    names = {
        "time": "mean at each step",
        "optimal": "b* of the batch",
        "standardised": "standardised",
        "mean": "mean over actions",
        "leave_one_out": "mean of the others",
    }
    five, sizes = exact.find("five-states"), (2, 3, 4, 5)
    truth = five.directions()[0]
    figure, (axes,) = new(6.6, 3.4)
    for (baseline, name), colour in zip(names.items(), COLOURS, strict=False):
        surrogate = exact.surrogate_of(Estimator(Choice(baseline=baseline, gamma=five.gamma)))
        found = [exact.moments(five, surrogate, n=n, symmetric=True) for n in sizes]
        off = torch.tensor([exact.figures(m, truth)["relative_bias"] for m in found])
        assert off.max() < 1e-10 if baseline == "leave_one_out" else (off.diff() < 0).all() and off.min() > 0.1
        axes.plot(sizes, off, "o-", ms=4, color=colour)
        lift = {"optimal": 0.025, "standardised": -0.01, "mean": -0.03}.get(baseline, 0.0)
        axes.text(5.08, off[-1] + lift, name, color=colour, va="center")
    axes.set(xlabel="episodes of a batch", ylabel="relative bias", xticks=sizes, xlim=(1.85, 6.3), ylim=(-0.03, 0.72))
    return figure


def learning() -> Figure:
    told = demonstration.demo(demonstration.Params(baseline="leave_one_out", level=2.0), 0)["curves"]
    figure, (left, right) = new(7.4, 3.3, 2)
    named = {"without": "plain return", "with": "leave-one-out"}
    for (name, label), colour in zip(named.items(), (ORANGE, BLUE), strict=True):
        mean, half = (torch.tensor(told[name][x]) for x in ("mean", "half"))
        left.plot(mean, color=colour, label=label)
        left.fill_between(range(len(mean)), mean - half, mean + half, color=colour, alpha=0.2, lw=0)
    assert (
        told["with"]["mean"][-1] > told["without"]["mean"][-1]
        and told["with"]["half"][-1] < told["without"]["half"][-1] / 3
    )
    left.set(xlabel="update", ylabel="expected reward of a pull, less 2", ylim=(0.3, 1))
    left.legend(loc="upper left")
    levels = torch.linspace(0.0, 4.0, 9)
    for (name, rows), colour in zip(
        (("none", "one start"), ("group_leave_one_out", "groups")), (ORANGE, BLUE), strict=True
    ):
        L = exact.surrogate_of(Estimator(Choice(psi="total", baseline=name)))
        worlds = [demonstration.arms(1, x) for x in levels.tolist()]
        found = torch.tensor([exact.moments(w, L, rows=rows, n=4, symmetric=True).variance for w in worlds])
        if name == "none":
            curvature = found.diff().diff()
            assert torch.allclose(curvature, curvature[:1]) and curvature[0] > 0  # a parabola
        else:
            assert torch.allclose(found, found[:1])
        right.plot(levels, found, color=colour)
    right.set(xlabel="added to every reward", ylabel="variance of the first update", ylim=(0, None))
    return figure


if __name__ == "__main__":
    write(__file__, parabola=parabola, batch=batch, learning=learning)
