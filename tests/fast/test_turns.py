"""Segments of environments in processes, in one kernel: the numbers of sync to the bit, and Python whenever it is needed."""

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

pytest.importorskip("numba")
sys.path.insert(0, str(Path(__file__).parent.parent / "workers"))

import scenarios
from breaking import Deadly, Flaky, Fragile, Healthy, Slow, Walker
from gymnasium import spaces

from logpi.fast import turns
from logpi.methods import A2C, PPO
from logpi.run.setup import Settings, assemble


class Wide(Walker):
    observation_space = spaces.Box(-100, 100, (3,), np.float64)


class WideAction(Walker):
    action_space = spaces.Box(-1, 1, (2,), np.float64)


class Shifted(Healthy):
    """Actions are numbered from -3 on, and it minds."""

    action_space = spaces.Discrete(2, start=-3)

    def step(self, action: Any) -> Any:
        assert action in (-3, -2)
        return super().step(action)


class Told:
    """What the kernel says, each time that it comes back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: list[int] = []
        kernel = turns.turns
        monkeypatch.setattr(turns, "turns", lambda *args: self.said.append(kernel(*args)) or self.said[-1])


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    return Told(monkeypatch)


def same_numbers(env: Any, n: int, workers: int, **how: Any) -> None:
    how = {"env": "custom", "normalise_obs": True, "seed": 3, "hidden": (8,)} | how
    method = PPO(envs=n, length=37, epochs=1)
    one, two = (
        assemble(method, Settings(backend=backend, workers=w, **how), env)
        for backend, w in (("sync", None), ("async", workers))
    )
    ends = 0
    for _ in range(3):
        x, y = (parts.collect(parts.policy, parts.critic) for parts in (one, two))
        for name, field in vars(x).items():
            other = getattr(y, name)
            assert field is other is None or (field.dtype == other.dtype and torch.equal(field, other)), name
        ends += int(x.ended.sum())
        one.collect.settle(one.policy), two.collect.settle(two.policy)
    assert one.collect.metrics() == two.collect.metrics() and ends > 0
    assert np.array_equal(one.collect.envs.obs, two.collect.envs.last)
    two.collect.envs.close()


@pytest.mark.parametrize(("n", "workers"), [(1, 1), (5, 1), (5, 2), (6, 6)])
@pytest.mark.parametrize("env", [Walker, Wide, Healthy, Shifted])
def test_a_kernel_gives_the_numbers_of_sync_to_the_bit(env: Any, n: int, workers: int, told: Told) -> None:
    same_numbers(env, n, workers)
    assert told.said.count(turns.DONE) == 3


def test_it_takes_more_rows_than_a_block_holds(told: Told) -> None:
    same_numbers(Healthy, 150, 1)
    assert turns.DONE in told.said


@pytest.mark.parametrize(("env", "head"), [(Walker, "squashed"), (Walker, "beta"), (WideAction, "gaussian")])
def test_what_it_does_not_know_takes_turns_in_python(env: Any, head: str, told: Told) -> None:
    same_numbers(env, 5, 2, head=head)
    assert not told.said


FUSED = {"dtype": "float32", "fast": "auto"}


def test_ten_kills_lose_and_double_nothing(told: Told) -> None:
    scenarios.kills(10, **FUSED)
    assert turns.PYTHON in told.said and turns.DONE in told.said


@pytest.mark.parametrize("env", [Flaky, Deadly])
def test_what_breaks_in_the_middle_is_made_good_by_python(env: Any, told: Told) -> None:
    parts = scenarios.collector(env, A2C(envs=6, length=40), normalise_reward=False, **FUSED)
    seen: set[Any] = set()
    carried: dict[int, Any] = {}
    for _ in range(4):
        scenarios.check(parts.collect(parts.policy, parts.critic), seen, carried)
    assert parts.collect.broken and parts.collect.envs.failures and turns.PYTHON in told.said
    parts.collect.envs.close()


def test_a_silent_worker_is_given_up_in_time(told: Told) -> None:
    parts = scenarios.collector(Slow, A2C(envs=6, length=100), step_timeout=0.3, **FUSED)
    made = parts.collect.envs
    threading.Timer(0.05, os.kill, (scenarios.pids(made)[0], signal.SIGSTOP)).start()
    began = time.perf_counter()
    batch = parts.collect(parts.policy, parts.critic)
    assert time.perf_counter() - began < 3 and "gave no answer for 0.3 s" in str(made.failures[0])
    assert batch.mask.shape == (6, 100) and int((~batch.mask).sum()) == 3 and turns.PYTHON in told.said
    made.close()


class Stuck(Fragile):
    def step(self, action: Any) -> Any:
        time.sleep(60)


@pytest.mark.parametrize("env", [Stuck, Slow])
def test_ctrl_c_is_heard_while_a_kernel_waits_and_while_it_works(env: type[gym.Env]) -> None:
    parts = scenarios.collector(env, A2C(envs=6, length=20_000), **FUSED)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    began = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        parts.collect(parts.policy, parts.critic)
    assert time.perf_counter() - began < 2
    parts.collect.envs.close()
