"""Forward and backward pass of any plain stack: random widths and depths, tanh and relu, shared trunks, any number of rows."""

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("numba")

from twins import Asked, batch, check_gradient, pair

from logpi.batch import Rows
from logpi.fast import survey
from logpi.fast.fused import Fused
from logpi.fast.heads import BLOCK
from logpi.fast.program import NotCovered, NowAsked
from logpi.now import Surrogate

ROWS = [1, 2, 7, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5]
JOINT = Asked(lambda now, b: now.log_pi * b.psi + 0.1 * now.entropy, value_coef=0.5)


def relu(inputs: int, outputs: int) -> nn.Module:
    layers = [nn.Linear(inputs, 37), nn.ReLU(), nn.Linear(37, 21), nn.ReLU(inplace=True), nn.Linear(21, outputs)]
    return nn.Sequential(*layers)


def mixed(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, 6), nn.Linear(6, 18), nn.Tanh(), nn.Linear(18, 9), nn.ReLU(), nn.Linear(9, outputs)
    )


@pytest.mark.parametrize("n", ROWS)
@pytest.mark.parametrize("network", [None, relu, mixed], ids=["tanh", "relu", "mixed"])
def test_a_gradient_over_any_number_of_rows_is_autograds(n: int, network: Any) -> None:
    policy, critic = pair(network=network)
    check_gradient(JOINT, policy, critic, batch(policy, n))


@pytest.mark.parametrize("seed", range(12))
def test_widths_and_depths_at_random(seed: int) -> None:
    draw = random.Random(seed)
    hidden = tuple(draw.choice([1, 2, 3, 4, 5, 15, 16, 17, 33, 64, 100, 129]) for _ in range(draw.randint(0, 4)))
    policy, critic = pair(size=draw.randint(2, 17), hidden=hidden, shared=bool(seed % 3 == 0), seed=seed)
    check_gradient(JOINT, policy, critic, batch(policy, draw.randint(1, 200), seed))


@pytest.mark.parametrize("hidden", [(512,), (1, 512, 1), (300, 5)])
def test_the_widest_and_the_narrowest(hidden: tuple[int, ...]) -> None:
    policy, critic = pair(hidden=hidden)
    check_gradient(JOINT, policy, critic, batch(policy, 140))


@pytest.mark.parametrize("head", ["categorical", "gaussian", "squashed", "beta"])
def test_a_trunk_carries_the_policy_and_the_critic(head: str) -> None:
    policy, critic = pair(head, shared=True, hidden=(11, 6))
    check_gradient(JOINT, policy, critic, batch(policy, 150), 3e-5)


@pytest.mark.parametrize("n", ROWS)
@pytest.mark.parametrize("joint", [True, False], ids=["with the policy", "alone"])
def test_values_of_any_number_of_rows_are_torchs(n: int, joint: bool) -> None:
    policy, critic = pair(hidden=(19, 40))
    machine = Fused(policy, critic, joint).critic
    obs = 3 * torch.randn(n, 1, 5, generator=torch.Generator().manual_seed(n)).transpose(0, 1)
    found = survey.value(machine, obs)
    assert found.shape == (1, n) and torch.allclose(found, critic(obs), rtol=1e-5, atol=2e-6)


def test_what_an_earlier_block_or_call_left_behind_changes_nothing() -> None:
    policy, critic = pair()
    fused = Fused(policy, critic, True)
    ill = torch.full((BLOCK, 5), torch.nan)
    assert bool(survey.value(fused.critic, ill).isnan().all())
    obs = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(survey.value(fused.critic, obs), critic(obs), atol=1e-6)


def test_a_minibatch_without_an_action_has_no_gradient() -> None:
    """Of episodes that hold nothing: what an earlier minibatch left behind does not come again."""
    policy, critic = pair()
    fused, b = Fused(policy, critic, True), batch(policy, 60)
    rows, params = Rows(b, torch.Generator()), [*policy.parameters(), *critic.parameters()]
    surrogate = Surrogate(JOINT, policy, critic, rows, {}, fused)
    ascent = fused.ascent(fused.main, surrogate, rows, torch.optim.Adam(params, fused=True), None)
    index, weight, bounds = ascent.minibatches(1, 1)
    for end in (bounds[1], 0):
        _, found = ascent.call(index, weight, np.array([0, end]), -1.0)
        assert bool(fused.main.grad.any()) == bool(end) == bool(found[2]) == bool(found[3])


def test_a_planted_error_in_one_weight_is_seen() -> None:
    policy, critic = pair()
    b = batch(policy, 60)
    check_gradient(JOINT, policy, critic, b)
    other = Asked(lambda now, b: now.log_pi * b.psi + 0.1001 * now.entropy)

    def misread(now: Any, rows: Any, state: Any) -> Any:
        return (other if isinstance(now, NowAsked) else JOINT).objective(now, rows, state)

    page = Asked(lambda now, b: None, value_coef=0.5)
    page.objective = misread
    with pytest.raises((AssertionError, NotCovered)):
        check_gradient(page, policy, critic, b)
