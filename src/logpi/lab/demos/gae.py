"""One number between bias and variance: how far to trust the critic, and how far the rewards.

The critic of a machine that is run or mended is wrong by as much as you like. GAE weighs each TD error, or mixes advantages of one, two
and more rewards: two ways to write the same number. Lambda 0 asks the critic after one reward and inherits its error; lambda 1 waits
for every reward and inherits their luck.

The curves are exact, over every episode there is: the squared bias of the gradient, its variance in a batch, and their sum.
As a rule a worse critic asks for a larger lambda, and so does a larger batch, whose noise is less.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
from torch import Tensor

from logpi import psi
from logpi.exact import Choice, Estimator, expectation, mdp
from logpi.exact.problem import Problem
from logpi.lab import problems
from logpi.page import Between, Fraction, page

STEPS = 5  # of an episode
LAMBDAS = torch.linspace(0, 1, 101, dtype=torch.float64)
MOST = 1.0  # the largest error of the critic
ERRORS = torch.linspace(0, MOST, 41, dtype=torch.float64)


@page
class Params:
    """What can be turned."""

    lam: Fraction = 0.9  # 0 trusts the critic, 1 the rewards
    gamma: Fraction = 0.95  # discount of later rewards
    error: Annotated[float, Between(0, MOST)] = 0.3  # of the critic in each state, in standard deviations of Q
    rows: Annotated[int, Between(1, 200)] = 20  # episodes of a batch


FORMULA = """<math display="block"><msub><mover><mi>A</mi><mo>^</mo></mover><mi>t</mi></msub><mo>=</mo>
<munder><mo>∑</mo><mrow><mi>l</mi><mo>≥</mo><mn>0</mn></mrow></munder><msup><mrow><mo>(</mo><mi>γ</mi><mi>λ</mi><mo>)</mo></mrow><mi>l</mi></msup>
<msub><mi>δ</mi><mrow><mi>t</mi><mo>+</mo><mi>l</mi></mrow></msub><mo>=</mo><mo>(</mo><mn>1</mn><mo>−</mo><mi>λ</mi><mo>)</mo>
<munder><mo>∑</mo><mrow><mi>n</mi><mo>≥</mo><mn>1</mn></mrow></munder><msup><mi>λ</mi><mrow><mi>n</mi><mo>−</mo><mn>1</mn></mrow></msup>
<msubsup><mi>A</mi><mi>t</mi><mrow><mo>(</mo><mi>n</mi><mo>)</mo></mrow></msubsup></math>"""

SHOWN = (psi.td, psi.n_step, psi.gae, expectation.gradients, mdp.gradient)


def demo(params: Params, seed: int) -> dict[str, Any]:
    """GAE of an episode's first action in both forms; the exact bias and variance over lambda, and the best lambda."""
    problem = machine(params)
    found = quality(problem)
    curve = {name: x.tolist() for name, x in found.over(LAMBDAS, params.error, params.rows).items()}
    here = found.over(torch.tensor(params.lam, dtype=torch.float64), params.error, params.rows)
    best = [found.best(float(error), params.rows) for error in ERRORS]
    return {
        "episode": episode(problem, params, seed),
        "lambdas": LAMBDAS.tolist(),
        "curve": curve,
        "here": {name: float(x) for name, x in here.items()},
        "best": found.best(params.error, params.rows),
        "errors": ERRORS.tolist(),
        "best_by_error": best,
        "gradient": float(found.truth.square().sum()),  # |grad J|^2, what a bias is to be compared with
    }


def machine(params: Params) -> Problem:
    """The machine over a few steps, after which it is scrapped: a cut would leave the critic's error in at any lambda."""
    return replace(problems.ended(problems.machine(steps=STEPS)), gamma=params.gamma, critic_error=params.error)


def episode(problem: Problem, params: Params, seed: int) -> dict[str, Any]:
    """Of one episode's first action: the TD errors that follow and their weights, the n-step advantages and theirs."""
    b = problem.batch(problems.sample(problem, 1, seed))
    assert b.value is not None and b.value_next is not None
    given = b.reward, b.value, b.value_next, b.terminated
    n_step = [psi.n_step(*given, b.truncated, params.gamma, n)[0, 0] for n in range(1, STEPS + 1)]
    later = torch.arange(STEPS, dtype=torch.float64)
    powers = params.lam**later
    return {
        "rewards": b.reward[0].tolist(),
        "values": b.value[0].tolist(),  # as the critic says
        "delta": psi.td(*given, params.gamma)[0].tolist(),
        "weights": (params.gamma**later * powers).tolist(),
        "n_step": [float(x) for x in n_step],
        "mixture": [*((1 - params.lam) * powers[:-1]).tolist(), float(powers[-1])],  # the last has all that is left
        "gae": float(psi.gae(*given, b.truncated, params.gamma, params.lam)[0, 0]),
    }


@dataclass(frozen=True)
class Quality:
    """Of one episode's gradient, for every lambda and every error e of the critic: it is a polynomial, sum_l lambda^l (c_l + e d_l)."""

    mean: Tensor  # [2 L, P]: E of each c_l, then of each d_l
    covariance: Tensor  # [2 L, 2 L], summed over the parameters
    truth: Tensor  # [P]: grad J

    def over(self, lam: Tensor, error: float, rows: int) -> dict[str, Tensor]:
        """|bias|^2, the variance of a batch's mean, and their sum, the mean squared error; each like lam."""
        powers = lam[..., None] ** torch.arange(len(self.mean) // 2)
        x = torch.cat([powers, error * powers], -1)
        bias = (x @ self.mean - self.truth).square().sum(-1)
        variance = ((x @ self.covariance) * x).sum(-1).clamp(min=0) / rows
        return {"bias": bias, "variance": variance, "mse": bias + variance}

    def best(self, error: float, rows: int) -> float:
        """The lambda of least mean squared error."""
        return float(LAMBDAS[self.over(LAMBDAS, error, rows)["mse"].argmin()])


def quality(problem: Problem) -> Quality:
    """From the exact gradients at as many lambdas as the polynomial has terms, with a true critic and with one that is off by 1."""
    every, lambdas = problems.every_episode(problem), torch.linspace(0, 1, problem.limit, dtype=torch.float64)
    terms = []
    for error in (0.0, 1.0):
        wrong = replace(problem, critic_error=error)
        pages = [Estimator(Choice(psi="gae", gamma=problem.gamma, lam=float(x))) for x in lambdas]
        g = torch.stack([problems.gradients(wrong, p, every) for p in pages])  # [L, N, P]
        powers = lambdas[:, None] ** torch.arange(problem.limit)
        terms.append(torch.linalg.solve(powers, g.flatten(1)).unflatten(1, g.shape[1:]))
    true, off = terms
    c = torch.cat([true, off - true])
    mean = torch.einsum("n,lnp->lp", every.weight, c)
    gap = c - mean[:, None]
    covariance = torch.einsum("n,lnp,knp->lk", every.weight, gap, gap)
    truth = mdp.gradient(problem.table, problem.policy, problem.obs, problem.gamma, limit=problem.limit)
    return Quality(mean, covariance, truth)
