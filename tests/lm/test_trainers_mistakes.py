"""Details that language-model trainers get wrong, each with its test: the first ratio, clip and sign, whole rows, value head, entropy.

Those of the KL stand in test_kl_reference.py, its gradients by enumeration in exact/test_claims.py and below.
"""

import copy
import math

import pytest
import torch
from lm.little import little
from lm.test_tokens import drawn, full_log_p

from logpi import LogpiError, average, kl, objective
from logpi import critic as critics
from logpi.batch import Rows, credited
from logpi.critic import V
from logpi.exact import bench, find
from logpi.exact.estimators import Choice
from logpi.lm import engine
from logpi.loop import loop, measure
from logpi.methods import A2C, GRPO, GSPO, MDPO, PPO, PPOKL, ActorCritic
from logpi.now import Now, Surrogate
from logpi.rollout import language as rollout
from logpi.run.language import Text
from logpi.run.setup import assemble

JOINT = (PPO, A2C, ActorCritic, PPOKL, MDPO)  # their value_coef weighs a joint loss, or is "own"


def parts_of(page, **settings):
    parts = assemble(page, Text(task="reverse-text", level=3, steps=10**6, **settings), name="any")
    parts.state["horizon"] = 10**6
    return parts


def colder(policy, monkeypatch):
    real = engine.generate

    def generate(policy, *args):
        before, policy.head.temperature = policy.head.temperature, 0.9
        said = real(policy, *args)
        policy.head.temperature = before
        return said

    monkeypatch.setattr(engine, "generate", generate)


def stale(policy, monkeypatch):
    real, older = engine.generate, copy.deepcopy(policy)
    with torch.no_grad():
        older.head.project.weight.mul_(1.01)
    monkeypatch.setattr(engine, "generate", lambda _, *args: real(older, *args))


def shifted(policy, monkeypatch):
    real = rollout.rows_of

    def rows_of(*args):
        b = real(*args)
        return b.with_(log_pi=b.log_pi.roll(1, -1))

    monkeypatch.setattr(rollout, "rows_of", rows_of)


@pytest.mark.parametrize("planted", [colder, stale, shifted])
def test_14_a_first_ratio_that_is_not_one_stops_the_run(planted, monkeypatch):
    parts = parts_of(GRPO(starts=4, group=3))
    assert next(loop(parts))["first_ratio_error"] < 1e-5
    planted(parts.policy, monkeypatch)
    with pytest.raises(LogpiError, match="The first ratio pi / pi_old is off 1 by"):
        next(loop(parts))
    parts.collect.close()


def test_18_the_gradient_of_each_placement_of_a_kl_by_enumeration():
    """Of sequences: k1 in the objective has none, k2 and k3 live that of each token, k1 in the reward that of the whole text."""
    right = {"k1": (1.0, 1.0), "k2": (0.1162, 0.0), "k3": (0.2499, 0.2464), "k3_live": (0.1162, 0.0)}
    right |= {"k1_reward": (0.0, 0.1251), "k3_reward": (0.9260, 0.9285)}
    problem = find("sequences").without_reward()
    for name, (whole, each) in right.items():
        row = bench.single(problem, Choice(kl=name, psi="to_go"), rows=2)
        found = [figures["relative_bias"] for _, figures, _ in row.figures()]
        assert found == pytest.approx([whole, each], abs=1e-4), name


def test_18_k3_times_the_live_ratio_moves_as_k2_does_token_by_token():
    log_pi = torch.linspace(-4, -0.1, 9, dtype=torch.float64).requires_grad_()
    ref, old = torch.full_like(log_pi, -1.0).detach(), log_pi.detach()
    slopes = [
        torch.autograd.grad(x.sum(), log_pi)[0]
        for x in (kl.live(kl.k3(log_pi, ref), log_pi, old), kl.k2(log_pi, ref), kl.k3(log_pi, ref))
    ]
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(slopes[2], slopes[1], atol=1e-2)


@pytest.mark.parametrize(
    ("ratio", "psi", "slope", "up", "down"),
    [
        (1.5, 1.0, 0.0, 1.0, 0.0),  # good and likelier already: no more is paid
        (1.5, -1.0, -1.5, 0.0, 0.0),  # bad and likelier: paid in full, however far
        (0.5, 1.0, 0.5, 0.0, 0.0),  # good and rarer: paid in full
        (0.5, -1.0, 0.0, 0.0, 1.0),  # bad and rarer already
        (1.1, 1.0, 1.1, 0.0, 0.0),
        (0.9, -1.0, -0.9, 0.0, 0.0),
    ],
)
def test_21_the_clip_and_its_fraction_by_sign(ratio, psi, slope, up, down):
    log_pi = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    gain = objective.clip(
        log_pi, torch.zeros(1, dtype=torch.float64), torch.tensor([psi], dtype=torch.float64), 0.2, 0.2
    )
    assert torch.autograd.grad(gain.sum(), log_pi)[0].item() == pytest.approx(slope)
    policy = little()
    b = drawn(policy)
    now = Now(policy, None, b).log_pi.detach()
    b = b.with_(log_pi=now - math.log(ratio), psi=torch.full_like(b.psi, psi))
    parts = parts_of(GRPO(starts=4, group=3))
    parts.policy, rows = policy, Rows(b, torch.Generator(), pack="prompts")
    told = measure(parts, rows, Surrogate(GRPO(), policy, None, rows, {}))
    outside = float(abs(ratio - 1) > 0.2)
    found = [float(told[name]) for name in ("clipped_up", "clipped_down", "clip_fraction")]
    assert found == pytest.approx([up, down, outside], abs=1e-12)
    parts.collect.close()


def test_22_a_rows_ratio_does_not_grow_with_its_length_and_reaches_every_token():
    """exp(mean), not exp(sum): every token a little likelier is the same ratio for any length, and the same clip."""
    for length in (1, 10, 100, 1000):
        mask, old = torch.ones(1, length, dtype=torch.bool), torch.zeros(1, length, dtype=torch.float64)
        log_pi = torch.full((1, length), 0.02, dtype=torch.float64, requires_grad=True)
        gain = objective.sequence_clip(log_pi, old, torch.ones_like(old), mask, 0.03, 0.04)
        torch.testing.assert_close(gain.detach(), torch.full_like(old, math.exp(0.02)), rtol=1e-12, atol=0)
        assert math.exp(float(log_pi.detach().sum())) >= math.exp(0.02) * (1 if length < 10 else 1.1), "the sum would"
        total = average.per_sequence(gain, mask)
        (slope,) = torch.autograd.grad(total, log_pi)
        torch.testing.assert_close(slope, torch.full_like(old, math.exp(0.02) / length), rtol=1e-12, atol=0)
    policy = little()
    b = drawn(policy)
    b = b.with_(log_pi=Now(policy, None, b).log_pi.detach() + 0.01 * torch.randn(b.mask.shape, dtype=torch.float64))
    now = Now(policy, None, b)
    now.log_pi = now.log_pi.detach().requires_grad_()
    page = GSPO(clip_low=0.9, clip_high=9.0)
    gain = average.total(page.objective(now, b, {}), page.average(b.mask), b.mask)
    (slope,) = torch.autograd.grad(gain, now.log_pi)
    assert torch.equal(slope != 0, b.mask & (b.psi != 0))


def judged(policy):
    torch.manual_seed(0)
    critic = V(torch.nn.Linear(policy.width, 1, dtype=torch.float64))
    b, chance = drawn(policy), torch.Generator().manual_seed(1)
    noise = [torch.randn(b.mask.shape, dtype=torch.float64, generator=chance) for _ in range(2)]
    return critic, b.with_(value=noise[0], target=noise[1])


def test_3_a_cut_completion_is_paid_once_and_not_bootstrapped():
    parts = parts_of(PPO(envs=24, gamma=1.0, lam=1.0, normalise="none"))
    torch.nn.init.constant_(parts.critic.network.bias, 5.0)  # a critic that expects much
    b = parts.collect(parts.policy, parts.critic)
    parts.collect.close()
    assert bool(b.truncated.any()) and bool(b.terminated.any())
    assert not bool(b.value_next[b.truncated].any()) and bool((b.value[b.mask] > 4).all())
    target = credited(parts.method, b, parts.state).target
    ret = b.reward.sum(-1, keepdim=True).expand(b.mask.shape)
    torch.testing.assert_close(target[b.mask], ret[b.mask], rtol=0, atol=1e-4)


@pytest.mark.parametrize("clip", [None, 0.2])
@pytest.mark.parametrize("micro", [1, 20, 40])
def test_28_the_value_heads_error_has_the_divisor_of_the_policy_for_every_split(micro, clip):
    policy = little()
    critic, b = judged(policy)
    page, params = PPO(value_clip=clip), [*policy.parameters(), *critic.parameters()]

    def gradient(size):
        rows = Rows(b, torch.Generator(), micro=size, pack="prompts")
        return torch.autograd.grad(sum(Surrogate(page, policy, critic, rows, {})(rows.batch)), params)

    for one, other in zip(gradient(micro), gradient(None), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_28_the_value_head_sees_the_clipped_error_of_our_tokens_alone():
    policy = little()
    critic, b = judged(policy)
    rows = Rows(b, torch.Generator(), pack="prompts")
    with_error, without = (
        float(sum(Surrogate(PPO(value_clip=0.2, value_coef=coef), policy, critic, rows, {})(rows.batch)).detach())
        for coef in (0.5, 0.0)
    )
    said = critic(policy.hidden(b.obs)).detach()
    held = b.value + (said - b.value).clamp(-0.2, 0.2)
    error = (said - b.target).square().maximum((held - b.target).square())[b.mask]
    assert with_error - without == pytest.approx(-0.5 * float(error.mean()), rel=1e-10)
    assert bool(((said - b.value).abs() > 0.2)[b.mask].any()), "the clip is in force somewhere"


@pytest.mark.parametrize("page", JOINT)
def test_28_a_fit_of_its_own_leaves_the_shared_model_to_the_policy(page):
    """--value-coef own: the policy's gradient is that of a page without a critic, however wrong the critic is."""
    policy = little()
    policy.remember()
    critic, b = judged(policy)
    rows = Rows(b.with_(target=1e6 * b.target), torch.Generator(), pack="prompts")
    grads = [
        torch.autograd.grad(
            sum(Surrogate(made, policy, c, rows, {"progress": 0.0})(rows.batch)), [*policy.parameters()]
        )
        for made, c in ((page(value_coef="own"), critic), (page(), None), (page(), critic))
    ]
    assert all(torch.equal(x, y) for x, y in zip(grads[0], grads[1], strict=True))
    assert max(float((x - y).abs().max()) for x, y in zip(grads[0], grads[2], strict=True)) > 1e3


@pytest.mark.parametrize("page", JOINT)
def test_28_a_fit_of_its_own_learns_the_value_and_leaves_the_model_bit_for_bit(page):
    parts = parts_of(page(envs=12, value_coef="own"))
    assert {id(p) for p in parts.critic.parameters()}.isdisjoint(map(id, parts.optimizer.param_groups[0]["params"]))
    b = parts.collect(parts.policy, parts.critic)
    rows = Rows(b.with_(target=torch.ones_like(b.reward)), torch.Generator().manual_seed(0), pack="prompts")
    before = copy.deepcopy(parts.policy.state_dict())
    error = lambda: float((parts.critic(parts.policy.hidden(b.obs)).detach() - 1)[b.mask].square().mean())
    first = error()
    critics.fit(parts.critic, parts.policy, rows, parts.critic_optimizer, critics.plan(parts.method))
    assert error() < 0.2 * first and all(torch.equal(x, before[k]) for k, x in parts.policy.state_dict().items())
    assert "value_loss" in next(loop(parts)).metrics
    parts.collect.close()


def test_29_entropy_is_that_of_the_vocabulary_and_moves_the_model():
    policy = little()
    b = drawn(policy)
    said = full_log_p(policy, b)
    exact = -(said.exp() * said).sum(-1)
    parts = parts_of(GRPO(starts=4, group=3))
    parts.policy, rows = policy, Rows(b, torch.Generator(), pack="prompts")
    told = measure(parts, rows, Surrogate(GRPO(), policy, None, rows, {}))
    parts.collect.close()
    assert float(told["entropy"]) == pytest.approx(float(exact.detach()[b.mask].mean()), rel=1e-12)
    assert abs(float(-b.log_pi[b.mask].mean()) - float(told["entropy"])) > 1e-3, "-log pi of what was drawn is another"
    silent = b.with_(psi=torch.zeros_like(b.psi))
    rows = Rows(silent, torch.Generator(), pack="prompts")
    bonus = sum(Surrogate(GRPO(entropy=0.3), policy, None, rows, {})(rows.batch))
    found = torch.autograd.grad(bonus, [*policy.parameters()])
    mean = average.total(exact, average.weights("per_sequence", b.mask), b.mask)
    for one, other in zip(found, torch.autograd.grad(0.3 * mean, [*policy.parameters()]), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
