"""One episode gives one estimate of the gradient, and a poor one: right on average, and mostly far off.

Every dot is the estimate from a single episode of a machine that is run or mended, with a policy of two parameters. The
cross is the exact gradient, from every episode there is; the ellipse holds one standard deviation, exact as well. Change the
credit: the episodes stay the same, their mean stays the same, the cloud shrinks.
"""

from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from logpi import objective, psi
from logpi.exact import Choice, Estimator, expectation, mdp
from logpi.lab import problems
from logpi.page import Between, page

CREDITS = {
    "total": Choice(psi="total"),
    "to_go": Choice(psi="to_go"),
    "baseline": Choice(psi="to_go", baseline="value"),
    "advantage": Choice(psi="advantage"),
}
MOST = 500  # episodes


@page
class Params:
    """What may be changed."""

    credit: Literal["total", "to_go", "baseline", "advantage"] = "total"  # what an action is weighed by
    episodes: Annotated[int, Between(1, MOST)] = 10  # drawn; each gives one estimate
    steps: Annotated[int, Between(2, 5)] = 4  # of an episode
    shift: Annotated[float, Between(-3, 5)] = 0.0  # added to every reward: moves the cloud, not the gradient
    well: Annotated[float, Between(-3, 3)] = -1.0  # log-odds of mending a machine that is well
    worn: Annotated[float, Between(-3, 3)] = 0.0  # log-odds of mending one that is worn


FORMULA = """\
<math display="block">
  <mover><mi>g</mi><mo>^</mo></mover><mo>=</mo>
  <munder><mo>∑</mo><mi>t</mi></munder>
  <msub><mi>Ψ</mi><mi>t</mi></msub><mo>∇</mo><mi>log</mi><mo>⁡</mo>
  <mi>π</mi><mo>(</mo><msub><mi>a</mi><mi>t</mi></msub><mo>|</mo><msub><mi>s</mi><mi>t</mi></msub><mo>)</mo>
  <mo>,</mo><mspace width="2em"></mspace>
  <mi>E</mi><mo>[</mo><mover><mi>g</mi><mo>^</mo></mover><mo>]</mo><mo>=</mo><mo>∇</mo><mi>J</mi>
</math>"""

SHOWN = (psi.total_return, psi.reward_to_go, objective.score, expectation.gradients, mdp.gradient)


def demo(params: Params, seed: int) -> dict[str, Any]:
    """The exact gradient, and for every credit its estimates on the same episodes, their running mean and their ellipse."""
    problem = problems.machine(params.well, params.worn, params.steps, params.shift)
    every = problems.every_episode(problem)
    u = torch.rand(MOST, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))[: params.episodes]
    drawn = torch.searchsorted(every.weight.cumsum(0), u).clamp(max=len(every.weight) - 1)
    truth = mdp.gradient(problem.table, problem.policy, problem.obs, problem.gamma, limit=problem.limit)
    x = problem.batch(every.rows.at(drawn))
    return {
        "parameters": [f"log-odds of mending when {state}" for state in problem.states],
        "names": {"states": problem.states, "actions": problem.actions},
        "exact": truth.tolist(),
        "credits": {
            name: cloud(problems.gradients(problem, Estimator(choice), every), every.weight, drawn, truth)
            for name, choice in CREDITS.items()
        },
        "episodes": {
            "states": x.obs.flatten(1).tolist(),
            "actions": x.action.flatten(1).tolist(),
            "rewards": x.reward.flatten(1).tolist(),
        },
    }


def cloud(g: Tensor, weight: Tensor, drawn: Tensor, truth: Tensor) -> dict[str, Any]:
    """g [N, 2] of every episode, its probability [N], the numbers of those drawn [n]."""
    mean = weight @ g
    covariance = torch.einsum("n,np,nq->pq", weight, g - mean, g - mean)
    size, direction = torch.linalg.eigh(covariance)
    points = g[drawn]
    running = points.cumsum(0) / torch.arange(1, len(points) + 1)[:, None]
    return {
        "mean": mean.tolist(),  # over every episode there is
        "covariance": covariance.tolist(),
        "ellipse": (direction * size.clamp(min=0).sqrt()).T.tolist(),  # two half-axes: one standard deviation
        "variance": float(covariance.trace()),
        "points": points.tolist(),
        "running": running.tolist(),
        "distance": (running - truth).norm(dim=-1).tolist(),
    }
