"""The loop: schedules, adaptive state, the first ratio, determinism, and what a wrong page is told."""

import copy
from dataclasses import replace

import pytest
import torch
from made import PAGES, Drift, batch_for, case, parts_for, policy_for, rows_for

import logpi
from logpi import average, objective, psi
from logpi.errors import LogpiError
from logpi.loop import anneal, check_first_ratio, credited, loop, read_once, update
from logpi.methods import MDPO, METHODS, NPG, PPO, PPOKL, RLOO, TRPO, Baseline, Reinforce
from logpi.now import Surrogate
from logpi.page import page
from logpi.run.setup import Settings, assemble

SMALL = {
    "envs": 2,
    "length": 8,
    "episodes": 3,
    "starts": 2,
    "group": 2,
    "epochs": 2,
    "minibatches": 2,
    "critic_epochs": 2,
}
ENVS = {"categorical": "CartPole-v1", "gaussian": Drift, "squashed": Drift, "beta": Drift}


def small(name: str, **more):
    method = METHODS[name]
    return method(**{k: v for k, v in SMALL.items() if k in method.__dataclass_fields__} | more)


def run(name: str, head: str = "categorical", steps: int = 1, **settings):
    method = name if not isinstance(name, str) else small(name)
    env = ENVS[head]
    settings = {"head": head} | settings if head != "categorical" else settings
    given = Settings(steps=steps, hidden=(8,), env=env if isinstance(env, str) else "custom", **settings)
    return assemble(method, given, env)


def go(parts, iterations: int):
    parts.state["horizon"] = 10**6
    records = loop(parts)
    return [next(records) for _ in range(iterations)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("head", ENVS)
@pytest.mark.parametrize("name", METHODS)
def test_on_policy_the_first_ratio_is_one(name, head, dtype):
    parts = run(name, head, dtype=dtype, normalise_obs=True)
    limit = 1e-5 if dtype == "float32" else 1e-12
    for record in go(parts, 2):
        assert 0 <= record["first_ratio_error"] <= limit


def test_a_first_ratio_that_is_not_one_stops_the_run():
    policy, critic, b = case(PPO())
    update(parts_for(PPO(), policy, critic), b)
    with pytest.raises(LogpiError, match="first ratio"):
        update(parts_for(PPO(), policy, critic), b.with_(log_pi=b.log_pi + 1e-3))


@pytest.mark.parametrize("error", [0.2, float("nan")])
def test_in_bfloat16_it_is_a_warning(error):
    *_, b = case(PPO())
    check_first_ratio(0.04, b, bf16=True)
    with pytest.warns(UserWarning, match="is off 1 by .*, in bfloat16: use --no-bf16"):
        check_first_ratio(error, b, bf16=True)


@pytest.mark.parametrize("name", METHODS)
def test_equal_seeds_are_equal_bit_for_bit_and_other_seeds_are_not(name):
    runs = [run(name, seed=seed) for seed in (4, 4, 5)]
    for parts in runs:
        go(parts, 3)
    first, again, other = (list(x.policy.parameters()) + list(x.critic.parameters() if x.critic else []) for x in runs)
    assert all(torch.equal(p, q) for p, q in zip(first, again, strict=True))
    assert any(not torch.equal(p, q) for p, q in zip(first, other, strict=True))


def test_a_run_neither_reads_nor_moves_the_global_generator():
    torch.manual_seed(0)
    before, first = torch.get_rng_state(), run("ppo")
    go(first, 2)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    again = run("ppo")
    go(again, 2)
    assert all(torch.equal(p, q) for p, q in zip(first.policy.parameters(), again.policy.parameters(), strict=True))


@pytest.mark.parametrize("name", METHODS)
def test_every_iteration_moves_the_policy_and_counts_its_actions(name):
    parts = run(name)
    before = copy.deepcopy(parts.policy)
    records = go(parts, 2)
    steps = [int(r.batch.mask.sum()) for r in records]
    assert [r.steps for r in records] == [steps[0], sum(steps)] and [r.iteration for r in records] == [1, 2]
    assert bool((records[1].batch.version == 1).all())
    assert any(not torch.equal(p, q) for p, q in zip(before.parameters(), parts.policy.parameters(), strict=True))
    assert records[0]["kl"] > -1e-6 and all(isinstance(x, float) for x in records[0].metrics.values())


def test_the_loop_ends_at_the_horizon_and_progress_is_one():
    parts = run("ppo", steps=40)
    records = list(loop(parts))
    assert [r.steps for r in records] == [16, 32, 48] and parts.state["progress"] == 1.0


def test_learning_rates_fall_linearly_to_nothing_where_the_page_says_so():
    for on in (True, False):
        parts = run(small("ppo", anneal=on, lr=1e-2), steps=64)
        rates = [(parts.optimizer.param_groups[0]["lr"], r)[0] for r in loop(parts)]
        assert rates == pytest.approx([1e-2, 7.5e-3, 5e-3, 2.5e-3] if on else [1e-2] * 4, rel=1e-12)


def test_the_rate_of_a_separate_critic_falls_too_and_a_natural_step_has_none():
    parts = run(small("baseline", lr=1e-2, critic_lr=2e-2))
    parts.state["progress"] = 0.25
    anneal(parts)
    assert [o.param_groups[0]["lr"] for o in (parts.optimizer, parts.critic_optimizer)] == pytest.approx(
        [7.5e-3, 1.5e-2]
    )
    assert run("npg").optimizer.param_groups[0]["lr"] == 0.0  # a natural step sets its own length


@pytest.mark.parametrize(
    ("kl", "factor"), [(0.001, 0.5), (0.0066, 0.5), (0.0067, 1.0), (0.0149, 1.0), (0.0151, 2.0), (1.0, 2.0)]
)
def test_the_price_of_kl_halves_doubles_or_stays(kl, factor):
    method = PPOKL(beta=3.0, target=0.01)
    assert method.adapt({"x": 1}, {"kl": kl}) == {"x": 1, "beta": 3.0 * factor}
    assert method.adapt({"beta": 0.7}, {"kl": kl})["beta"] == 0.7 * factor


def test_the_adapted_price_stays_in_its_range_and_is_what_the_objective_charges():
    method = PPOKL(target=0.01)
    assert (
        method.adapt({"beta": 1e4}, {"kl": 1.0})["beta"] == 1e4
        and method.adapt({"beta": 1e-4}, {"kl": 0.0})["beta"] == 1e-4
    )
    policy, critic, b = case(method)
    b = credited(method, b.with_(params=b.params + 0.5 * b.obs), {})
    rows = rows_for(method, b)
    charged = [
        sum(Surrogate(method, policy, critic, rows, state)(rows.batch)).detach() for state in ({}, {"beta": 3.0})
    ]
    kl = policy.head.kl(rows.batch.params, policy(rows.batch.obs)).mean().detach()
    assert torch.allclose(charged[0] - charged[1], 2.0 * kl, rtol=1e-10) and kl > 1e-3


def test_the_beta_of_an_update_is_kept_for_the_next():
    method = PPOKL(target=10.0)
    parts = parts_for(method, *case(method)[:2])
    for expected in (0.5, 0.25):
        update(parts, batch_for(method, parts.policy, parts.critic))
        assert parts.state["beta"] == expected


@pytest.mark.parametrize(("progress", "eta"), [(0.0, 0.5), (0.5, 0.25), (0.9, 0.05), (1.0, 0.05)])
def test_the_step_size_of_mirror_descent_falls_to_a_positive_floor(progress, eta):
    method = MDPO(value_coef=0.0)
    policy, critic, b = case(method)
    b = credited(method, b, {})
    b = b.with_(params=b.params + 0.5 * b.obs, psi=torch.zeros_like(b.psi))
    rows = rows_for(method, b)
    value = sum(Surrogate(method, policy, critic, rows, {"progress": progress})(rows.batch))
    kl = policy.head.kl(policy(rows.batch.obs), rows.batch.params).mean()
    assert torch.allclose(value, -kl / eta, rtol=1e-10)


@pytest.mark.parametrize("decay", [0.0, 0.9])
@pytest.mark.parametrize("kind", ["mean", "optimal"])
def test_a_previous_baseline_is_that_of_the_batches_before(kind, decay):
    method = Baseline(baseline=f"previous_{kind}", decay=decay, gamma=1.0)
    parts, expected = parts_for(method, policy_for()), 0.0
    for i in range(3):
        b = batch_for(method, parts.policy, seed=i)
        to_go = psi.reward_to_go(b.reward, b.ended, 1.0)
        alone = update(parts_for(Baseline(baseline=kind, gamma=1.0), parts.policy), b)[0]
        fresh = float(
            (torch.where(b.mask, to_go, 0) - alone.psi)[b.mask].mean()
        )  # what this batch would have subtracted
        credit = update(parts, b)[0].psi
        assert torch.allclose(credit, torch.where(b.mask, to_go - expected, 0), atol=1e-12)
        expected = fresh if i == 0 else decay * expected + (1 - decay) * fresh
        assert abs(parts.state["baseline"] - expected) < 1e-12 and abs(fresh) > 1e-3


def test_psi_goes_through_the_actions_and_the_surrogate_gets_it_without_a_gradient():
    method = Reinforce(gamma=0.9)
    b = case(method)[2]
    done = credited(method, b, {})
    assert (
        torch.equal(done.psi, torch.where(b.mask, psi.reward_to_go(b.reward, b.ended, 0.9), 0)) and done.target is None
    )
    live = b.with_(reward=b.reward.clone().requires_grad_(True))
    assert not credited(method, live, {}).psi.requires_grad


@page
class Wrong:
    """A page of a user's whose psi forgets the time axis."""

    episodes: int = 2
    lr: float = 1e-3
    which: str = "psi"
    rows, critic = "episodes", None

    def psi(self, b, state):
        whole = b.reward.sum(-1)
        return (whole, None) if self.which == "psi" else (b.reward, whole)

    def objective(self, now, b, state):
        return objective.score(now.log_pi, b.psi)

    def average(self, mask):
        return average.weights("per_episode", mask)

    def step(self, surrogate, kl, rows, optimizer):
        raise AssertionError("not reached")


@pytest.mark.parametrize("which", ["psi", "target"])
def test_a_psi_of_the_wrong_shape_is_told_in_one_sentence(which):
    with pytest.raises(LogpiError) as told:
        next(logpi.learn(Wrong(which=which), "CartPole-v1", steps=10))
    text = str(told.value)
    assert text.startswith(f"Wrong.psi returned a {which} of shape (2,): it must be (2, ") and text.endswith(").")
    assert "\n" not in text and len(text) < 140


def test_the_surrogate_is_the_weighted_sum_of_the_pages_objective():
    method = RLOO()
    policy, _, b = case(method)
    b = credited(method, b, {})
    rows = rows_for(method, b, micro=2)
    by_hand = torch.where(b.mask, policy.log_prob(b.obs, b.action) * b.psi, 0).sum() / 6
    assert torch.allclose(sum(Surrogate(method, policy, None, rows, {})(rows.batch)), by_hand, rtol=1e-12)


@pytest.mark.parametrize("name", ["ppo", "trpo", "grpo", "actor-critic-q"])
def test_measures_are_of_all_rows_after_the_update(name):
    method, (low, high) = PAGES[name], (0.2, 0.2)
    if name == "grpo":
        low, high = 0.01, 0.05
        method = replace(method, clip_low=low, clip_high=high)
    policy, critic, b = case(method)
    parts = parts_for(method, policy, critic, micro=3)
    if hasattr(method, "lr"):
        parts = parts_for(replace(method, lr=0.1), policy, critic, micro=3)
    done, info = update(parts, b)
    with torch.no_grad():
        now = parts.policy(b.obs)
        kl = parts.policy.head.kl(b.params, now)[b.mask].mean()
        entropy = parts.policy.head.entropy(now)[b.mask].mean()
        rho = (parts.policy.head.log_prob(now, b.action) - b.log_pi).exp()[b.mask]
    assert info["kl"] == pytest.approx(float(kl), rel=1e-9) and info["entropy"] == pytest.approx(
        float(entropy), rel=1e-9
    )
    assert (
        info["clip_fraction"] == pytest.approx(float(((rho < 1 - low) | (rho > 1 + high)).double().mean()))
        and kl > 1e-4
    )
    if critic is not None:
        said, target = (b.value if b.q is None else b.q)[b.mask], done.target[b.mask]
        assert info["explained_variance"] == pytest.approx(1 - float((target - said).var() / target.var()), rel=1e-9)


def test_scalars_are_read_as_floats_and_the_rest_is_left():
    info = read_once({"a": torch.tensor(2.5), "b": torch.tensor([1.5]), "c": torch.ones(2), "d": "x"})
    assert info["a"] == 2.5 and info["b"] == 1.5 and isinstance(info["c"], torch.Tensor) and info["d"] == "x"


@pytest.mark.parametrize("method", [NPG, TRPO])
def test_a_natural_step_takes_the_policy_alone_whatever_the_page_shares(method):
    parts = parts_for(method(), *case(method())[:2])
    assert len(parts.optimizer.param_groups[0]["params"]) == len(list(parts.policy.parameters()))
    assert parts.critic_optimizer is not None
