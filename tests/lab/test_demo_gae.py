"""GAE: two forms of one number, no bias at lambda 1, a bias that grows as the critic's error, and curves that are the enumerated ones."""

from dataclasses import replace

import pytest
import torch

from logpi.exact import Choice, Estimator, expectation
from logpi.exact.mdp import expected_return, gradient
from logpi.lab import problems
from logpi.lab.demos.gae import ERRORS, LAMBDAS, STEPS, Params, demo, machine, quality

CHANGED = Params(lam=0.35, gamma=0.8, error=0.7, rows=7)
CASES = pytest.mark.parametrize("params", [Params(), CHANGED, Params(lam=0.0), Params(lam=1.0, gamma=1.0)], ids=repr)


@CASES
@pytest.mark.parametrize("seed", range(3))
def test_weighed_errors_and_mixed_n_step_advantages_are_the_same_number(params: Params, seed: int) -> None:
    x = demo(params, seed)["episode"]
    told = {name: torch.tensor(x[name], dtype=torch.float64) for name in ("delta", "weights", "n_step", "mixture")}
    assert float(told["weights"] @ told["delta"]) == pytest.approx(x["gae"], abs=1e-12)
    assert float(told["mixture"] @ told["n_step"]) == pytest.approx(x["gae"], abs=1e-12)
    assert float(told["mixture"].sum()) == pytest.approx(1, abs=1e-14)
    assert x["weights"] == pytest.approx([(params.gamma * params.lam) ** k for k in range(STEPS)], abs=1e-15)
    ret = sum(r * params.gamma**k for k, r in enumerate(x["rewards"]))
    assert x["n_step"][-1] == pytest.approx(ret - x["values"][0], abs=1e-12)
    assert x["n_step"][0] == pytest.approx(x["delta"][0], abs=1e-14)


@CASES
def test_the_curves_are_what_enumeration_gives_at_any_lambda(params: Params) -> None:
    problem, found = machine(params), quality(machine(params))
    for lam in (0.0, 0.13, 0.5, 0.77, 1.0):
        page = Estimator(Choice(psi="gae", gamma=params.gamma, lam=lam))
        one = expectation.moments(problem, expectation.surrogate_of(page), "episodes", 1)
        told = found.over(torch.tensor(lam, dtype=torch.float64), params.error, params.rows)
        bias = float((one.mean - found.truth).square().sum())
        assert float(told["bias"]) == pytest.approx(bias, abs=1e-11)
        assert float(told["variance"]) == pytest.approx(one.variance / params.rows, rel=1e-9)


def test_a_batchs_variance_is_the_enumerated_one_of_two_episodes() -> None:
    short = problems.ended(problems.machine(steps=3))
    problem = replace(short, gamma=CHANGED.gamma, critic_error=CHANGED.error)
    page = Estimator(Choice(psi="gae", gamma=CHANGED.gamma, lam=0.35))
    two = expectation.moments(problem, expectation.surrogate_of(page), "episodes", 2)
    told = quality(problem).over(torch.tensor(0.35, dtype=torch.float64), CHANGED.error, 2)
    assert float(told["variance"]) == pytest.approx(two.variance, rel=1e-9)


def test_lambda_1_is_unbiased_however_wrong_the_critic_and_below_it_the_bias_grows_as_its_error() -> None:
    for params in (Params(), CHANGED):
        found = quality(machine(params))
        biases = torch.stack([found.over(LAMBDAS, float(e), 1)["bias"] for e in ERRORS])
        assert float(biases[:, -1].max()) < 1e-24 and float(biases[0].max()) < 1e-24  # nor has a true critic any
        assert bool((biases[1:, :-1].diff(dim=0) > 0).all())
        torch.testing.assert_close(biases[:, :-1], ERRORS[:, None].square() * biases[-1, :-1], rtol=1e-8, atol=1e-20)


def test_the_best_lambda_has_the_least_error_and_rises_with_the_critics_error_and_with_the_batch() -> None:
    found = demo(Params(), 0)
    least = min(found["curve"]["mse"])
    assert found["curve"]["mse"][found["lambdas"].index(found["best"])] == least < found["here"]["mse"]
    rising = found["best_by_error"][1:]  # from a true critic's 0.05 to 0.04, then up
    assert rising == sorted(rising) and found["best_by_error"][0] < 0.1 and rising[-1] > 0.9
    best = [demo(Params(rows=rows), 0)["best"] for rows in (1, 5, 20, 100)]
    assert best == sorted(best) and best[0] < 0.1 and best[-1] > 0.8


def test_the_ended_machine_is_the_machine_that_is_cut() -> None:
    cut = problems.machine(steps=4)
    whole = problems.ended(cut)
    of = lambda x: (x.table, x.policy, x.obs, 0.9)  # noqa: E731
    torch.testing.assert_close(gradient(*of(whole), limit=4), gradient(*of(cut), limit=4), rtol=1e-12, atol=1e-12)
    assert float(expected_return(whole.table, whole.pi, 0.9, 4)) == pytest.approx(
        float(expected_return(cut.table, cut.pi, 0.9, 4)), abs=1e-12
    )
    assert bool(problems.batch(whole, problems.sample(whole, 3, 0)).terminated.any(-1).all())
