"""The same numbers as Stable-Baselines3 and sb3-contrib, from their own code."""

import inspect

import numpy as np
import pytest
import torch
from gymnasium import spaces

from logpi import psi
from logpi.step.natural import conjugate_gradient

GAMMA, STEPS, ENVS = 0.97, 40, 6


@pytest.fixture(scope="module")
def sb3():
    return pytest.importorskip("stable_baselines3")


@pytest.fixture(scope="module")
def contrib():
    pytest.importorskip("sb3_contrib")
    return pytest.importorskip("sb3_contrib.common.utils")


def rollout(seed):
    """Time-major float32 arrays as a vector environment gives them: the value after an end is of the final observation."""
    rng = np.random.default_rng(seed)
    reward, value, final = (rng.normal(size=(STEPS, ENVS)).astype(np.float32) for _ in range(3))
    terminated = rng.random((STEPS, ENVS)) < 0.1
    truncated = (rng.random((STEPS, ENVS)) < 0.1) & ~terminated
    return reward, value, final, terminated, truncated, rng.normal(size=ENVS).astype(np.float32)


def theirs(sb3, lam, reward, value, final, terminated, truncated, last):
    """Their buffer, filled as their collect_rollouts does, the timeout's bootstrap in the reward included."""
    from stable_baselines3.common.buffers import RolloutBuffer

    box = spaces.Box(-1, 1, (1,), np.float32)
    buffer = RolloutBuffer(STEPS, box, box, device="cpu", gae_lambda=lam, gamma=GAMMA, n_envs=ENVS)
    starts = np.ones(ENVS, bool)
    for t in range(STEPS):
        paid = np.where(truncated[t], reward[t] + GAMMA * final[t], reward[t])
        zeros = np.zeros((ENVS, 1), np.float32)
        buffer.add(zeros, zeros, paid, starts, torch.from_numpy(value[t]), torch.zeros(ENVS))
        starts = terminated[t] | truncated[t]
    buffer.compute_returns_and_advantage(torch.from_numpy(last), starts)
    return buffer.advantages, buffer.returns


def ours(lam, reward, value, final, terminated, truncated, last):
    following = np.concatenate([value[1:], last[None]])
    value_next = np.where(terminated | truncated, final, following)
    s = [torch.from_numpy(x).T.double() for x in (reward, value, value_next)] + [
        torch.from_numpy(x).T for x in (terminated, truncated)
    ]
    credit = psi.gae(*s, gamma=GAMMA, lam=lam)
    return credit.T.numpy(), (s[1] + credit).T.numpy()


@pytest.mark.parametrize("lam", [0.0, 0.95, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_gae_and_value_targets_equal_their_rollout_buffers(sb3, lam, seed):
    data = rollout(seed)
    for x, y in zip(ours(lam, *data), theirs(sb3, lam, *data), strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-5)


def test_the_comparison_sees_a_truncation_taken_for_a_termination(sb3):
    reward, value, final, terminated, truncated, last = rollout(2)
    expected, _ = theirs(sb3, 0.95, reward, value, final, terminated, truncated, last)
    merged, _ = ours(0.95, reward, value, final, terminated | truncated, np.zeros_like(truncated), last)
    assert not np.allclose(merged, expected, atol=1e-2)


def test_their_loop_still_pays_the_bootstrap_at_a_timeout(sb3):
    """`theirs` repeats one line of collect_rollouts: this fails when that line changes."""
    from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

    source = inspect.getsource(OnPolicyAlgorithm.collect_rollouts)
    assert "TimeLimit.truncated" in source
    assert "rewards[idx] += self.gamma * terminal_value" in source


@pytest.mark.parametrize(("size", "iterations"), [(5, 3), (5, 5), (20, 10)])
def test_conjugate_gradient_equals_theirs(contrib, size, iterations):
    """They start from noise of 1e-4, we from 0: equal up to that, and both solve when they may finish."""
    g = torch.Generator().manual_seed(size)
    root = torch.randn(size, size, generator=g, dtype=torch.float64)
    a, b = (
        root @ root.T / size + torch.eye(size, dtype=torch.float64),
        torch.randn(size, generator=g, dtype=torch.float64),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        expected = contrib.conjugate_gradient_solver(lambda v: a @ v, b.clone(), max_iter=iterations)
    x = conjugate_gradient(lambda v: a @ v, b, iterations, 1e-10)
    torch.testing.assert_close(x, expected, rtol=0, atol=2e-3 if iterations < size else 1e-5)
    if iterations >= size:
        torch.testing.assert_close(x, torch.linalg.solve(a, b), rtol=1e-8, atol=1e-10)
    assert not torch.allclose(conjugate_gradient(lambda v: a @ v, b, 1, 1e-10), expected, rtol=0, atol=2e-3)


def test_conjugate_gradient_of_0_is_0_where_theirs_is_noise(contrib):
    b = torch.zeros(4, dtype=torch.float64)
    assert (conjugate_gradient(lambda v: 2 * v, b) == 0).all()
