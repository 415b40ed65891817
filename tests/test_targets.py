"""What the critic should have said, page by page, against its definition."""

import pytest
import torch

from logpi import psi
from logpi.methods import A2C, MDPO, NPG, PPO, PPOKL, TRPO, ActorCritic, Baseline
from logpi.run.setup import Settings, assemble

GAE = {"gamma": 0.9, "lam": 0.7}


def batch_of(method):
    parts = assemble(method, Settings(dtype="float64", normalise_reward=False))
    return parts.collect(parts.policy, parts.critic)


@pytest.mark.parametrize("page", [PPO, PPOKL, TRPO, NPG, MDPO, A2C], ids=lambda p: p.__name__)
def test_gae_pages_regress_on_value_plus_raw_gae_even_where_psi_is_standardised_or_discounted(page):
    extra = {"credit": "gae"} if page is A2C else {}
    method = page(**GAE, from_start=True, **extra)
    b = batch_of(method)
    advantage = psi.gae(b.reward, b.value, b.value_next, b.terminated, b.truncated, 0.9, 0.7)
    credit, target = method.psi(b, {})
    assert torch.allclose(target, b.value + advantage, atol=1e-12)
    assert not torch.allclose(target, b.value + credit)


def test_td_pages_regress_on_the_bootstrapped_reward():
    b = batch_of(ActorCritic(gamma=0.9, n=1))
    _, target = ActorCritic(gamma=0.9, n=1).psi(b, {})
    assert torch.allclose(target, b.reward + 0.9 * torch.where(b.terminated, 0, b.value_next), atol=1e-12)


@pytest.mark.parametrize("expected", [True, False])
def test_q_pages_regress_on_expected_or_plain_sarsa(expected):
    method = ActorCritic(gamma=0.9, credit="advantage", expected=expected)
    b = batch_of(method)
    credit, target = method.psi(b, {})
    following = b.value_next if expected else b.q_next
    assert torch.allclose(target, b.reward + 0.9 * torch.where(b.terminated, 0, following), atol=1e-12)
    assert torch.allclose(credit, b.q - b.value, atol=1e-12)
    inside = ~b.ended[:, :-1]
    assert torch.allclose(b.q_next[:, :-1][inside], b.q[:, 1:][inside], atol=1e-12)  # the action that was taken next


def test_the_value_baseline_regresses_on_the_return_of_the_episode():
    method = Baseline(gamma=0.9)
    b = batch_of(method)
    actions, back = b.to_actions()
    _, target = method.psi(actions, {})
    whole = ~(b.truncated.any(-1))
    to_go = psi.reward_to_go(actions.reward, actions.ended, 0.9)
    assert whole.any() and torch.allclose(back(target)[whole], back(to_go)[whole], atol=1e-12)
