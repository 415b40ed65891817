"""The native environments are Gymnasium's: dynamics, rewards, ends, limits, starts and spaces."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from logpi import envs
from logpi.envs import TASKS
from logpi.envs.native import Native

THEIRS = {name: gym.make(name) for name in TASKS if name != "CartPoleNoVel-v1"}
# Gymnasium keeps the state of this one in float32, so a step of it is ours up to that rounding
ROUNDING = {"MountainCarContinuous-v0": 2e-7}
RANGES = {  # states to step from: all that can be reached, ends included
    "CartPole-v1": ([-2.6, -2, -0.25, -2], [2.6, 2, 0.25, 2]),
    "Acrobot-v1": ([-3.1, -3.1, -12, -28], [3.1, 3.1, 12, 28]),
    "MountainCar-v0": ([-1.2, -0.07], [0.6, 0.07]),
    "MountainCarContinuous-v0": ([-1.2, -0.07], [0.6, 0.07]),
    "Pendulum-v1": ([-6.0, -8], [6.0, 8]),
}
NAMES = [*RANGES]


def made(name: str, n: int = 1, dtype: torch.dtype = torch.float64) -> Native:
    return envs.make(name, n, "native", dtype=dtype)  # type: ignore[return-value]


def actions(space: spaces.Space, n: int, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    if isinstance(space, spaces.Discrete):
        return torch.randint(int(space.n), (n,), generator=g)
    low, high = (torch.as_tensor(x).double() for x in (space.low, space.high))  # type: ignore[attr-defined]
    return low - 1 + (high - low + 2) * torch.rand(n, *low.shape, generator=g, dtype=torch.float64)  # beyond it, too


def put(env: Any, state: list[float]) -> None:
    inner = env.unwrapped
    inner.state = np.array(state) if isinstance(inner.state, np.ndarray) else tuple(state)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_from_anywhere_is_gymnasiums(name: str) -> None:
    n, (low, high) = 3000, RANGES[name]
    ours, theirs = made(name, n), gym.make(name)
    theirs.reset(seed=0)
    within = ROUNDING.get(name, 1e-12)
    states = torch.tensor(low, dtype=torch.float64)[:, None] + (
        torch.tensor(high, dtype=torch.float64) - torch.tensor(low, dtype=torch.float64)
    )[:, None] * torch.rand(len(low), n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    if name in ROUNDING:
        states = states.float().double()
    ours.s, action, over = states, actions(ours.action_space, n, 2), 0
    step = ours.step(action)
    for i in range(n):
        theirs.reset()
        put(theirs, states[:, i].tolist())
        given: Any = int(action[i]) if action.dim() == 1 else action[i].numpy()
        obs, reward, terminated, _, _ = theirs.unwrapped.step(given)
        exact = shown(name, theirs.unwrapped.state)
        np.testing.assert_allclose(step.final[i].numpy(), exact, rtol=0, atol=within)
        np.testing.assert_allclose(exact, obs, rtol=0, atol=1e-6)
        assert float(step.reward[i]) == pytest.approx(float(reward), abs=max(within, 1e-12))
        assert bool(step.terminated[i]) == terminated
        over += terminated
    assert (over > 10) == (name != "Pendulum-v1")


def shown(name: str, state: Any) -> np.ndarray:
    """Their observation, in float64."""
    s = np.asarray(state, np.float64)
    if name == "Acrobot-v1":
        return np.array([np.cos(s[0]), np.sin(s[0]), np.cos(s[1]), np.sin(s[1]), s[2], s[3]])
    return np.array([np.cos(s[0]), np.sin(s[0]), s[1]]) if name == "Pendulum-v1" else s


@pytest.mark.parametrize("name", NAMES)
def test_an_episode_is_gymnasiums_step_for_step(name: str) -> None:
    """From one start to the time limit; the swing of an acrobot doubles a rounding every few steps."""
    ours, theirs = made(name), gym.make(name)
    ours.reset([4])
    theirs.reset(seed=4)
    put(theirs, ours.s[:, 0].tolist())
    limit = theirs.spec.max_episode_steps
    for t in range(1, limit + 1):
        action = actions(ours.action_space, 1, t)
        step = ours.step(action)
        given: Any = int(action[0]) if action.dim() == 1 else action[0].numpy()
        _, _, terminated, truncated, _ = theirs.step(given)
        np.testing.assert_allclose(
            step.final[0].numpy(), shown(name, theirs.unwrapped.state), rtol=0, atol=1e-4 if name in ROUNDING else 1e-6
        )
        assert (bool(step.terminated), bool(step.truncated)) == (terminated, truncated)
        if terminated or truncated:
            break
    assert terminated or t == limit


@pytest.mark.parametrize("name", NAMES)
def test_spaces_and_limits_are_gymnasiums(name: str) -> None:
    ours, theirs = made(name), THEIRS[name]
    assert ours.observation_space == theirs.observation_space and ours.action_space == theirs.action_space
    assert ours.task.limit == theirs.spec.max_episode_steps


@pytest.mark.parametrize("name", NAMES)
def test_starts_are_spread_as_gymnasiums_are(name: str) -> None:
    ours, theirs = made(name, 4000), THEIRS[name]
    drawn = []
    for seed in range(1500):
        theirs.reset(seed=seed)
        drawn.append(np.array(theirs.unwrapped.state, np.float64))
    ours.reset()
    x, y = ours.s.T.numpy(), np.array(drawn)
    for i in range(x.shape[1]):
        assert abs(x[:, i].mean() - y[:, i].mean()) <= 5 * y[:, i].std() * (1 / 4000 + 1 / 1500) ** 0.5 + 1e-9
        assert x[:, i].std() == pytest.approx(y[:, i].std(), rel=0.06, abs=1e-9)
        assert abs(x[:, i].min() - y[:, i].min()) < 0.02 * np.ptp(y[:, i]) + 1e-6


@pytest.mark.parametrize("name", [*TASKS])
def test_arrays_and_tensors_and_a_restored_state_go_on_alike(name: str) -> None:
    one, two, three = (made(name, 5, torch.float32) for _ in range(3))
    one.reset([1, 2, 3, 4, 5]), two.reset([1, 2, 3, 4, 5])
    ends = 0
    for t in range(one.task.limit + 50):
        action = actions(one.action_space, 5, t)
        action = action if action.dim() == 1 else action.float()
        x, y = one.step(action), two.step_array(action.numpy())
        assert x.obs.dtype == torch.float32 == x.reward.dtype
        assert all(np.array_equal(p.numpy(), q) for p, q in zip(x[:5], y[:5], strict=True))
        ends += int((x.terminated | x.truncated).sum())
        if t == 300:
            three.load_state({k: v.clone() for k, v in one.state().items()})
        if t > 300:
            assert torch.equal(three.step(action).obs, x.obs)
    assert ends > 0


def test_a_device_other_than_the_cpu_steps_in_torch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of accelerators, on the CPU: to rounding the numbers of the other."""
    for name in TASKS:
        one, two = made(name, 6), made(name, 6)
        one.reset([1, 2, 3, 4, 5, 6]), two.reset([1, 2, 3, 4, 5, 6])
        monkeypatch.setattr(two, "device", "elsewhere", raising=True)
        monkeypatch.setattr(two, "starts", lambda *shape, two=two: type(two).starts(one_like(two), *shape))
        for t in range(100):
            action = actions(one.action_space, 6, t)
            x, y = one.step(action), two.step(action)
            torch.testing.assert_close(x.final, y.final, rtol=0, atol=1e-9)
            assert torch.equal(x.terminated, y.terminated) and torch.equal(x.truncated, y.truncated)


def one_like(made: Native) -> Native:
    """The same, that draws on the CPU."""
    twin = object.__new__(Native)
    twin.__dict__ = made.__dict__ | {"device": "cpu"}
    return twin


def test_a_pole_without_velocities_is_a_pole() -> None:
    whole, part = made("CartPole-v1", 4), made("CartPoleNoVel-v1", 4)
    obs, seen = whole.reset([1, 2, 3, 4]), part.reset([1, 2, 3, 4])
    assert part.observation_space.shape == (2,) and torch.equal(seen, obs[:, [0, 2]])
    for t in range(100):
        action = actions(whole.action_space, 4, t)
        x, y = whole.step(action), part.step(action)
        assert torch.equal(y.final, x.final[:, [0, 2]]) and torch.equal(x.terminated, y.terminated)
