"""The figures of chapter 1: why a policy, J's slope and the mistakes, probabilities that follow reward."""

import copy
import math
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from style import BLUE, GREY, ORANGE, new, write
from torch import Tensor

from logpi import average, exact, objective, psi
from logpi.batch import Batch
from logpi.envs.tabular import bandit
from logpi.exact import mdp
from logpi.exact.problems import changed, linear
from logpi.lab.demos import why as demonstration
from logpi.policy.categorical import Categorical

ARMS = (0.0, 0.2, 0.5, 1.0)


def why() -> Figure:
    told = demonstration.demo(demonstration.Params(rounds=200, lr=0.7), 3)
    path, mean = (torch.tensor(told["chase"][name], dtype=torch.float64) for name in ("path", "average"))
    centre = torch.full((3,), 1 / 3, dtype=torch.float64)
    far = [(x - centre).norm(dim=-1) for x in (path, mean)]
    assert far[1][-1] < 0.03 and far[0].min() > 0.15  # the average arrives, no policy does
    figure, (left, right) = new(7.2, 3.3, 2)
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.5, math.sqrt(0.75)]], dtype=torch.float64)
    left.plot(*(corners[[0, 1, 2, 0]]).T, color=GREY, lw=1)
    left.plot(*(path @ corners).T, color=BLUE, lw=1, label="policy")
    left.plot(*(mean @ corners).T, color=ORANGE, lw=2, label="average so far")
    left.plot(*(centre @ corners), "o", color=GREY, ms=4)
    for name, at, side, up in zip(
        ("rock", "paper", "scissors"), corners, ("center",) * 3, ("top", "top", "bottom"), strict=True
    ):
        left.text(at[0], at[1] + (0.03 if up == "bottom" else -0.04), name, ha=side, va=up)
    left.set(aspect="equal", xlim=(-0.15, 1.15), ylim=(-0.14, 1.0))
    left.axis("off")
    left.legend(loc="upper left", bbox_to_anchor=(-0.16, 1.05))
    flip = told["flip"]
    assert set(flip["greedy"]) == {0, 1} and max(torch.tensor(flip["soft"]).diff()) < 0.02
    right.step(flip["gap"], flip["greedy"], where="mid", color=ORANGE, label="argmax")
    right.plot(flip["gap"], flip["soft"], color=BLUE, label="softmax")
    right.set(xlabel="how much more the second action is worth", ylabel="its probability")
    right.legend(loc="upper left")
    return figure


def slope() -> Figure:
    world = exact.find("five-states")
    truth = world.directions()[0].gradient
    along, theta = truth / truth.norm(), next(world.policy.parameters()).detach().clone()
    x = torch.linspace(-3.0, 3.0, 61, dtype=torch.float64)

    @torch.no_grad()
    def worth(step: Tensor) -> float:
        pi = mdp.probabilities(linear((theta + step * along.view_as(theta)).T), world.obs)
        return float(mdp.expected_return(world.table, pi, world.gamma, world.limit))

    curve = torch.tensor([worth(step) for step in x])
    mean = exact.moments(world, surrogate(world.gamma), n=1).mean  # by score times return
    tangent = worth(torch.tensor(0.0)) + x * (mean @ along)
    near = x.abs() < 0.15
    assert (curve - tangent)[near].abs().max() < 0.005 < (curve - tangent).abs().max()
    figure, (left, right) = new(7.2, 3.2, 2)
    left.plot(x, curve, color=BLUE, label="J")
    left.plot(x[10:51], tangent[10:51], "--", color=ORANGE, label="mean of score × return")
    left.plot(0, worth(torch.tensor(0.0)), "o", color=BLUE)
    left.set(xlabel="step along ∇J / |∇J|", ylabel="J", ylim=(0, curve.max() + 0.4))
    left.legend(loc="upper left")
    mistakes(right, world)
    return figure


def mistakes(axes: Axes, world: exact.Problem) -> None:
    text = exact.find("sequences")
    rows = {
        "REINFORCE": (world, surrogate(world.gamma)),
        "π for log π": (world, surrogate(world.gamma, torch.exp)),
        "older actions": (changed(world, drift=0.5), surrogate(world.gamma)),
        "mean over actions": (world, surrogate(world.gamma, mean=average.per_action)),
        "no end token": (text, without_the_end),
    }
    for i, (problem, estimate) in enumerate(rows.values()):
        told = exact.figures(exact.moments(problem, estimate, n=1), problem.directions()[0])
        across = math.sqrt(max(0.0, told["relative_bias"] ** 2 - (1 - told["scale"]) ** 2))
        assert (told["relative_bias"] < 1e-10) == (i == 0)
        axes.barh([-i + 0.17, -i - 0.17], [told["scale"], across], 0.32, color=[BLUE, ORANGE])
    axes.axvline(1.0, color=GREY, lw=0.8, ls=":")
    axes.set(yticks=[-i for i in range(len(rows))], yticklabels=list(rows), xlabel="in units of |∇J|", xlim=(0, 1.12))
    axes.text(0.42, -1.02 + 0.2, "along ∇J", color=BLUE, va="center")
    axes.text(0.42, -1.02 - 0.2, "across", color=ORANGE, va="center")


def surrogate(gamma: float, f: Any = lambda log_pi: log_pi, mean: Any = average.per_episode) -> Any:
    def of(now: Any, b: Batch) -> Tensor:
        return mean(objective.score(f(now.log_pi), psi.total_return(b.reward, b.ended, gamma)), b.mask)

    return of


def without_the_end(now: Any, b: Batch) -> Tensor:
    each = objective.score(now.log_pi, psi.total_return(b.reward, b.ended))
    return average.per_episode(torch.where(b.action != 0, each, 0.0), b.mask)


def probabilities_follow() -> Figure:
    steps, lr, learners = 150, 0.4, 1000
    world = exact.from_table(bandit(ARMS), gamma=1.0, policy=linear(torch.zeros(2, 4, dtype=torch.float64)))
    policy, path = copy.deepcopy(world.policy), []
    for _ in range(steps):
        path.append(mdp.probabilities(policy, world.obs)[0].detach())
        g = mdp.gradient(world.table, policy, world.obs, 1.0, limit=1)
        with torch.no_grad():
            next(policy.parameters()).add_(lr * g.view(4, 2))
    path = torch.stack(path)
    best = pulls(steps, lr, learners)
    assert path[-1].argmax() == 3 and (path[1:, 3] > path[:-1, 3]).all()
    assert (best[1].mean() - path[1, 3]).abs() < 4 * best[
        1
    ].std() / learners**0.5  # one step: its mean is the exact one
    assert best[20, :12].std() > 0.05  # each learner's path is its own
    figure, (left, right) = new(7.2, 3.2, 2)
    for arm, reward in enumerate(ARMS):
        left.plot(path[:, arm], label=f"pays {reward:g}")
    left.set(xlabel="step", ylabel="π of each arm", ylim=(0, 1.02))
    left.legend(loc="center right")
    right.plot(best[:, :12], color=BLUE, lw=0.8, alpha=0.6)
    right.plot(path[:, 3], color=ORANGE, lw=2)
    right.plot([], [], color=BLUE, lw=0.8, label="twelve learners")
    right.plot([], [], color=ORANGE, lw=2, label="exact gradient")
    right.set(xlabel="step: one pull", ylabel="π of the best arm", ylim=(0, 1.02))
    right.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


def pulls(steps: int, lr: float, learners: int) -> Tensor:
    """pi of the best arm, [steps, learners], each learner with one pull for each step."""
    head, random = Categorical(4), torch.Generator().manual_seed(0)
    pay, mask = torch.tensor(ARMS, dtype=torch.float64), torch.ones(learners, 1, dtype=torch.bool)
    logits, told = torch.zeros(learners, 4, dtype=torch.float64, requires_grad=True), []
    for _ in range(steps):
        told.append(logits.detach().softmax(-1)[:, 3])
        action = head.sample(logits.detach(), random)
        credit = psi.total_return(pay[action][:, None], mask)
        L = learners * average.per_episode(objective.score(head.log_prob(logits, action)[:, None], credit), mask)
        (g,) = torch.autograd.grad(L, logits)
        logits = (logits + lr * g).detach().requires_grad_(True)
    return torch.stack(told)


if __name__ == "__main__":
    write(__file__, why=why, slope=slope, bandit=probabilities_follow)
