"""Subtract what was to be expected anyway, and the gradient is the same on average, with far less noise.

Many learners pull four arms, and every pull is paid. They learn once from the plain return and once from the return minus a
baseline. Without one every arm that happens to be pulled is pushed up, and some learners run off with a poor one. Beside the curves
stands the variance of a learner's first update: measured on drawn batches, and exact, from every batch there is.
"""

from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from logpi import noise, objective, psi
from logpi.envs.tabular import Table
from logpi.exact import Problem, expectation, from_table
from logpi.exact.batches import Draws
from logpi.exact.problems import linear
from logpi.exact.trajectories import Trajectories, drawn
from logpi.lab import problems
from logpi.methods import RLOO, Baseline, Reinforce
from logpi.page import Between, page
from logpi.step.gradient import ascend

ARMS = (0.0, 0.2, 0.5, 1.0)
BATCHES = 500  # drawn to measure the variance


@page
class Params:
    """What can be turned."""

    baseline: Literal["value", "leave_one_out"] = "value"  # the expected return, or the mean of the other pulls
    level: Annotated[float, Between(0, 10)] = 2.0  # added to every reward
    lr: Annotated[float, Between(0.01, 3)] = 0.5  # how far an update goes
    pulls: Annotated[int, Between(2, 8)] = 4  # of a learner in an update
    updates: Annotated[int, Between(1, 30)] = 20  # of each learner
    learners: Annotated[int, Between(2, 32)] = 16  # each with a luck of its own


FORMULA = """<math display="block"><mi>E</mi><mo>[</mo><mo>(</mo><mi>G</mi><mo>−</mo><mi>b</mi><mo>)</mo><mo>∇</mo><mi>log</mi><mo>⁡</mo>
<mi>π</mi><mo>(</mo><mi>a</mi><mo>)</mo><mo>]</mo><mo>=</mo><mi>E</mi><mo>[</mo><mi>G</mi><mo>∇</mo><mi>log</mi><mo>⁡</mo><mi>π</mi>
<mo>(</mo><mi>a</mi><mo>)</mo><mo>]</mo><mo>,</mo><mspace width="1em"/><mtext>since</mtext><mspace width="0.5em"/>
<mi>E</mi><mo>[</mo><mo>∇</mo><mi>log</mi><mo>⁡</mo><mi>π</mi><mo>(</mo><mi>a</mi><mo>)</mo><mo>]</mo><mo>=</mo><mn>0</mn></math>"""


SHOWN = (psi.reward_to_go, psi.leave_one_out, objective.score, expectation.moments, noise.half_interval, ascend)


def demo(params: Params, seed: int) -> dict[str, Any]:
    """The learners' curves with and without a baseline, and the mean and the variance of one update's gradient."""
    lr = params.lr * params.learners  # the average is over all learners: each gets its own mean back
    subtracted = RLOO(lr=lr) if params.baseline == "leave_one_out" else Baseline(gamma=1.0, lr=lr)
    rules = {"without": Reinforce(gamma=1.0, lr=lr), "with": subtracted}
    return {
        "arms": ARMS,
        "best": max(ARMS),
        "curves": {name: curve(method, params, seed) for name, method in rules.items()},
        "gradient": {name: spread(method, params, seed) for name, method in rules.items()},
    }


def arms(learners: int, level: float) -> Problem:
    """A state for each learner, in which it pulls an arm once; all arms are equally likely at first."""
    A, over = len(ARMS), learners
    P, R = (
        torch.zeros(learners + 1, A, learners + 1, dtype=torch.float64),
        torch.zeros(learners + 1, A, dtype=torch.float64),
    )
    P[..., over], R[:over] = 1.0, torch.tensor(ARMS, dtype=torch.float64) + level
    start = torch.full((learners + 1,), 1 / learners, dtype=torch.float64)
    start[over] = 0.0
    table = Table(P, R, start, torch.arange(learners + 1) == over, 1)
    return from_table(table, "arms", 1.0, policy=linear(torch.zeros(learners + 1, A, dtype=torch.float64)))


def curve(method: Any, params: Params, seed: int) -> dict[str, Any]:
    """What each learner may expect of a pull, less the level, before each update and after the last."""
    problem, random = arms(params.learners, params.level), torch.Generator().manual_seed(seed)
    start = torch.arange(params.learners).repeat_interleave(params.pulls)
    worth = [expected(problem)]
    for _ in range(params.updates):
        x = drawn(problem.table, problem.pi, start, random)
        rows = problems.batch(problem, x, params.pulls if method.rows == "groups" else None)
        problem, _ = problems.updated(problem, method, rows)
        worth.append(expected(problem))
    each = torch.stack(worth, 1)  # [learners, updates + 1]
    left_out = (each.sum(0) - each) / (params.learners - 1)
    return {
        "each": each.tolist(),
        "mean": each.mean(0).tolist(),
        "half": noise.half_interval(left_out).tolist(),  # half the 95 % interval of the mean
    }


def expected(problem: Problem) -> Tensor:
    return problem.pi[:-1] @ torch.tensor(ARMS, dtype=torch.float64)


def spread(method: Any, params: Params, seed: int) -> dict[str, Any]:
    """Of the gradient of one learner's first update: its mean, and its variance, exact and measured."""
    problem, n = arms(1, params.level), params.pulls
    surrogate, rows = expectation.surrogate_of(method), "groups" if method.rows == "groups" else "one start"
    exact = expectation.moments(problem, surrogate, rows, n, symmetric=True)
    random = torch.Generator().manual_seed(seed)
    x = drawn(problem.table, problem.pi, torch.zeros(BATCHES * n, dtype=torch.long), random)
    x = Trajectories(*(part.reshape(BATCHES, 1, n, *part.shape[1:]) for part in x))
    g = expectation.gradients(problem, surrogate, rows, Draws(x, torch.ones(BATCHES, dtype=torch.float64)))
    mean = exact.mean.unflatten(0, (len(ARMS), 2))[:, 0]  # of the logits in the one state that is no end
    return {"mean": mean.tolist(), "variance": exact.variance, "measured": float(g.var(0).sum())}
