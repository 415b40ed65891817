"""Rollouts: what is in a Batch, where its rows begin and end, and when the normalisers move."""

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from logpi import LogpiError, envs
from logpi.batch import Batch
from logpi.loop import Parts, update
from logpi.methods import A2C, GRPO, PPO, Baseline, Reinforce
from logpi.rollout import control
from logpi.run.evaluate import evaluate
from logpi.run.setup import Settings, assemble


class Walk(gym.Env):
    """obs (age, its episode's length, noise); length 2 or 40, drawn at the start; reward the noise it shows next."""

    observation_space = spaces.Box(-100, 100, (3,), np.float64)
    action_space = spaces.Box(np.array([-0.5, 0.0]), np.array([0.25, 0.5]), dtype=np.float64)

    def __init__(self) -> None:
        self.received: list[np.ndarray] = []

    def _obs(self) -> np.ndarray:
        self.noise = float(self.np_random.normal(3, 2))
        return np.array([self.age, self.length, self.noise])

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.age, self.length = 0, 2 if self.np_random.random() < 0.5 else 40
        return self._obs(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.received.append(action.copy())
        self.age += 1
        over = self.age == self.length
        obs = self._obs()
        return obs, self.noise, over and self.length == 2, over and self.length == 40, {}


def run(method: Any, env: Any = Walk, **settings: Any) -> Parts:
    named = {"env": env} if isinstance(env, str) else {"env": "custom"}
    return assemble(method, Settings(**{"dtype": "float64", "hidden": (8,)} | named | settings), env)


def collected(parts: Parts, iterations: int) -> list[Batch]:
    return [parts.collect(parts.policy, parts.critic) for _ in range(iterations)]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("env", "shape", "kind"), [("CartPole-v1", (), torch.long), (Walk, (2,), None)])
def test_the_fields_have_their_shapes_and_types(env: Any, shape: tuple, kind: Any, dtype: str) -> None:
    real = getattr(torch, dtype)
    b = collected(run(A2C(envs=3, length=7), env, dtype=dtype), 1)[0]
    for name in ("log_pi", "reward", "value", "value_next"):
        assert (getattr(b, name).shape, getattr(b, name).dtype) == ((3, 7), real), name
    for name in ("terminated", "truncated", "mask"):
        assert (getattr(b, name).shape, getattr(b, name).dtype) == ((3, 7), torch.bool), name
    assert b.obs.shape[:2] == (3, 7) and b.obs.dtype == b.params.dtype == real
    assert b.action.shape == (3, 7, *shape) and b.action.dtype == (kind or real)
    assert b.version.dtype == b.start.dtype == torch.long and b.start.shape == (3,) and b.mask.all()


def test_segments_go_on_where_the_last_one_stopped_and_count_their_steps() -> None:
    parts = run(A2C(envs=4, length=9), backend="sync")
    batches = collected(parts, 12)
    age = torch.cat([b.obs[..., 0] for b in batches], 1)
    length = torch.cat([b.obs[..., 1] for b in batches], 1)
    ended = torch.cat([b.ended for b in batches], 1)
    assert torch.equal(age[:, 0], torch.zeros(4).double())
    assert torch.equal(age[:, 1:], torch.where(ended[:, :-1], 0.0, age[:, :-1] + 1)) and torch.equal(
        ended, age + 1 == length
    )
    for number, b in enumerate(batches):
        assert torch.equal(b.start, b.obs[:, 0, 0].long()) and (b.version == number).all()
        assert torch.equal(b.terminated, b.ended & (b.obs[..., 1] == 2)) and torch.equal(
            b.truncated, b.ended & ~b.terminated
        )
    assert any((b.start > 9).any() for b in batches), "some episode must span three segments"


@pytest.mark.parametrize("shared", [False, True])
def test_value_next_is_v_of_the_true_next_observation(shared: bool) -> None:
    parts = run(A2C(envs=4, length=30), shared=shared)
    with torch.no_grad():
        for p in parts.critic.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(0), dtype=p.dtype))
    finals, step = [], parts.collect.envs.step
    parts.collect.envs.step = lambda action: finals.append(step(action)) or finals[-1]
    batches = collected(parts, 3)
    final = torch.stack([s.final for s in finals], 1).split(30, 1)
    truncations = 0
    for b, after in zip(batches, final, strict=True):
        expected = parts.critic(parts.policy.trunk(after))
        alive = ~b.terminated
        torch.testing.assert_close(b.value_next[alive], expected[alive], rtol=0, atol=1e-12)
        torch.testing.assert_close(b.value, parts.critic(parts.policy.trunk(b.obs)), rtol=0, atol=1e-12)
        truncations += int(b.truncated[:, :-1].sum())
    assert truncations > 2


def returns_by_hand(batches: list[Batch], rewards: list[Tensor]) -> list[tuple[float, int]]:
    done, running = [], {}
    for b, reward in zip(batches, rewards, strict=True):
        for t in range(b.reward.shape[1]):
            for row in range(len(b)):
                ret, n = running.get(row, (0.0, 0))
                running[row] = (ret + float(reward[row, t]), n + 1)
                if b.ended[row, t]:
                    done.append(running.pop(row))
    return done


@pytest.mark.parametrize("length", [3, 50])
def test_returns_and_lengths_equal_a_count_by_hand(length: int) -> None:
    parts = run(A2C(envs=4, length=length), normalise_reward=False)
    batches = []
    assert np.isnan(parts.collect.metrics()["return"]) and parts.collect.metrics()["episodes"] == 0
    for _ in range(300 // length):
        batches += collected(parts, 1)
        expected = returns_by_hand(batches, [b.reward for b in batches])
        found = parts.collect.metrics()
        assert found["episodes"] == len(expected)
        if expected:
            mean = np.mean(np.array(expected[-100:]), 0)
            np.testing.assert_allclose([found["return"], found["length"]], mean, rtol=0, atol=1e-12)
    assert {n for _, n in expected} == {2, 40}


@pytest.mark.parametrize("n", [1, 16])
def test_a_row_is_a_whole_episode_padded_and_long_ones_are_not_left_out(n: int) -> None:
    parts, lengths = run(Reinforce(episodes=n)), []
    for number, b in enumerate(collected(parts, 320 // n)):
        own = b.mask.sum(1)
        lengths += own.tolist()
        assert torch.equal(own.double(), b.obs[:, 0, 1]) and torch.equal(b.obs[:, 0, 0], torch.zeros(n).double())
        assert torch.equal(b.mask, torch.arange(b.mask.shape[1]) < own[:, None]) and b.mask.shape[1] == own.max()
        assert (
            torch.equal(b.ended.sum(1), torch.ones(n, dtype=torch.long)) and b.ended.gather(1, own[:, None] - 1).all()
        )
        assert (b.start == 0).all() and (b.version == number).all()
    assert 100 < lengths.count(40) < 220 and lengths.count(2) + lengths.count(40) == 320
    assert parts.collect.metrics()["episodes"] == 320


@pytest.mark.parametrize("env", ["CartPole-v1", Walk])
def test_a_group_starts_from_one_observation_and_another_from_another(env: Any) -> None:
    parts = run(GRPO(starts=3, group=4), env)
    first = [b.obs[..., 0, :] for b in collected(parts, 4)]
    assert first[0].shape[:2] == (3, 4) and all(torch.equal(x, x[:, :1].expand_as(x)) for x in first)
    assert len(torch.cat(first)[:, 0].unique(dim=0)) == 12, "new starts for every group of every iteration"
    b = collected(parts, 1)[0]
    assert torch.equal(b.ended.sum(-1), torch.ones(3, 4, dtype=torch.long)) and torch.equal(
        b.mask.sum(-1), b.ended.long().argmax(-1) + 1
    )


def test_an_episode_that_never_ends_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "LONGEST", 30)
    with pytest.raises(
        LogpiError, match="not ended after 30 steps: give it a limit, --wrap .gymnasium.wrappers:TimeLimit"
    ):
        collected(run(Reinforce(episodes=8)), 5)


@pytest.mark.parametrize("rows", [A2C(envs=4, length=25), Reinforce(episodes=6)], ids=["segments", "episodes"])
def test_normalisers_are_frozen_through_a_rollout_and_its_update_and_move_after(rows: Any) -> None:
    parts = run(rows, normalise_obs=True, normalise_reward=True)
    raw, reset, step = [], parts.collect.envs.reset, parts.collect.envs.step
    parts.collect.envs.reset = lambda seeds=None: raw.append(reset(seeds).double()) or raw[-1]
    parts.collect.envs.step = lambda action: (s := step(action), raw.append(s.obs.double()))[0]
    seen, policy = [], parts.policy
    raw.append(parts.collect.obs.double())
    for _ in range(4):
        before = copy.deepcopy(policy)
        b = parts.collect(policy, parts.critic)
        T = b.mask.shape[1]
        own = torch.stack(raw[-T - 1 : -1], 1)
        torch.testing.assert_close(b.obs, before.normaliser(own))  # what the policy saw
        torch.testing.assert_close(b.params, policy(b.obs), rtol=0, atol=1e-12)
        torch.testing.assert_close(b.log_pi, policy.log_prob(b.obs, b.action), rtol=0, atol=1e-12)
        update(parts, b)
        for name in ("normaliser", "return_normaliser"):
            frozen, now = getattr(before, name).state_dict(), getattr(policy, name).state_dict()
            assert all(torch.equal(now[k], frozen[k]) for k in frozen), name
        parts.collect.settle(policy)
        seen.append(own[b.mask])
        every = torch.cat(seen)
        torch.testing.assert_close(policy.normaliser.mean, every.mean(0))
        torch.testing.assert_close(policy.normaliser.var, every.var(0, correction=0))
        assert policy.return_normaliser.count == len(every)
        parts.collect.settle(policy)
        assert policy.normaliser.count == len(every), "nothing is counted twice"


@pytest.mark.parametrize(
    "rows", [A2C(envs=4, length=7, gamma=0.9), Baseline(episodes=6, gamma=0.9)], ids=["segments", "episodes"]
)
def test_rewards_are_scaled_by_the_discounted_return_across_iterations(rows: Any) -> None:
    parts = run(rows, normalise_reward=True)
    rewards, step = [], parts.collect.envs.step
    parts.collect.envs.step = lambda action: (s := step(action), rewards.append(s.reward.double()))[0]
    running, returns, var = {}, [], 1.0
    for _ in range(12):
        if rows.rows == "episodes":
            running = {}
        b = parts.collect(parts.policy, parts.critic)
        raw = torch.stack(rewards[-b.mask.shape[1] :], 1)
        expected = (raw / (var + 1e-8) ** 0.5).clamp(-10, 10)
        torch.testing.assert_close(b.reward[b.mask], expected[b.mask], rtol=0, atol=1e-12)
        for row in range(len(b)):
            for t in b.mask[row].nonzero()[:, 0].tolist():
                returns.append(running.get(row, 0.0) * 0.9 + float(raw[row, t]))
                running[row] = 0.0 if b.ended[row, t] else returns[-1]
        parts.collect.settle(parts.policy)
        var = float(np.var(returns))
        np.testing.assert_allclose(float(parts.policy.return_normaliser.var), var, rtol=1e-9)
    assert abs(var - 1) > 0.5


def test_reported_returns_are_not_scaled() -> None:
    plain, scaled = (run(A2C(envs=4, length=50), normalise_reward=how) for how in (False, True))
    for parts in (plain, scaled):
        collected(parts, 1), parts.collect.settle(parts.policy), collected(parts, 1)
    assert plain.collect.recent == scaled.collect.recent and len(plain.collect.recent) > 5


def test_evaluation_does_not_move_normalisers_nor_the_policy() -> None:
    parts = run(A2C(envs=4, length=25), normalise_obs=True)
    collected(parts, 1), parts.collect.settle(parts.policy)
    before = copy.deepcopy(parts.policy.state_dict())
    found = evaluate(parts.policy, Walk, episodes=40)
    assert all(torch.equal(v, before[k]) for k, v in parts.policy.state_dict().items())
    assert sorted(set(found.lengths)) == [2, 40] and len(found.returns) == 40
    again = evaluate(parts.policy, Walk, episodes=40)
    assert again == found != evaluate(parts.policy, Walk, episodes=40, seed=1)


@pytest.mark.parametrize("head", ["gaussian", "squashed", "beta"])
def test_the_raw_action_is_stored_and_the_environment_gets_one_inside_its_box(head: Any) -> None:
    parts = run(PPO(envs=2, length=40), head=head)
    b = collected(parts, 1)[0]
    received = torch.as_tensor(np.array([env.unwrapped.received for env in parts.collect.envs.guards]))
    torch.testing.assert_close(received, parts.policy.head.to_env(b.action).double())
    assert all(Walk.action_space.contains(x) for x in received.reshape(-1, 2).numpy())
    low, high = torch.as_tensor(Walk.action_space.low), torch.as_tensor(Walk.action_space.high)
    inside = ((b.action >= low) & (b.action <= high)).all(-1)
    assert not inside.all(), "some raw action must lie outside the box"
    torch.testing.assert_close(b.log_pi, parts.policy.head.log_prob(b.params, b.action), rtol=0, atol=1e-12)
    if head == "gaussian":
        assert torch.equal(received, b.action.clamp(low, high)) and torch.equal(received[inside], b.action[inside])


def test_one_seed_gives_one_rollout_and_another_another() -> None:
    one, two, other = (collected(run(A2C(envs=4, length=20), "CartPole-v1", seed=s), 2) for s in (3, 3, 4))
    assert all(torch.equal(x.obs, y.obs) and torch.equal(x.action, y.action) for x, y in zip(one, two, strict=True))
    assert not torch.equal(one[0].obs[:, 0], other[0].obs[:, 0]) and len(one[0].obs[:, 0].unique(dim=0)) == 4
    assert envs.make("CartPole-v1", 1).backend == "native"
