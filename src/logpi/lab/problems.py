"""The small processes of the demonstrations, and one update on a batch of them, by `loop.update` and a page's own step."""

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from logpi.batch import Batch
from logpi.envs.tabular import Table
from logpi.exact import Problem, expectation
from logpi.exact.batches import Draws, Shape, batches
from logpi.exact.mdp import expected_return, kl, probabilities, visits
from logpi.exact.problems import softmax
from logpi.exact.trajectories import Trajectories, drawn
from logpi.loop import Parts, update
from logpi.methods import METHODS
from logpi.run.optimizers import optimizers

FLOAT = torch.float64


def machine(well: float = -1.0, worn: float = 0.0, steps: int = 4, shift: float = 0.0) -> Problem:
    """A machine, well or worn, that is run or mended, and a policy of two parameters: the log-odds of mending in each state.

    Running pays and wears out; mending costs a step's work. shift is added to every reward: it changes no gradient.
    """
    P = torch.tensor([[[0.6, 0.4], [1.0, 0.0]], [[0.0, 1.0], [0.9, 0.1]]], dtype=FLOAT)
    R = torch.tensor([[3.0, 1.0], [1.0, 0.0]], dtype=FLOAT) + shift
    table = Table(P, R, torch.full((2,), 0.5, dtype=FLOAT), torch.zeros(2, dtype=torch.bool), steps)
    states, actions = ("well", "worn"), ("run", "mend")
    return Problem("machine", table, odds([well, worn]), torch.eye(2, dtype=FLOAT), states=states, actions=actions)


def ended(problem: Problem) -> Problem:
    """The same steps, then an end instead of a cut: states are (step, state), the last one terminal."""
    table, (S, A) = problem.table, problem.table.R.shape
    over = problem.limit * S
    P, R = torch.zeros(over + 1, A, over + 1, dtype=FLOAT), torch.zeros(over + 1, A, dtype=FLOAT)
    for t in range(problem.limit - 1):
        P[t * S : (t + 1) * S, :, (t + 1) * S : (t + 2) * S] = table.P
    P[over - S :, :, over] = 1.0
    R[:over] = table.R.repeat(problem.limit, 1)
    start = torch.cat([table.start, torch.zeros(over + 1 - S, dtype=FLOAT)])
    obs = torch.cat([problem.obs.repeat(problem.limit, 1), torch.zeros_like(problem.obs[:1])])
    whole = Table(P, R, start, torch.arange(over + 1) == over, problem.limit)
    return Problem(problem.name, whole, problem.policy, obs, actions=problem.actions)


def odds(theta: list[float]) -> Any:
    """A policy over two actions: in each state the log-odds of the second."""
    line = nn.Linear(len(theta), 1, bias=False, dtype=FLOAT)
    with torch.no_grad():
        line.weight.copy_(torch.tensor([theta], dtype=FLOAT))
    return softmax(nn.Sequential(line, nn.ZeroPad1d((1, 0))), 2)


def every_episode(problem: Problem) -> Draws:
    """Each episode there is, [N, 1, 1, T], and its probability."""
    (whole,) = batches(problem, Shape(1, 1), samples=0)[0]  # a world of more episodes than fit is not for a picture
    return whole


def gradients(problem: Problem, page: Any, draws: Draws) -> Tensor:
    """The gradient that each batch of one episode gives to a page, [N, P]."""
    return expectation.gradients(problem, expectation.surrogate_of(page), "episodes", draws)


def sample(problem: Problem, n: int, seed: int, group: int = 1) -> Trajectories:
    """n starts, and `group` episodes of the policy from each, [n * group, T]."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.multinomial(problem.table.start, n, replacement=True, generator=generator)
    return drawn(problem.table, problem.pi, start.repeat_interleave(group), generator)


def batch(problem: Problem, x: Trajectories, group: int | None = None) -> Batch:
    """Episodes as the loop sees them: what the policy saw, and the exact V and Q of a critic; [n, group, T] with a group."""
    if group:
        x = Trajectories(*(part.unflatten(0, (-1, group)) for part in x))
    return problem.batch(x).map(lambda part: part).with_(obs=problem.obs[x.state])


def updated(problem: Problem, page: Any, x: Batch, seed: int = 0) -> tuple[Problem, dict[str, Any]]:
    """(the problem of the new policy, what the loop told): one update by plain gradient ascent, or by the page's own step."""
    policy = copy.deepcopy(problem.policy)
    return replace(problem, policy=policy), improve(policy, page, x, seed)[1]


def improve(policy: Any, page: Any, x: Batch, seed: int = 0) -> tuple[Batch, dict[str, Any]]:
    """(the batch with its credit, what the loop told) of one update of this policy by torch's SGD, or by the page's own step."""
    state = {"iteration": 0, "steps": 0, "horizon": 1, "progress": 0.0}
    shuffle = torch.Generator().manual_seed(seed)
    return update(Parts(page, policy, None, None, None, *optimizers(page, "SGD", policy, None), shuffle, state), x)


def page_of(name: str, **fields: Any) -> Any:
    """A method's page with those of the fields that it has."""
    kind = METHODS[name]
    return kind(**{k: v for k, v in fields.items() if k in kind.__dataclass_fields__})  # type: ignore[attr-defined]


def theta(problem: Problem) -> list[float]:
    """The policy's parameters."""
    return torch.cat([p.detach().flatten() for p in problem.policy.parameters()]).tolist()


def worth(problem: Problem) -> float:
    """J, exact."""
    return float(expected_return(problem.table, problem.pi, problem.gamma, problem.limit))


def visited(problem: Problem) -> Tensor:
    """The share of each state among all actions that the policy takes, [S]."""
    d = visits(problem.table, problem.pi, 1.0, problem.limit).sum(0)
    return d / d.sum()


def kl_between(old: Problem, new: Problem) -> float:
    """KL(old || new), the mean over the states that the old policy visits, exact."""
    return float(kl(old.pi, probabilities(new.policy, new.obs).detach(), visited(old)))
