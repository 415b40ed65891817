"""The figures of chapter 2: the noise of one episode, its growth with the episode's length, what gamma^t is for."""

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse
from style import BLUE, COLOURS, GREY, ORANGE, new, write
from torch import Tensor

from logpi import exact
from logpi.exact import Choice, Estimator, Moments, Problem, mdp
from logpi.lab.problems import every_episode, gradients, machine

CREDITS = {
    "total return": Choice(psi="total"),
    "reward-to-go": Choice(psi="to_go"),
    "to-go − V": Choice(psi="to_go", baseline="value"),
    "advantage": Choice(psi="advantage"),
}


def moments(world: Problem, choice: Choice) -> Moments:
    return exact.moments(world, exact.surrogate_of(Estimator(choice)), n=1)


def gradient(world: Problem) -> Tensor:
    return mdp.gradient(world.table, world.policy, world.obs, world.gamma, limit=world.limit)


def scatter() -> Figure:
    world = machine(steps=4)
    every, truth, variances = every_episode(world), gradient(world), []
    side = max(float(gradients(world, Estimator(CREDITS[n]), every).abs().max()) for n in list(CREDITS)[:2]) + 1
    figure, axes = new(7.2, 3.6, 2)
    for x, name in zip(axes, ("total return", "reward-to-go"), strict=True):
        g, p = gradients(world, Estimator(CREDITS[name]), every), every.weight
        mean = p @ g
        assert torch.allclose(mean, truth)
        covariance = torch.einsum("n,np,nq->pq", p, g - mean, g - mean)
        variances.append(covariance.trace())
        size, direction = torch.linalg.eigh(covariance)
        width, height = (2 * size.sqrt()).tolist()
        angle = float(torch.rad2deg(torch.atan2(direction[1, 0], direction[0, 0])))
        x.add_patch(Ellipse(tuple(mean.tolist()), width, height, angle=angle, fill=False, color=ORANGE, lw=1.5))
        size = (40 * p.sqrt()).ceil() / 40  # few sizes: a small file
        for r in size.unique():
            x.plot(*g[size == r].T, "o", ms=40 * float(r), color=BLUE, alpha=0.4, mew=0)
        x.plot(*truth, "+", color=ORANGE, ms=12, mew=2)
        x.set(title=f"{name}: variance {covariance.trace():.1f}", xlabel="∂ log-odds when well")
        x.set(xlim=(-side, side), ylim=(-side, side), aspect="equal")
    axes[0].set_ylabel("∂ log-odds when worn")
    assert variances[1] < variances[0] / 2 and variances[1] > 10 * truth.square().sum()
    return figure


def length() -> Figure:
    steps = list(range(1, 8))
    worlds = [machine(steps=n) for n in steps]
    squares = [float(gradient(w).square().sum()) for w in worlds]
    figure, (axes,) = new(6.4, 3.4)
    curves = {}
    for (name, choice), colour in zip(CREDITS.items(), COLOURS, strict=False):
        variance = torch.tensor([moments(w, choice).variance for w in worlds])
        curves[name] = variance / torch.tensor(squares)
        axes.plot(steps, curves[name], "o-", ms=4, color=colour)
        axes.text(7.12, curves[name][-1], name, color=colour, va="center")
        if name == "total return":
            assert 7 < variance[5] / variance[2] < 9.5  # twice as long: about 2^3 times the variance
    assert (curves["total return"].diff() > 0).all() and (curves["advantage"].diff() < 0).all()
    axes.set(yscale="log", xlabel="steps of an episode", ylabel="variance / |∇J|²", xlim=(0.8, 8.6), xticks=steps)
    axes.set(yticks=[1, 10, 100], yticklabels=["1", "10", "100"])
    return figure


def gammas() -> Figure:
    figure, (left, right) = new(7.2, 3.3, 2)
    five = exact.find("five-states")
    gamma = torch.linspace(0.0, 1.0, 21, dtype=torch.float64)[1:]
    off = []
    for x in gamma.tolist():
        world = exact.problems.changed(five, gamma=x)
        one = moments(world, Choice(psi="to_go", gamma=x, from_start=False))
        truths = (gradient(world), gradient(exact.problems.changed(five, gamma=1.0)))
        off.append([float((one.mean - g).norm() / g.norm()) for g in truths])
    off = torch.tensor(off)
    assert off[-1].max() < 1e-10 and (off[:-1] > 0.01).all()
    left.plot(gamma, off[:, 0], color=BLUE, label="to ∇J discounted")
    left.plot(gamma, off[:, 1], color=ORANGE, label="to ∇J at gamma 1")
    left.set(xlabel="gamma", ylabel="relative bias of G, no gamma^t", ylim=(0, None))
    left.legend(loc="upper right")
    six = machine(steps=6)
    truth = gradient(six)
    found = [moments(six, Choice(psi="to_go", gamma=x, from_start=False)) for x in gamma.tolist()]
    bias = torch.tensor([float((m.mean - truth).norm() / truth.norm()) for m in found])
    noise = torch.tensor([m.variance for m in found]) / float(truth.square().sum())
    best = []
    for n, colour in ((16, BLUE), (256, ORANGE)):
        error = (bias**2 + noise / n).sqrt()
        best.append(int(error.argmin()))
        right.plot(gamma, error, color=colour, label=f"{n} episodes")
        right.plot(gamma[best[-1]], error[best[-1]], "o", color=colour, ms=5)
    right.plot(gamma, bias, color=GREY, ls="--", label="bias alone")
    assert best[0] < best[1] < len(gamma) - 1  # less data: a smaller gamma
    right.set(xlabel="gamma", ylabel="error / |∇J at gamma 1|", ylim=(0, None))
    right.legend(loc="lower left")
    return figure


if __name__ == "__main__":
    write(__file__, scatter=scatter, length=length, gamma=gammas)
