"""Why a policy: the pure ones lose, the average of policy gradient is not exploited, and a softmax does not jump."""

import pytest
import torch

from logpi.envs.tabular import bandit
from logpi.exact import mdp
from logpi.exact.problems import linear
from logpi.lab.demos.why import Params, demo


def test_every_pure_policy_loses_every_throw_and_the_mixture_none() -> None:
    found = demo(Params(rounds=1), 0)
    assert found["pure"] == [-1, -1, -1] and found["mixed"] == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize(("lr", "seed"), [(0.2, 0), (0.2, 1), (0.05, 2), (1.0, 3)])
def test_the_average_is_held_by_the_bound_of_regret(lr: float, seed: int) -> None:
    found = demo(Params(lr=lr, rounds=200), seed)["chase"]
    assert all(low <= x + 1e-12 for low, x in zip(found["bound"], found["worst_of_average"], strict=True))
    path = torch.tensor(found["path"], dtype=torch.float64)
    assert found["average"][-1] == pytest.approx(path.mean(0).tolist(), abs=1e-12)


def test_the_average_finds_the_mixture_and_the_policy_of_the_moment_does_not() -> None:
    found = demo(Params(rounds=200), 1)["chase"]
    assert found["average"][-1] == pytest.approx([1 / 3] * 3, abs=0.01)
    assert (
        found["worst_of_average"][-1] > -0.06 > max(found["worst"][-20:]) - 0.05 and min(found["worst"][-20:]) < -0.06
    )


def test_a_natural_step_is_the_exponentiated_gradient() -> None:
    found = demo(Params(lr=0.3, rounds=9), 4)
    payoff, chase = torch.tensor(found["payoff"], dtype=torch.float64), found["chase"]
    for pi, reply, new in zip(chase["path"], chase["replies"], chase["path"][1:], strict=False):
        pi = torch.tensor(pi, dtype=torch.float64)
        assert reply == int((pi @ payoff).argmin())
        grown = pi * (0.3 * payoff[:, reply]).exp()
        assert new == pytest.approx((grown / grown.sum()).tolist(), abs=1e-12)
        policy, table = linear(pi.log().expand(2, 3)), bandit(payoff[:, reply].tolist())
        seen = torch.eye(2, dtype=torch.float64)
        F, g = mdp.fisher(policy, seen, seen[0]), mdp.gradient(table, policy, seen, 1.0, limit=1)
        natural = mdp.natural_gradient(F, g).reshape(3, 2).T[0]
        assert new == pytest.approx((pi.log() + 0.3 * natural).softmax(-1).tolist(), abs=1e-12)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_a_tiny_change_turns_the_argmax_round_and_a_softmax_by_its_slope(temperature: float) -> None:
    found = demo(Params(temperature=temperature, tiny=0.01, rounds=1), 0)["flip"]
    assert (found["before"]["greedy"], found["after"]["greedy"]) == (0, 1)
    moved = found["after"]["soft"] - found["before"]["soft"]
    assert moved == pytest.approx(0.01 / (4 * temperature), rel=0.01)
    assert found["kl"] == pytest.approx(
        (0.01 / temperature) ** 2 / 8, rel=0.01
    )  # half of Fisher's 1/4 times the shift squared
    assert {*found["greedy"]} == {0, 1} and found["soft"] == sorted(found["soft"])
