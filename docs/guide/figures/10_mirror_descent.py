"""The figures of chapter 10: mirror descent beside plain ascent, the shapes of a step, and what several ascents reach. All exact."""

import torch
from matplotlib.figure import Figure
from style import BLUE, GREEN, GREY, ORANGE, PINK, new, write
from torch import Tensor

from logpi import kl, objective

F64 = torch.float64
REWARD = torch.tensor([1.0, 0.8, 0.0], dtype=F64)  # of three actions
START = torch.tensor([0.05, 0.45, 0.5], dtype=F64).log()


def path(plain: bool, eta: float, steps: int) -> Tensor:
    """pi [steps + 1, 3] under exact ascent: theta + eta pi A, or theta + eta A."""
    theta, out = START, []
    for _ in range(steps + 1):
        pi = theta.softmax(-1)
        out.append(pi)
        A = REWARD - pi @ REWARD
        theta = theta + eta * (pi * A if plain else A)
    return torch.stack(out)


def corner() -> Figure:
    """Plain ascent runs to the second best of three actions and stays; the mirror step goes on."""
    figure, (left, right) = new(height=3.4, columns=2)
    corners = torch.tensor([[0.5, 0.866], [1.0, 0.0], [0.0, 0.0]], dtype=F64)
    left.plot(*corners[[0, 1, 2, 0]].T, color=GREY, lw=0.8)
    eta, steps, k = 1.0, 300, torch.arange(1, 301)
    gaps = {}
    for plain, colour, name in ((True, ORANGE, "plain gradient"), (False, BLUE, "mirror step")):
        found = path(plain, eta, steps)
        gaps[plain] = (REWARD.max() - found @ REWARD)[1:]
        left.plot(*(found @ corners).T, "o-", color=colour, ms=2.5, lw=1, markevery=4)
        right.loglog(k, gaps[plain], color=colour, label=name)
    bound = -START[0] / (eta * k)  # KL(pi* || pi_0) / (eta k)
    assert (gaps[False] <= bound).all() and (gaps[False].diff() <= 1e-15).all()
    assert gaps[True][19] > 0.15 > 1e-3 > gaps[False][99] and gaps[True][99] > 10 * gaps[False][99]
    right.loglog(k, bound, color=GREY, ls="--", label="the bound")
    for at, text, shift in zip(corners, ("best, 1", "0.8", "0"), ((0, 0.03), (0.03, 0), (-0.03, 0)), strict=True):
        ha = {0: "center", 0.03: "left", -0.03: "right"}[shift[0]]
        left.text(*(at + torch.tensor(shift)), text, ha=ha)
    left.set(aspect="equal", xlim=(-0.1, 1.15), ylim=(-0.08, 1.0))
    left.axis("off")
    right.set(xlabel="steps", ylabel="best minus mean reward", ylim=(1e-4, 5))
    right.legend(fontsize=9, loc="lower left")
    return figure


def tilt(A: Tensor, eta: float) -> Tensor:
    """pi / pi_old of the mirror step from a uniform policy."""
    return (eta * A).softmax(-1) * len(A)


def reverse(A: Tensor, eta: float) -> Tensor:
    """The same for the price KL(pi_old || pi): 1 / (eta (nu - A)), nu by bisection."""
    low, high = A.max() + 1e-9, A.max() + 2 / eta
    for _ in range(200):
        nu = (low + high) / 2
        low, high = (nu, high) if (1 / (eta * (nu - A))).mean() > 1 else (low, nu)
    return 1 / (eta * (nu - A))


def clipped(A: Tensor, steps: int = 4000) -> Tensor:
    """pi / pi_old to which ascent along PPO's clip leads, each action's logit its own."""
    old = torch.full_like(A, 1 / len(A)).log()
    theta = old.clone().requires_grad_(True)
    for _ in range(steps):
        (g,) = torch.autograd.grad(objective.clip(theta.log_softmax(-1), old, A, 0.2, 0.2).mean(), theta)
        theta = (theta + 0.2 * g).detach().requires_grad_(True)
    return (theta.log_softmax(-1) - old).exp().detach()


def shapes() -> Figure:
    """How likely each action becomes, by its advantage."""
    A = torch.linspace(-1, 1, 41, dtype=F64)
    divergence = lambda rho: float((rho * rho.log()).mean())  # noqa: E731
    mirror = tilt(A, 0.5)
    low, high = 0.01, 2.0
    for _ in range(60):  # the eta at which the other price is as far away
        eta = (low + high) / 2
        low, high = (eta, high) if divergence(reverse(A, eta)) < divergence(mirror) else (low, eta)
    other, clip = reverse(A, eta), clipped(A)
    assert all(abs(x.mean() - 1) < 1e-9 for x in (mirror, other, clip))
    assert other[-1] > mirror[-1] and other[0] > mirror[0]  # a heavier side above, a lighter below
    assert mirror @ A > other @ A  # at the same KL(pi || pi_old) nothing gains more than the mirror step
    assert clip[-8:].max() - clip[-8:].min() < 0.1 and clip.max() < 1.3 and clip.min() > 0.7
    figure, (axes,) = new(height=3.4)
    axes.plot(A, mirror, color=BLUE, label="price KL(new || old): MDPO, exp(eta A) / Z")
    axes.plot(A, other, color=ORANGE, label="price KL(old || new): PPO with a KL")
    axes.plot(A, clip, color=GREEN, label="PPO's clip, where ascent comes to rest")
    axes.axhline(1, color=GREY, lw=0.6)
    axes.set(xlabel="advantage of the action", ylabel="new probability over old")
    axes.legend(fontsize=9)
    return figure


def ascents() -> Figure:
    """How far several ascents on the surrogate are from the mirror step that they are to solve."""
    old = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=F64).log()
    A = torch.tensor([-0.5, 0.3, 0.1, 0.9], dtype=F64)
    A = A - old.exp() @ A
    figure, (axes,) = new(height=3.2)
    for eta, colour in ((0.5, PINK), (2.0, BLUE), (8.0, GREEN)):
        target, theta, gap = (old + eta * A).log_softmax(-1), old.clone().requires_grad_(True), []
        for _ in range(81):
            log_pi = theta.log_softmax(-1)
            gap.append(float(kl.categorical(target, log_pi.detach())))
            (g,) = torch.autograd.grad(old.exp() @ objective.mirror(log_pi, old, A, eta), theta)
            if len(gap) == 1:
                assert torch.allclose(g, old.exp() * A)  # the first ascent is the plain gradient
            theta = (theta + 0.5 * g).detach().requires_grad_(True)
        assert gap[0] > gap[1] > gap[10] > gap[80] and gap[1] > 0.5 * gap[0]
        axes.semilogy(gap, color=colour, label=f"eta = {eta:g}")
    axes.set(xlabel="ascents on one batch", ylabel="KL(mirror step || policy)", ylim=(1e-12, 10))
    axes.legend(fontsize=9)
    return figure


if __name__ == "__main__":
    write(__file__, corner=corner, shapes=shapes, ascents=ascents)
