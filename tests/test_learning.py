"""Methods learn within small budgets; twins with one planted bug fail the very same threshold."""

import dataclasses
from typing import Any

import pytest
import torch

import logpi
from logpi.methods import PPO, TRPO, Reinforce

SMALL = {"lr": 0.02, "episodes": 64, "starts": 4, "group": 16, "length": 32, "anneal": False, "delta": 0.05}


def flipped(page: type) -> Any:
    """The sign of psi is wrong."""

    class Twin(page):
        def psi(self, b: Any, state: dict) -> Any:
            credit, target = super().psi(b, state)
            return -credit, target

    return Twin


def leaking(page: type) -> Any:
    """Credit runs across the ends of episodes."""

    class Twin(page):
        def psi(self, b: Any, state: dict) -> Any:
            never = torch.zeros_like(b.terminated)
            return super().psi(b.with_(terminated=never, truncated=never), state)

    return Twin


def backwards(page: type) -> Any:
    """An action is paid for what came before it."""

    class Twin(page):
        def psi(self, b: Any, state: dict) -> Any:
            return b.reward.cumsum(-1) - b.reward, None

    return Twin


def reached(method: Any, env: str, steps: int, **fields: Any) -> float:
    """The mean return of the last 100 episodes of a run."""
    *_, last = logpi.learn(method, env, steps=steps, seed=1, **fields)
    assert last["episodes"] >= 100
    return last["return"]


CARTPOLE = {"ppo": (PPO, 30_000, 120), "trpo": (TRPO, 25_000, 120), "reinforce": (Reinforce, 50_000, 90)}


@pytest.mark.parametrize("name", CARTPOLE)
def test_cartpole_is_learnt(name: str) -> None:
    page, steps, threshold = CARTPOLE[name]
    assert reached(page, "CartPole-v1", steps) > threshold


TWINS = [
    ("ppo", flipped),
    ("ppo", leaking),
    ("trpo", flipped),
    ("trpo", leaking),
    ("reinforce", flipped),
    ("reinforce", backwards),
]


@pytest.mark.parametrize(("name", "bug"), TWINS)
def test_a_planted_bug_does_not_learn_cartpole(name: str, bug: Any) -> None:
    page, steps, threshold = CARTPOLE[name]
    assert reached(bug(page), "CartPole-v1", steps) < threshold


TABULAR = {"Bandit": (6_000, 0.65), "Chain": (12_000, 0.85)}  # at best 1.0 and about 1.1; at random 0.4 and 0.55


@pytest.mark.parametrize("env", TABULAR)
@pytest.mark.parametrize("method", logpi.METHODS)
def test_every_method_learns_a_bandit_and_a_chain_and_its_flipped_twin_does_not(method: str, env: str) -> None:
    page, (steps, threshold) = logpi.METHODS[method], TABULAR[env]
    names = {f.name for f in dataclasses.fields(page)}
    fields = {k: v for k, v in SMALL.items() if k in names} | {"hidden": (16,)}
    assert reached(method, env, steps, **fields) > threshold
    assert reached(flipped(page), env, steps, **fields) < threshold


def biased(inputs: int, outputs: int) -> torch.nn.Module:
    layer = torch.nn.Linear(inputs, outputs)
    torch.nn.init.zeros_(layer.weight)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([2.0, 0.0, -1.0]))
    return layer


def test_the_stochastic_optimum_of_rock_paper_scissors_is_found() -> None:
    """A deterministic policy loses 0.9 a throw; only the uniform one holds its own."""

    def distance(lr: float) -> float:
        settings = {"steps": 40_000, "seed": 1, "lr": lr, "episodes": 64, "normalise_reward": False}
        *_, last = logpi.learn("reinforce", "RockPaperScissors", network=biased, **settings)
        return float((last.policy(torch.tensor([1.0, 0.0])).softmax(-1) - 1 / 3).abs().max().detach())

    assert distance(0.02) < 0.1
    assert distance(1e-12) > 0.4  # the first policy is (0.84, 0.11, 0.04): not moving is not finding
