"""Act until the episode ends, then go back over it: every action is made more or less probable by the return that followed it.

Step through one episode on a small grid: what was seen, done and paid, the return G that followed, and what that one term of the
sum does to the probabilities. Then look at many episodes of the same policy: their returns spread widely, so one episode says little.
"""

from dataclasses import replace
from typing import Annotated, Any, Literal

import torch

from logpi import average, objective, psi
from logpi.envs.tabular import gridworld
from logpi.exact import expectation, from_table
from logpi.exact.batches import Draws
from logpi.exact.problem import Problem
from logpi.exact.problems import linear
from logpi.exact.trajectories import Trajectories
from logpi.lab import problems
from logpi.methods import Reinforce
from logpi.page import Between, Fraction, page
from logpi.step.gradient import ascend

ACTIONS = ("up", "down", "left", "right")
LIMIT = 24  # steps of an episode
BEFORE = 16  # episodes of each update that came before


@page
class Params:
    """What can be turned."""

    size: Annotated[int, Between(2, 4)] = 3  # cells along a side of the grid
    gamma: Fraction = 0.9  # discount of later rewards
    credit: Literal["to_go", "total"] = "to_go"  # what followed the action, or the episode's whole return
    lr: Annotated[float, Between(0.01, 5)] = 1.0  # how far an update goes
    updates: Annotated[int, Between(0, 12)] = 0  # made before the episode is played
    episodes: Annotated[int, Between(1, 500)] = 200  # played to see the spread of returns


FORMULA = """<math display="block"><mi>θ</mi><mo>←</mo><mi>θ</mi><mo>+</mo><mi>α</mi><munder><mo>∑</mo><mi>t</mi></munder>
<msub><mi>G</mi><mi>t</mi></msub><mo>∇</mo><mi>log</mi><mo>⁡</mo><msub><mi>π</mi><mi>θ</mi></msub><mo>(</mo><msub><mi>a</mi><mi>t</mi></msub>
<mo>|</mo><msub><mi>s</mi><mi>t</mi></msub><mo>)</mo><mo>,</mo><mspace width="1em"/><msub><mi>G</mi><mi>t</mi></msub><mo>=</mo>
<munder><mo>∑</mo><mrow><mi>k</mi><mo>≥</mo><mi>t</mi></mrow></munder><msup><mi>γ</mi><mrow><mi>k</mi><mo>−</mo><mi>t</mi></mrow></msup>
<msub><mi>r</mi><mi>k</mi></msub></math>"""

SHOWN = (Reinforce, psi.reward_to_go, psi.total_return, objective.score, average.per_episode, ascend)


def demo(params: Params, seed: int) -> dict[str, Any]:
    """One episode step by step, the policy before and after its update, and the returns of many."""
    method = Reinforce(gamma=params.gamma, credit=params.credit, lr=params.lr)
    problem = grid(params)
    for k in range(params.updates):
        problem, _ = problems.updated(problem, method, problems.batch(problem, problems.sample(problem, BEFORE, k)))
    x, many = problems.sample(problem, 1, seed), problems.sample(problem, params.episodes, seed + 1)
    b = problems.batch(problem, x)
    new, _ = problems.updated(problem, method, b)
    returns = problem.batch(many)
    spread = psi.total_return(returns.reward, returns.ended, params.gamma)[:, 0]
    return {
        "size": params.size,
        "actions": ACTIONS,
        "steps": steps(problem, method, x),
        "arrived": bool(b.terminated.any()),
        "policy": {"before": problem.pi.tolist(), "after": new.pi.tolist()},
        "J": {"before": problems.worth(problem), "after": problems.worth(new)},
        "returns": {
            "each": spread.tolist(),
            "mean": float(spread.mean()),
            "std": float(spread.std(correction=0)),
        },
    }


def grid(params: Params) -> Problem:
    """From one corner to the other, every action equally likely at first."""
    table = replace(gridworld(params.size), limit=LIMIT)
    policy = linear(torch.zeros(table.R.shape, dtype=torch.float64))
    return from_table(table, "grid", params.gamma, policy=policy, actions=ACTIONS)


def steps(problem: Problem, method: Reinforce, x: Trajectories) -> list[dict[str, Any]]:
    """Each action of the episode: what it was credited with, and what its own term of the sum does to pi(.|s)."""
    b = problem.batch(x)
    credit, _ = method.psi(b, {})
    draws = Draws(Trajectories(*(part[None, None] for part in x)), x.chance)
    terms = expectation.coefficients(problem, expectation.surrogate_of(method), "episodes", draws)[0, 0, 0]
    told = []
    for t in range(int(x.mask.sum())):
        s = int(x.state[0, t])
        term = method.lr * terms[t]
        told.append(
            {
                "state": s,
                "action": int(x.action[0, t]),
                "next": int(x.after[0, t]),
                "reward": float(b.reward[0, t]),
                "credit": float(credit[0, t]),
                "term": term.tolist(),  # what it adds to the logits of this state
                "before": problem.pi[s].tolist(),
                "after": (problem.drawing[s] + term).softmax(-1).tolist(),
            }
        )
    return told
