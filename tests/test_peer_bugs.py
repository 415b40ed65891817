"""Bugs that other libraries had or have, one test each, so that we never do (found in their trackers and sources)."""

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from made import batch_for, case, parts_for, policy_for, rows_for
from torch import nn

import logpi
from logpi import envs, psi
from logpi.loop import credited, loop, update
from logpi.methods import GRPO, NPG, PPO, TRPO, Baseline
from logpi.now import Divergence, Surrogate
from logpi.policy.categorical import Categorical
from logpi.policy.gaussian import Gaussian
from logpi.rollout.control import Control
from logpi.run import checkpoint
from logpi.run.setup import Settings, assemble
from logpi.step.gradient import total
from logpi.step.natural import flat, trust_region_step


class Count(gym.Env):
    """Observation (episode, step) in plain numbers; reward episode + step / 100; cut after 3 steps, over after 2 in odd episodes."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.episode, self.t = getattr(self, "episode", 0) + 1, 0
        return self.look(), {}

    def look(self) -> np.ndarray:
        return np.array([self.episode, self.t], dtype=np.float64)

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.t += 1
        over = self.episode % 2 == 1 and self.t == 2
        return self.look(), self.episode + self.t / 100, over, self.t == 3 and not over, {}


class Says(nn.Module):
    """A critic whose value names the observation: 100 x episode + step."""

    def evaluate(self, policy, features, obs, action, generator):
        return {"value": obs @ torch.tensor([100.0, 1.0], dtype=obs.dtype)}


def collected(autoreset: AutoresetMode, length: int = 12):
    made = envs.make(Count, 1, autoreset=autoreset, dtype=torch.float64)
    with torch.random.fork_rng(devices=[]):
        policy = logpi.policy.build_policy(made.observation_space, made.action_space, hidden=(3,)).place(
            "cpu", torch.float64
        )
    return Control(made, "segments", torch.Generator().manual_seed(0), 0, length)(policy, Says())


def ends(*slots: int, T: int = 4):
    return torch.tensor([t in slots for t in range(T)])


def test_1_nothing_leaks_across_a_truncation():
    """skrl 2.0.0 and SLM-Lab 5.3.0: GAE or the return ran on into the next episode over a truncation."""
    r, v, after = (torch.tensor(x, dtype=torch.float64) for x in ([1, 2, 3, 4], [5, 6, 7, 8], [6, 50, 8, 9]))
    none, cut = ends(), ends(1)
    for f in (
        lambda r, v, a: psi.gae(r, v, a, none, cut, 0.9, 0.8),
        lambda r, v, a: psi.n_step(r, v, a, none, cut, 0.9, 4),
    ):
        other = f(r + 100 * (torch.arange(4) > 1), v + 100 * (torch.arange(4) > 1), after)
        assert torch.equal(f(r, v, after)[:2], other[:2]) and not torch.equal(f(r, v, after)[2:], other[2:])
    for g in (psi.reward_to_go, psi.total_return):
        assert torch.equal(g(r, cut, 0.9)[:2], g(r + 100 * (torch.arange(4) > 1), cut, 0.9)[:2])


def test_1_a_truncation_bootstraps_from_the_state_it_reached():
    """rl_games, rsl_rl, Sample Factory, Brax: V(s_t) in place of V(s_{t+1}) at a cut; CleanRL, PufferLib, purejaxrl: no bootstrap."""
    r, v, after = (torch.tensor(x, dtype=torch.float64) for x in ([1, 2, 3, 4], [5, 6, 7, 8], [6, 50, 8, 9]))
    for credit in (psi.gae(r, v, after, ends(), ends(1), 0.9, 0.8), psi.n_step(r, v, after, ends(), ends(1), 0.9, 4)):
        assert abs(float(credit[1]) - (2 + 0.9 * 50 - 6)) < 1e-12
    assert abs(float(psi.gae(r, v, after, ends(1), ends(), 0.9, 0.8)[1]) - (2 - 6)) < 1e-12


def test_2_a_failed_line_search_puts_the_policy_back():
    """Tianshou before 2.0.1: the policy stayed at the last rejected step."""
    policy, _, b = case(TRPO())
    rows = rows_for(TRPO(), credited(TRPO(), b, {}))
    kept, start = copy.deepcopy(policy), flat(policy.parameters()).detach().clone()

    def falling(mini):
        gone = flat(policy.parameters()) - start
        yield gone.sum() - 1e9 * gone.square().sum()

    info = trust_region_step(falling, Divergence(policy, rows), rows, torch.optim.SGD(policy.parameters()), 0.01)
    assert all(torch.equal(p, q) for p, q in zip(policy.parameters(), kept.parameters(), strict=True))
    assert info["accepted"] == 0 and info["grad_norm"] > 0


@pytest.mark.parametrize("delta", [1e-10, 1e-8])
def test_3_the_delta_of_npg_is_a_kl(delta):
    """Tianshou NPG: `trust_region_size`, said to be the largest KL, multiplied the natural gradient itself."""
    policy, critic, b = case(NPG())
    found = []
    for scale in (1, 4):
        parts = parts_for(NPG(delta=scale * delta, damping=1e-6, iterations=50), policy, critic)
        info = update(parts, b)[1]
        assert info["kl"] == pytest.approx(scale * delta, rel=0.1)
        found.append(info["step_norm"])
    assert found[1] / found[0] == pytest.approx(2.0, rel=1e-9)


def test_4_the_direction_of_the_kl_is_the_one_that_is_named():
    """sb3-contrib TRPO constrains KL(new || old), Tianshou KL(old || new): the same to second order only."""
    policy = policy_for()
    b = batch_for(TRPO(), policy)
    moved = b.with_(params=b.params + b.obs)
    p, q = b.params[b.mask], moved.params[b.mask]
    kl = Divergence(policy, rows_for(TRPO(), moved))
    old_new, new_old = (float(total(kl(kl.rows.batch, side))) for side in ("old_new", "new_old"))

    def exact(x, y):
        return float((x.softmax(-1) * (x.log_softmax(-1) - y.log_softmax(-1))).sum(-1).mean())

    assert old_new == pytest.approx(exact(q, p), rel=1e-12) and new_old == pytest.approx(exact(p, q), rel=1e-12)
    assert abs(old_new - new_old) > 1e-3


def test_5_no_transition_across_a_reset_is_an_action():
    """CleanRL 499, Gymnasium 1451: next-step autoreset put one junk transition, and its reward, into every episode."""
    truth = collected(AutoresetMode.SAME_STEP)
    assert bool(truth.mask.all()) and int(truth.ended.sum()) >= 4
    b = collected(AutoresetMode.NEXT_STEP, length=16)
    assert not b.mask.all()
    n = int(b.mask.sum())
    for name in ("obs", "reward", "terminated", "truncated", "value"):
        assert torch.equal(getattr(b, name)[b.mask][:12], getattr(truth, name)[0, :n]), name
    actions, _ = b.to_actions()
    goes_on = ~truth.terminated[0, :11]  # after a termination nothing follows
    assert torch.equal(actions.value_next[0, :11][goes_on], truth.value_next[0, :11][goes_on])
    assert torch.equal(psi.gae(*credit(actions), 0.9, 0.8), psi.gae(*credit(truth), 0.9, 0.8))


def credit(b):
    """Of the first ten actions, four whole episodes."""
    assert b.ended[0, :10].nonzero()[:, 0].tolist() == [1, 4, 6, 9]
    return tuple(x[:, :10] for x in (b.reward, b.value, b.value_next, b.terminated, b.truncated))


def test_5_the_statistics_of_the_return_do_not_count_the_step_of_a_reset():
    """Gymnasium 1451: `NormalizeReward` counted the reward of the reset step."""
    found = []
    for mode, length in ((AutoresetMode.SAME_STEP, 12), (AutoresetMode.NEXT_STEP, 16)):  # twelve actions either way
        made = envs.make(Count, 1, autoreset=mode, dtype=torch.float64)
        policy = logpi.policy.build_policy(
            made.observation_space, made.action_space, hidden=(3,), normalise_reward=True
        ).place("cpu", torch.float64)
        control = Control(made, "segments", torch.Generator().manual_seed(0), 0, length, gamma=0.9)
        control(policy, None)
        control.settle(policy)
        found.append(torch.stack(list(policy.return_normaliser.buffers())))
    assert torch.allclose(found[0], found[1], rtol=1e-12) and bool((found[0] == 12).any())


def test_6_many_impossible_actions_leave_a_distribution_in_float32():
    """sb3-contrib 81, 247, SB3 1596: a masked softmax over many actions failed torch's simplex check in float32."""
    n, head = 100_000, Categorical(100_000)
    logits = torch.randn(4, n, generator=torch.Generator().manual_seed(0)) * 5
    possible = torch.rand(4, n, generator=torch.Generator().manual_seed(1)) < 0.5
    params = torch.where(possible, logits, -torch.inf).requires_grad_(True)
    action = head.sample(params, torch.Generator().manual_seed(2))
    assert bool(possible.gather(-1, action[:, None]).all())
    value = head.log_prob(params, action) + head.entropy(params) + head.kl(params.detach(), params)
    g = torch.autograd.grad(value.sum(), params)[0]
    assert (
        bool(value.isfinite().all())
        and bool(g.isfinite().all())
        and bool((g[~possible] == 0).all())
        and g.abs().max() > 0
    )


def test_7_a_std_cannot_turn_negative():
    """rsl_rl 33 and 124, mjlab 291: a std that is itself the parameter went below zero, then NaN."""
    head = Gaussian(-torch.ones(2), torch.ones(2))
    optimizer = torch.optim.SGD(head.parameters(), lr=1.0)
    for _ in range(60):  # towards ever smaller stds, far past where a raw std of 1 would have crossed zero
        optimizer.zero_grad()
        head.entropy(head(torch.zeros(2))).sum().backward()
        optimizer.step()
    params = head(torch.zeros(2))
    assert float(head.log_std.detach().max()) < -50 and bool((params.chunk(2, -1)[1].exp() > 0).all())
    action = head.sample(params, torch.Generator().manual_seed(0))
    assert bool(head.log_prob(params, action).isfinite())


def test_8_a_minibatch_of_one_action_is_not_nan():
    """SB3 325 and 440: normalising the advantage of a minibatch of one sample divided zero by zero."""
    policy, critic, _ = case(PPO())
    one = batch_for(PPO(), policy, critic, mask=torch.ones(1, 1, dtype=torch.bool))
    few = batch_for(PPO(), policy, critic, mask=torch.ones(1, 3, dtype=torch.bool))
    for b in (one, few):
        parts = parts_for(PPO(minibatches=4), policy, critic)
        info = update(parts, b)[1]
        assert bool(flat(parts.policy.parameters()).isfinite().all()) and all(
            x == x for x in info.values() if isinstance(x, float)
        )
    assert float(credited(PPO(), one, {}).psi) == 0.0
    equal = torch.full((2, 3), 0.1)
    assert bool((psi.group_standardise(equal) == 0).all())


def test_9_every_checkpoint_has_the_statistics_of_its_own_moment(tmp_path):
    """rl-zoo 278, Isaac Lab 2635: the normaliser was saved once a run, not with each checkpoint."""
    parts = assemble(PPO(envs=2, length=8), Settings(steps=48, hidden=(4,), normalise_obs=True))
    obs, seen = np.array([0.1, -2.0, 0.02, 1.0], dtype=np.float32), []
    for _ in loop(parts):
        folder = checkpoint.save(parts, tmp_path / "checkpoints")
        with torch.no_grad():
            x = torch.as_tensor(obs)
            seen.append((folder, parts.policy.normaliser.mean.clone(), parts.policy(parts.policy.normalise(x))))
    assert len(seen) == 3 and not torch.equal(seen[0][1], seen[1][1])
    for folder, mean, params in seen:
        policy = logpi.load(folder)
        assert torch.equal(policy.normaliser.mean, mean)
        assert torch.equal(policy(policy.normalise(torch.as_tensor(obs))), params)
        assert policy.act(obs) == int(params.argmax())


@pytest.mark.parametrize("method", [PPO(value_clip=0.1, lr=0.05), TRPO(), GRPO(lr=0.05), Baseline(lr=0.05)])
def test_10_an_update_does_not_overwrite_what_was_stored(method):
    """PufferLib: stored values overwritten during the epochs, so that a value clip clips around the wrong number."""
    policy, critic, b = case(method)
    before = b.map(torch.clone)
    parts = parts_for(method, policy, critic)
    done, _ = update(parts, b)
    for name in (
        "obs",
        "action",
        "log_pi",
        "params",
        "reward",
        "value",
        "value_next",
        "mask",
        "terminated",
        "truncated",
    ):
        x, y, z = getattr(before, name), getattr(b, name), getattr(done, name)
        assert (x is None and y is None and z is None) or (torch.equal(x, y) and torch.equal(x, z)), name
    assert not torch.equal(flat(parts.policy.parameters()), flat(policy.parameters()))


def test_10_every_epoch_sees_the_same_old_values():
    """The same, from the page's side: the minibatch of a late epoch holds what the rollout held."""
    method, seen = PPO(value_clip=0.1, lr=0.05, epochs=3, minibatches=1), []
    policy, critic, b = case(method)
    b = credited(method, b, {})
    parts = parts_for(method, policy, critic)
    rows = rows_for(method, b)
    inner = Surrogate(method, parts.policy, parts.critic, rows, {})

    def surrogate(mini):
        seen.append((mini.value.clone(), mini.target.clone(), mini.psi.clone(), mini.log_pi.clone()))
        yield from inner(mini)

    method.step(surrogate, Divergence(parts.policy, rows), rows, parts.optimizer)
    assert len(seen) == 3 and all(torch.equal(x, y) for late in seen[1:] for x, y in zip(late, seen[0], strict=True))


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
def test_11_the_bootstrap_reads_the_true_final_observation(mode):
    """RLlib's GAE connector looked up the observation to bootstrap from under a wrong key; here it is s_{t+1} itself."""
    b = collected(mode, length=16)
    after = b.value + 1  # the same episode, one step on
    ours = b.mask & ~b.terminated
    ours[:, -1] = ours[:, -1] & b.mask[:, -1]
    assert torch.equal(b.value_next[ours], after[ours]) and int((b.truncated & b.mask).sum()) >= 2
