"""Episodes that break in a rollout: masked, cut off, bootstrapped from what was seen last, counted, and never a return."""

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

sys.path.append(str(Path(__file__).parents[1] / "workers"))  # where environments that break live
from breaking import Flaky, Healthy
from scenarios import check, collector

from logpi.errors import EnvironmentFailed
from logpi.finite import NotFinite
from logpi.loop import Parts, update
from logpi.methods import A2C, GRPO, Baseline, Reinforce
from logpi.run.setup import Settings, assemble


@pytest.fixture
def flaky() -> Iterator[Parts]:
    """Segments so short that breaks fall on every slot of a row."""
    parts = collector(Flaky, A2C(envs=6, length=5, gamma=0.9), normalise_reward=False)
    with torch.no_grad():
        for p in parts.critic.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(0), dtype=p.dtype))
    yield parts
    parts.collect.envs.close()


def test_the_action_before_a_break_is_truncated_there_and_bootstraps_from_what_was_seen_last(flaky: Parts) -> None:
    cuts, seen, carried = 0, set[Any](), dict[int, Any]()
    for _ in range(40):
        b = flaky.collect(flaky.policy, flaky.critic)
        check(b, seen, carried)
        actions, _ = b.to_actions()
        for row in range(6):
            slots = b.mask[row].nonzero()[:, 0].tolist()
            for i, t in enumerate(slots[:-1] if len(slots) == 5 else slots):
                if t + 1 == 5 or b.mask[row, t + 1] or b.ended[row, t]:
                    continue
                cuts += 1
                assert actions.truncated[row, i] and not actions.terminated[row, i]
                expected = flaky.critic(b.obs[row, t + 1])
                torch.testing.assert_close(actions.value_next[row, i], expected, rtol=0, atol=1e-12)
                assert b.obs[row, t + 1, 0] == b.obs[row, t, 0], "seen last: the same episode's"
    assert cuts > 20


def test_a_row_counts_the_steps_before_its_first_action_even_after_a_break(flaky: Parts) -> None:
    first = 0
    for _ in range(60):
        b = flaky.collect(flaky.policy, flaky.critic)
        for row in range(6):
            if b.mask[row].any():
                at = int(b.mask[row].nonzero()[0])
                assert b.start[row] == b.obs[row, at, 1]
                first += at > 0
    assert first > 5, "some row must begin with a break"


def test_broken_episodes_are_no_returns_and_are_counted_apart(flaky: Parts) -> None:
    done, running, broken = [], {}, 0
    for _ in range(40):
        b = flaky.collect(flaky.policy, flaky.critic)
        for t in range(5):
            for row in range(6):
                if not b.mask[row, t]:
                    broken += 1
                    running.pop(row, None)
                    continue
                ret, n = running.get(row, (0.0, 0))
                running[row] = (ret + float(b.reward[row, t]), n + 1)
                if b.ended[row, t]:
                    done.append(running.pop(row))
        found = flaky.collect.metrics()
        assert found["episodes"] == len(done) and found.get("broken_episodes", 0) == broken
    assert broken > 20 and len(flaky.collect.envs.failures) == broken
    np.testing.assert_allclose(list(flaky.collect.recent), done[-100:], rtol=0, atol=1e-12)


def test_normalisers_see_real_steps_alone() -> None:
    parts = collector(Flaky, A2C(envs=6, length=9, gamma=0.9), normalise_obs=True, normalise_reward=True)
    policy, raw, step, obs = parts.policy, [], parts.collect.envs.step, [parts.collect.obs]
    parts.collect.envs.step = lambda action: (s := step(action), raw.append((obs[-1], s)), obs.append(s.obs))[0]
    for _ in range(15):
        update(parts, parts.collect(policy, parts.critic))
        parts.collect.settle(policy)
    parts.collect.envs.close()
    seen, returns, running, broken = [], [], torch.zeros(6, dtype=torch.float64), 0
    for before, s in raw:
        for row in range(6):
            if s.broken is not None and s.broken[row]:
                running[row], broken = 0.0, broken + 1
                continue
            seen.append(before[row])
            running[row] = 0.9 * running[row] + s.reward[row]
            returns.append(float(running[row]))
            running[row] *= not (s.terminated[row] or s.truncated[row])
    assert broken > 5 and policy.normaliser.count == policy.return_normaliser.count == len(seen) == 15 * 54 - broken
    torch.testing.assert_close(policy.normaliser.mean, torch.stack(seen).mean(0))
    np.testing.assert_allclose(float(policy.return_normaliser.var), np.var(returns), rtol=1e-9)


def test_the_count_is_there_only_when_something_broke_and_survives_a_resume(flaky: Parts) -> None:
    healthy = collector(Healthy, A2C(envs=6, length=5), backend="sync", on_failure="fail")
    healthy.collect(healthy.policy, healthy.critic)
    assert "broken_episodes" not in healthy.collect.metrics()
    while not flaky.collect.broken:
        flaky.collect(flaky.policy, flaky.critic)
    state = flaky.collect.state()
    state["envs"] = None
    healthy.collect.load_state(state)
    assert healthy.collect.metrics()["broken_episodes"] == flaky.collect.broken


@pytest.mark.parametrize("page", [Reinforce(episodes=6), Baseline(episodes=6), GRPO(starts=2, group=3),
                                  A2C(envs=6, length=8)], ids=lambda page: type(page).__name__)  # fmt: skip
def test_pages_learn_on(page: Any) -> None:
    parts = collector(Flaky, page)
    for _ in range(6):
        b, info = update(parts, parts.collect(parts.policy, parts.critic))
        parts.collect.settle(parts.policy)
        assert all(math.isfinite(v) for v in info.values() if isinstance(v, float))
        assert b.psi[b.mask].isfinite().all() and (b.psi[~b.mask] == 0).all()
    assert parts.collect.broken > 0
    parts.collect.envs.close()


class Fussy(gym.Env):
    """Its third observation is NaN in environment 1, and it refuses an action that is."""

    observation_space, action_space = spaces.Box(-9, 9, (2,), np.float64), spaces.Box(-1, 1, (1,), np.float64)
    made = 0

    def __init__(self) -> None:
        self.number = Fussy.made
        Fussy.made += 1

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        self.age = 0
        return np.zeros(2), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict]:
        if not np.isfinite(action).all() or self.age > 5:
            raise ValueError("not a torque")
        self.age += 1
        return np.full(2, np.nan if (self.age, self.number) == (3, 1) else 0.0), 0.0, False, False, {}


@pytest.mark.parametrize("envs", [1, 2])
def test_a_nan_that_makes_an_environment_raise_is_what_is_told(envs: int) -> None:
    Fussy.made = 0
    parts = assemble(A2C(envs=envs, length=9), Settings(env="custom"), Fussy)
    with pytest.raises(NotFinite if envs == 2 else EnvironmentFailed) as said:
        parts.collect(parts.policy, parts.critic)
    if envs == 2:
        assert str(said.value) == "NaN in obs, environment 1, step 3, iteration 1: look at the environment."
        assert isinstance(said.value.__cause__, EnvironmentFailed)
    else:
        assert str(said.value) == "Environment 0 (Fussy) raised ValueError in step: not a torque."
