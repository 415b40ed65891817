"""The reference policy: frozen, a function of the environment's observation, whatever the normaliser does later."""

from dataclasses import replace

import torch

from logpi import psi
from logpi.loop import credited, loop
from logpi.methods import GRPO, PPO, RLOO
from logpi.now import reference_log_prob
from logpi.run.setup import Settings, assemble

SETTINGS = Settings(dtype="float64", normalise_obs=True, normalise_reward=False, steps=10**6)


def test_on_the_first_batch_the_reference_is_the_policy_itself():
    parts = assemble(GRPO(kl=0.1, starts=2, group=3), SETTINGS)
    batch = parts.collect(parts.policy, None)
    found = reference_log_prob(parts.reference, parts.policy, batch)
    assert torch.allclose(found[batch.mask], batch.log_pi[batch.mask], atol=1e-12)


def test_the_reference_answers_the_same_observation_alike_after_the_normaliser_has_moved():
    parts = assemble(GRPO(kl=0.1, starts=2, group=3), SETTINGS)
    for _, _record in zip(range(3), loop(parts), strict=False):
        pass
    batch = parts.collect(parts.policy, None)
    raw = parts.policy.normaliser.inverse(batch.obs)
    direct = parts.reference.log_prob(raw, batch.action)  # its own statistics are those of before the run: none
    found = reference_log_prob(parts.reference, parts.policy, batch)
    assert torch.allclose(found[batch.mask], direct[batch.mask], atol=1e-9)
    naive = parts.reference.log_prob(batch.obs, batch.action)
    assert not torch.allclose(found[batch.mask], naive[batch.mask], atol=1e-4)


def test_a_heavy_reference_kl_keeps_the_policy_near_it():
    moved = {}
    for kl in (0.0, 50.0):
        parts = assemble(GRPO(kl=kl, starts=2, group=4, lr=1e-2), SETTINGS)
        start = [p.detach().clone() for p in parts.policy.parameters()]
        for _, record in zip(range(6), loop(parts), strict=False):
            batch = record.batch
        frozen = assemble(GRPO(kl=1.0, starts=2, group=4), SETTINGS).policy
        raw = parts.policy.normaliser.inverse(batch.obs)[batch.mask]
        now, then = parts.policy(parts.policy.normalise(raw)), frozen(raw)
        moved[kl] = parts.policy.head.kl(now, then).mean().item()
        assert any(not torch.equal(p, q) for p, q in zip(start, parts.policy.parameters(), strict=True))
    assert moved[50.0] < 0.2 * moved[0.0]


def test_rloo_pays_for_leaving_the_reference_in_the_reward():
    parts = assemble(RLOO(kl=0.5, starts=2, group=3), SETTINGS)
    stranger = assemble(RLOO(kl=0.5, starts=2, group=3), Settings(seed=9, dtype="float64")).policy
    b = parts.collect(parts.policy, None)
    b = b.with_(log_ref=reference_log_prob(stranger, parts.policy, b))
    cost = torch.where(b.mask, b.log_pi - b.log_ref, 0.0).sum(-1)
    paid = torch.where(b.mask, b.reward, 0.0).sum(-1) - 0.5 * cost
    expected = 3 / 2 * (paid - paid.mean(-1, keepdim=True))
    assert cost.abs().max() > 1e-3
    assert torch.allclose(credited(parts.method, b, parts.state).psi[..., 0], expected, atol=1e-10)


def test_ppo_pays_for_leaving_the_reference_in_the_reward():
    page = PPO(kl=0.5, envs=2, length=9, normalise="none")
    parts = assemble(page, SETTINGS)
    b = parts.collect(parts.policy, parts.critic)
    b = b.with_(log_ref=reference_log_prob(assemble(page, replace(SETTINGS, seed=9)).policy, parts.policy, b))
    ends = (b.value, b.value_next, b.terminated, b.truncated, page.gamma, page.lam)
    found = credited(page, b, parts.state)
    expected = psi.gae(b.reward - 0.5 * (b.log_pi - b.log_ref), *ends)
    assert torch.allclose(found.psi, expected, atol=1e-12) and torch.allclose(found.target, b.value + expected)
    assert (expected - psi.gae(b.reward, *ends)).abs().max() > 1e-3
    assert not PPO().reference and assemble(PPO(envs=2), SETTINGS).reference is None
