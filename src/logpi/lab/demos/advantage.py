"""Every action is paid, so the raw return pushes up whatever was done; the advantage pushes up only what was better than expected.

Each group of bars is what one sample of that action does to all probabilities, weighed by its return and by its advantage. Those of
the raw return differ wildly and each pushes its own action up; weighed by how often they happen, both add up to the same update.
"""

from typing import Annotated, Any

import torch

from logpi import objective
from logpi.envs.tabular import bandit
from logpi.exact import Choice, Estimator, expectation, from_table
from logpi.exact.mdp import values
from logpi.exact.problem import Problem
from logpi.exact.problems import linear
from logpi.lab import problems
from logpi.page import Between, page

Paid = Annotated[float, Between(0.1, 10)]
Logit = Annotated[float, Between(-3, 3)]
CREDITS = {"return": Choice(psi="to_go"), "advantage": Choice(psi="advantage")}


@page
class Params:
    """What can be turned."""

    a: Paid = 6.0  # what the first action pays
    b: Paid = 7.0  # the second
    c: Paid = 8.0  # the third
    d: Paid = 9.0  # the fourth
    prefer: Logit = 1.0  # how far the policy already prefers the first action: its logit
    lr: Annotated[float, Between(0.01, 1)] = 0.1  # how far one sample moves the logits


FORMULA = """<math display="block"><mi>A</mi><mo>(</mo><mi>s</mi><mo>,</mo><mi>a</mi><mo>)</mo><mo>=</mo>
<mi>Q</mi><mo>(</mo><mi>s</mi><mo>,</mo>
<mi>a</mi><mo>)</mo><mo>−</mo><mi>V</mi><mo>(</mo><mi>s</mi><mo>)</mo><mo>,</mo><mspace width="1em"/>
<munder><mo>∑</mo><mi>a</mi></munder><mi>π</mi><mo>(</mo><mi>a</mi><mo>|</mo><mi>s</mi><mo>)</mo><mspace width="0.2em"/><mi>A</mi><mo>(</mo>
<mi>s</mi><mo>,</mo><mi>a</mi><mo>)</mo><mo>=</mo><mn>0</mn></math>"""

SHOWN = (values, objective.score, Estimator.psi, expectation.coefficients)


def demo(params: Params, seed: int) -> dict[str, Any]:
    """For each credit: what one sample of each action does to the probabilities, and what all of them do on average."""
    problem = four(params)
    pi, Q = problem.pi[0], problem.table.R[0]
    return {
        "actions": ["a", "b", "c", "d"],
        "pi": pi.tolist(),
        "returns": Q.tolist(),
        "value": float(pi @ Q),
        "credits": {name: pushes(problem, Estimator(choice), params.lr) for name, choice in CREDITS.items()},
    }


def four(params: Params) -> Problem:
    """One state, four actions; the policy prefers the first."""
    logits = torch.zeros(2, 4, dtype=torch.float64)
    logits[0, 0] = params.prefer
    return from_table(bandit((params.a, params.b, params.c, params.d)), "four", 1.0, policy=linear(logits))


def pushes(problem: Problem, method: Estimator, lr: float) -> dict[str, Any]:
    """Rows by the action that was sampled, columns by the action that is moved."""
    every = problems.every_episode(problem)
    order = every.rows.action[:, 0, 0, 0].argsort()
    psi, _ = method.psi(problem.batch(every.rows), {})
    terms = expectation.coefficients(problem, expectation.surrogate_of(method), "episodes", every)[:, 0, 0, 0]
    after = (problem.drawing[0] + lr * terms).softmax(-1)
    mean = every.weight @ terms
    return {
        "psi": psi[order, 0, 0, 0].tolist(),
        "terms": terms[order].tolist(),  # added to the logits for a rate of 1
        "change": (after - problem.pi[0])[order].tolist(),  # of the probabilities
        "mean": mean.tolist(),  # the expected term
        "variance": float(every.weight @ (terms - mean).square().sum(-1)),
    }
