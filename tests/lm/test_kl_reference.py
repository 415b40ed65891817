"""The KL to the reference of a language model: in the log, in the reward, in the objective, led to a target, and 0 at first."""

import copy
import itertools

import pytest
import torch
from lm.little import little
from lm.test_tokens import drawn, full_log_p

import logpi
from logpi import LogpiError, kl
from logpi.batch import credited
from logpi.loop import check_first_kl, loop
from logpi.methods import GRPO, METHODS, PPO
from logpi.now import Now, reference_log_prob
from logpi.run.language import Text
from logpi.run.setup import assemble

TASK = {"task": "reverse-text", "level": 3, "steps": 10**6}
SIZES = {"starts": 4, "group": 3}


def parts_of(page, **settings):
    parts = assemble(page, Text(**TASK | settings), name="grpo")
    parts.state["horizon"] = 10**6
    return parts


@torch.no_grad()
def shake(policy, size: float = 0.05) -> None:
    chance = torch.Generator().manual_seed(4)
    for p in policy.parameters():
        p.add_(size * torch.randn(p.shape, dtype=p.dtype, generator=chance))


def metrics(parts, iterations: int = 1):
    found = [record.metrics for record in itertools.islice(loop(parts), iterations)]
    parts.collect.close()
    return found


@pytest.mark.parametrize("lora", [0, 2])
@pytest.mark.parametrize("name", ["grpo", "ppo", "rloo", "reinforce_pp"])
def test_it_is_zero_in_the_first_iteration_and_never_negative(name, lora):
    rows = {"grpo": SIZES, "rloo": SIZES, "ppo": {"envs": 12}, "reinforce_pp": {"episodes": 12}}[name]
    first, *later = metrics(parts_of(METHODS[name](kl=0.1, **rows), lora=lora), 3)
    assert abs(first["kl_ref"]) < 1e-10 and all(x["kl_ref"] > 0 for x in later)


def test_without_a_reference_there_is_none():
    assert "kl_ref" not in metrics(parts_of(GRPO(**SIZES)))[0]


def unlike(parts):
    shake(parts.reference)


def dropping(parts):
    for module in parts.reference.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    parts.reference.train()


def hotter(parts):
    parts.reference.head.temperature = 1.1


@pytest.mark.parametrize("planted", [unlike, dropping, hotter])
def test_a_reference_that_is_not_the_first_policy_stops_the_run(planted):
    parts = parts_of(GRPO(kl=0.1, **SIZES))
    planted(parts)
    with pytest.raises(
        LogpiError, match=r"Before the first step pi / pi_ref is off 1 by .*: the reference is the first"
    ):
        next(loop(parts))
    parts.collect.close()


def test_a_reference_that_was_named_may_be_another_and_so_may_it_be_later(tmp_path):
    parts = parts_of(GRPO(kl=0.1, **SIZES))
    unlike(parts)
    parts.config["run"]["reference"] = "elsewhere"
    next(loop(parts))
    parts.config["run"]["reference"] = None
    next(loop(parts))
    parts.collect.close()


def test_in_bfloat16_it_is_a_warning():
    b = drawn(little())
    check_first_kl(0.01, b, bf16=True)
    with pytest.warns(UserWarning, match=r"pi / pi_ref is off 1 by 0\.20, in bfloat16"):
        check_first_kl(0.2, b, bf16=True)


def test_the_reference_is_frozen_and_in_the_mode_of_the_policy():
    parts = parts_of(GRPO(kl=0.1, lr=0.05, **SIZES))
    before = copy.deepcopy(parts.reference.state_dict())
    metrics(parts, 3)
    assert all(torch.equal(x, before[k]) for k, x in parts.reference.state_dict().items())
    assert not any(p.requires_grad for p in parts.reference.parameters()) and not parts.reference.model.training
    moved = [torch.equal(x, before[k]) for k, x in parts.policy.state_dict().items()]
    assert not all(moved)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_the_metric_is_the_mean_of_the_exact_kl_over_what_is_visited(temperature):
    """E[k3 | text so far] is the KL over the vocabulary, so over many texts both means are one, to four standard errors."""
    policy, other = little(temperature=temperature), little(temperature=temperature)
    shake(other)
    b = drawn_many(policy, 400)
    estimate = kl.k3(b.log_pi, reference_log_prob(other, policy, b))[b.mask]
    exact = kl.categorical(full_log_p(policy, b).detach(), full_log_p(other, b).detach())[b.mask]
    error = (estimate - exact).std() / len(exact) ** 0.5
    assert float(exact.mean()) > 0.01 and float((estimate - exact).mean().abs()) < 4 * float(error)
    biased = kl.k2(b.log_pi, reference_log_prob(other, policy, b))[b.mask]
    assert float(error) < float((biased - exact).mean().abs()), "the test would see k2 in its place"


def drawn_many(policy, rounds: int):
    from logpi.rollout.language import joined, pad

    found = [drawn(policy, seed=100 * k) for k in range(rounds // 12)]
    longest = max(x.mask.shape[1] for x in found)
    return joined([x.map(lambda t: pad(t, longest)) for x in found])


def test_the_metric_does_not_depend_on_what_is_in_the_loss():
    told = set()
    for estimate, live, where in itertools.product(("k1", "k2", "k3"), (False, True), ("objective", "reward")):
        parts = parts_of(GRPO(kl=0.3, kl_estimate=estimate, kl_live=live, kl_in=where, **SIZES))
        parts.config["run"]["reference"] = "another"
        shake(parts.reference)
        told.add(metrics(parts)[0]["kl_ref"])
    assert len(told) == 1 and told.pop() > 1e-3


@pytest.mark.parametrize("estimate", ["k1", "k2", "k3"])
def test_in_the_reward_it_is_masked_of_the_policy_that_drew_and_ends_with_the_text(estimate):
    """Checklist 20: nothing of a prompt or of padding enters, nothing behind the end token, and log pi is the sampler's."""
    policy, page = little(), GRPO(kl=0.7, kl_in="reward", kl_estimate=estimate, scale=False, starts=3, group=4)
    b = drawn(policy).with_(log_ref=None)
    log_ref = b.log_pi - 0.3 * torch.randn(
        b.mask.shape, dtype=b.log_pi.dtype, generator=torch.Generator().manual_seed(2)
    )
    groups = lambda x: x.unflatten(0, (3, 4))
    clean = b.with_(log_ref=log_ref, psi=None).map(groups)
    spoilt = clean.with_(log_ref=torch.where(clean.mask, clean.log_ref, torch.nan))
    spoilt = spoilt.with_(log_pi=torch.where(clean.mask, clean.log_pi, torch.inf))
    found, other = (credited(page, x, {}).psi for x in (clean, spoilt))
    assert torch.equal(found[clean.mask], other[clean.mask])
    each = getattr(kl, estimate)(clean.log_pi, clean.log_ref)
    ret = torch.where(clean.mask, clean.reward - 0.7 * each, 0.0).sum(-1)
    expected = (ret - ret.mean(-1, keepdim=True))[..., None].expand(clean.mask.shape)
    torch.testing.assert_close(found[clean.mask], expected[clean.mask], rtol=0, atol=1e-12)


def test_in_the_reward_it_is_not_in_the_objective_and_the_other_way_round():
    policy = little()
    b = drawn(policy)
    b = b.with_(log_ref=b.log_pi - 0.2)
    now = Now(policy, None, b)
    plain = GRPO().objective(now, b, {})
    assert torch.equal(GRPO(kl=1.0, kl_in="reward").objective(now, b, {}), plain)
    assert not torch.equal(GRPO(kl=1.0).objective(now, b, {}), plain)


def test_the_controller_is_that_of_ziegler_and_others():
    """Their code: value *= 1 + clip(current / target - 1, -0.2, 0.2) * n_steps / horizon."""
    log_pi = torch.zeros(4, 5)
    mask = torch.arange(5) < torch.tensor([[5], [2], [3], [4]])
    for each, error in ((1.0, 0.2), (0.55, 0.1), (0.5, 0.0), (0.45, -0.1), (0.0, -0.2)):
        log_ref = torch.where(mask, -each, torch.nan)
        found = kl.controlled(0.3, log_pi, log_ref, mask, 0.5 * 3.5, 100)
        assert found == pytest.approx(0.3 * (1 + error * 4 / 100), rel=1e-6)
    assert kl.controlled(0.3, log_pi, None, mask, None, 100) == 0.3
    with pytest.raises(LogpiError, match="kl_target leads the weight .* which is 0: give --kl above 0"):
        kl.controlled(0.0, log_pi, None, mask, 1.0, 100)


@pytest.mark.parametrize(("target", "way"), [(1e-6, 1), (1e6, -1)])
def test_ppo_pays_what_the_controller_says(target, way):
    page = PPO(kl=0.2, kl_target=target, kl_horizon=60, envs=12, normalise="none")
    parts = parts_of(page)
    found = [(parts.state["kl"], record.batch) for record in itertools.islice(loop(parts), 3)]
    parts.collect.close()
    weights, b = [weight for weight, _ in found], found[-1][1]
    steps = [y / x for x, y in itertools.pairwise([0.2, *weights])]
    assert steps[1:] == pytest.approx([1 + way * 0.2 * 12 / 60] * 2)
    paid, free = (credited(page, b, {"kl": weight}).psi for weight in (weights[1], 0.0))
    assert torch.equal(b.psi, paid) and not torch.equal(b.psi, free)


def test_the_controllers_state_is_resumed_to_the_bit(tmp_path):
    how = {"task": "reverse-text", "level": 3, "steps": 400, "envs": 12, "kl": 0.2, "kl_target": 0.01, "kl_horizon": 37}
    whole = []
    for record in logpi.learn("ppo", **how):
        if record.iteration == 2:
            saved = record.save(tmp_path)
        whole.append((record.parts.state["kl"], record.metrics["kl_ref"], record.metrics["kl_weight"]))
    assert len({x for x, *_ in whole}) == len(whole) > 4
    assert [0.2, *(x for x, *_ in whole)][:-1] == [x for *_, x in whole], "told is what was paid"
    told = [(r.parts.state["kl"], r.metrics["kl_ref"], r.metrics["kl_weight"]) for r in logpi.resume(saved)]
    assert told == whole[2:]
