"""What critics say, and that fitting one never moves the policy."""

import copy

import pytest
import torch
from gymnasium import spaces
from made import OBS, PAGES, batch_for, critic_for, parts_for, policy_for, rows_for
from torch import nn

from logpi import critic as critics
from logpi import objective
from logpi.critic import ContinuousQ, DiscreteQ, V, build_critic, fit, plan
from logpi.errors import LogpiError
from logpi.loop import credited, update
from logpi.methods import A2C, NPG, PPO, ActorCritic, Baseline
from logpi.now import Now, Surrogate
from logpi.policy import build_policy

OBSERVED = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_v_is_one_number_for_each_observation_whatever_the_action():
    policy = policy_for()
    v = critic_for("v", policy)
    said = v.evaluate(policy, policy.trunk(OBSERVED), OBSERVED, None, generator())
    assert isinstance(v, V) and said.keys() == {"value"} and said["value"].shape == (4,)
    assert torch.equal(said["value"], v.network(OBSERVED)[:, 0])
    assert torch.equal(v(OBSERVED, torch.tensor([0, 1, 2, 0])), said["value"])


@pytest.mark.parametrize("shared", [False, True])
def test_the_mean_of_a_discrete_q_under_the_policy_is_exact(shared):
    policy = policy_for(shared=shared)
    q, action = critic_for("q", policy), torch.tensor([0, 2, 1, 1])
    said = q.evaluate(policy, policy.trunk(OBSERVED), OBSERVED, action, generator())
    features, pi = policy.trunk(OBSERVED), policy(OBSERVED).softmax(-1)
    every = torch.stack([q(features, torch.full((4,), a)) for a in range(3)], -1)
    assert isinstance(q, DiscreteQ) and torch.allclose(said["value"], (pi * every).sum(-1), rtol=0, atol=1e-14)
    assert torch.equal(said["q"], every[torch.arange(4), action])
    assert not torch.allclose(said["value"], every.mean(-1), atol=1e-3)


@pytest.mark.parametrize("head", ["categorical", "gaussian"])
def test_a_q_critic_draws_the_action_it_was_not_given_from_the_policy(head):
    policy = policy_for(head)
    q = critic_for("q", policy)
    fresh = policy.head.sample(policy(OBSERVED), generator(7))
    assert torch.equal(
        q.evaluate(policy, policy.trunk(OBSERVED), OBSERVED, None, generator(7))["q"], q(OBSERVED, fresh)
    )
    assert not torch.equal(
        q.evaluate(policy, policy.trunk(OBSERVED), OBSERVED, None, generator(8))["q"], q(OBSERVED, fresh)
    )


def test_a_continuous_q_reads_the_action_and_its_mean_is_that_of_samples():
    policy = policy_for("gaussian")
    q = critic_for("q", policy)
    action = policy.head.sample(policy(OBSERVED), generator(1))
    assert isinstance(q, ContinuousQ)
    assert torch.equal(q(OBSERVED, action), q.network(torch.cat([OBSERVED, action], -1))[:, 0])
    q.draws = 20_000
    mean = q.evaluate(policy, policy.trunk(OBSERVED), OBSERVED, action, generator(2))["value"]
    draws = policy.head.sample(policy(OBSERVED).expand(20_000, 4, 4), generator(3))
    each = q(OBSERVED.expand(20_000, 4, 3), draws)
    assert ((mean - each.mean(0)).abs() < 6 * each.std(0) / 20_000**0.5 + 1e-12).all() and each.std(0).min() > 1e-2


def test_a_critic_of_another_kind_is_named():
    with pytest.raises(LogpiError, match=r"'v', 'q' or None, not 'z'"):
        build_critic("z", policy_for(), OBS, (4,))
    assert build_critic(None, policy_for(), OBS, (4,)) is None


def test_a_shared_trunk_gives_the_critic_a_head_and_a_separate_one_a_network():
    shared, separate = policy_for(shared=True), policy_for()
    assert isinstance(critic_for("v", shared).network, nn.Linear)
    assert critic_for("v", shared).network.in_features == 4 and critic_for("v", separate).network[0].in_features == 3
    b = batch_for(PPO(), shared, critic_for("v", shared))
    now = Now(shared, critic_for("v", shared), b)
    assert torch.allclose(now.value, torch.where(b.mask, b.value, 0), atol=1e-14)


def test_the_critic_of_an_odd_network_without_hidden_layers_is_linear():
    policy = build_policy(OBS, spaces.Discrete(2), hidden=(), shared=True)
    critic = build_critic("v", policy, OBS, ())
    assert critic.network.in_features == 3


@pytest.mark.parametrize("name", ["npg", "trpo", "baseline-value"])
def test_a_separate_fit_leaves_the_shared_trunk_bit_for_bit_where_it_was(name):
    method = PAGES[name]
    policy = policy_for(shared=True)
    critic = critic_for("v", policy)
    parts = parts_for(method, policy, critic)
    b = credited(method, batch_for(method, policy, critic), {})
    kept = copy.deepcopy(parts.policy)
    fit(parts.critic, parts.policy, rows_for(method, b), parts.critic_optimizer, plan(method))
    assert all(torch.equal(p, q) for p, q in zip(parts.policy.parameters(), kept.parameters(), strict=True))
    assert all(p.grad is None for p in parts.policy.parameters())  # no gradient reaches it, not even unused
    assert not torch.equal(parts.critic.network.weight, critic.network.weight)


@pytest.mark.parametrize("name", ["npg", "trpo"])
def test_a_whole_update_moves_a_shared_trunk_only_by_the_natural_step(name, monkeypatch):
    method = PAGES[name]
    policy = policy_for(shared=True)
    critic = critic_for("v", policy)
    b, after = batch_for(method, policy, critic), []
    for fitted in (True, False):
        if not fitted:
            monkeypatch.setattr(critics, "fit", lambda *_: {})
        parts = parts_for(method, policy, critic)
        update(parts, b)
        after.append(list(parts.policy.parameters()))
    assert all(torch.equal(p, q) for p, q in zip(*after, strict=True))
    assert any(not torch.equal(p, q) for p, q in zip(after[0], policy.parameters(), strict=True))


def test_a_joint_loss_moves_a_shared_trunk_through_the_critic_too():
    policy = policy_for(shared=True)
    critic = critic_for("v", policy)
    method = PPO(value_coef=1.0)
    b = credited(method, batch_for(method, policy, critic), {})
    b = b.with_(psi=torch.zeros_like(b.psi))
    trunk = list(policy.trunk.parameters())
    found = []
    for coef in (0.0, 1.0):
        page = PPO(value_coef=coef, entropy=0.0)
        rows = rows_for(page, b)
        loss = sum(Surrogate(page, policy, critic, rows, {})(rows.batch))
        found.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, trunk, materialize_grads=True)]))
    assert found[0].abs().max() == 0 and found[1].abs().max() > 1e-3


def test_the_joint_surrogate_is_the_objective_less_the_weighted_squared_error():
    policy = policy_for()
    critic = critic_for("v", policy)
    b = credited(A2C(n=3), batch_for(A2C(), policy, critic), {})
    values = []
    for coef in (0.0, 0.7):
        page = A2C(n=3, value_coef=coef)
        rows = rows_for(page, b)
        values.append(sum(Surrogate(page, policy, critic, rows, {})(rows.batch)).detach())
    error = (critic(b.obs, b.action) - b.target).square()[b.mask].mean().detach()
    assert torch.allclose(values[0] - values[1], 0.7 * error, rtol=1e-12) and error > 1e-3


def test_the_q_critic_is_fitted_at_the_action_taken():
    policy = policy_for()
    critic = critic_for("q", policy)
    page = ActorCritic(credit="q", value_coef=1.0, entropy=0.0)
    b = credited(page, batch_for(page, policy, critic, mask=torch.ones(3, 8, dtype=torch.bool)), {})
    assert torch.allclose(b.back(critic(b.ours(b.obs), b.ours(b.action))), b.q, atol=1e-14)
    assert torch.allclose(b.target, b.reward + page.gamma * torch.where(b.terminated, 0, b.value_next), atol=1e-14)
    sarsa = credited(ActorCritic(credit="q", expected=False), b, {})
    assert torch.allclose(sarsa.target, b.reward + page.gamma * torch.where(b.terminated, 0, b.q_next), atol=1e-14)
    rows = rows_for(page, b.with_(psi=torch.zeros_like(b.psi)))
    loss = sum(Surrogate(page, policy, critic, rows, {})(rows.batch))
    assert torch.allclose(loss, -(b.q - b.target).square().mean(), rtol=1e-12)


@pytest.mark.parametrize("clip", [0.05, None])
def test_the_value_clip_pays_nothing_for_leaving_the_range_around_the_old_value(clip):
    old, target = torch.tensor([0.0, 0.0, 0.0]), torch.tensor([1.0, 1.0, -1.0])
    value = torch.tensor([0.02, 0.5, 0.5], requires_grad=True)
    g = torch.autograd.grad(objective.value_error(value, target, old, clip).sum(), value)[0]
    plain = 2 * (value.detach() - target)
    expected = plain if clip is None else torch.tensor([float(plain[0]), 0.0, float(plain[2])])
    assert torch.allclose(g, expected, rtol=0, atol=1e-6)


def test_the_pages_value_clip_reaches_the_surrogate_with_the_old_values():
    policy = policy_for()
    critic = critic_for("v", policy)
    page = PPO(value_clip=0.01, entropy=0.0, value_coef=1.0)
    b = credited(page, batch_for(page, policy, critic), {})
    with torch.no_grad():
        critic.network[-1].bias += 0.3
    rows = rows_for(page, b.with_(psi=torch.zeros_like(b.psi)))
    mini = rows.batch
    loss = sum(Surrogate(page, policy, critic, rows, {})(mini))
    now = critic(mini.obs, mini.action)
    held = mini.value + (now - mini.value).clamp(-0.01, 0.01)
    expected = -torch.maximum((now - mini.target) ** 2, (held - mini.target) ** 2).mean()
    assert torch.allclose(loss, expected, rtol=1e-12) and not torch.allclose(
        loss, -((now - mini.target) ** 2).mean(), rtol=1e-3
    )


def test_a_fit_regresses_on_the_targets_with_the_pages_own_figures():
    assert plan(NPG(critic_lr=0.5, critic_epochs=3, critic_minibatches=2)) == critics.Fit(0.5, 3, 2)
    assert plan(Baseline(critic_lr=0.5)) == critics.Fit(0.5, 10, 4)  # a figure the page does not have is the default
    policy = policy_for()
    critic = critic_for("v", policy)
    method = NPG(critic_lr=0.02, critic_epochs=400)
    b = credited(method, batch_for(method, policy, critic), {})
    parts = parts_for(method, policy, critic)
    before = (critic(b.obs) - b.target)[b.mask].square().mean()
    fit(parts.critic, parts.policy, rows_for(method, b), parts.critic_optimizer, plan(method))
    assert (parts.critic(b.obs) - b.target)[b.mask].square().mean() < 0.2 * before
