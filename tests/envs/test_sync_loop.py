"""The loop of this process: straight into arrays, and the numbers of Gymnasium's own."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from logpi import LogpiError, envs
from logpi.envs import InArrays, SendReceive
from logpi.envs.loop import Loop
from logpi.layout import Seen


def actions(space: spaces.Space, n: int, steps: int) -> np.ndarray:
    draw = np.random.default_rng(0)
    if isinstance(space, spaces.Discrete):
        return draw.integers(0, int(space.n), (steps, n))
    return draw.uniform(-1, 1, (steps, n, *(space.shape or ()))).astype(np.float32)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1"])
def test_the_numbers_are_those_of_gymnasium(env: str, n: int) -> None:
    ours, theirs = envs.make(env, n, "sync"), SyncVectorEnv([lambda: gym.make(env)] * n, copy=False,
                                                            autoreset_mode=AutoresetMode.SAME_STEP)  # fmt: skip
    assert isinstance(ours, Loop)
    seeds, ends = list(range(7, 7 + n)), 0
    seen = Seen(ours.observation_space)
    np.testing.assert_array_equal(ours.reset(seeds).numpy(), seen.array(theirs.reset(seed=seeds)[0]))
    for action in actions(ours.action_space, n, 300):
        x, (obs, reward, terminated, truncated, info) = ours.step_array(action), theirs.step(action)
        final = obs.copy()
        for row in (terminated | truncated).nonzero()[0]:
            final[row] = info["final_obs"][row]
            ends += 1
        obs, final = (y if seen.plain else seen.array(y) for y in (obs, final))
        for found, expected in zip(x, (obs, final, reward, terminated, truncated), strict=False):
            assert found is not None and found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
    assert ends > 0


def test_arrays_are_the_numbers_of_tensors_and_only_tensors_stay() -> None:
    one, two = (envs.make("CartPole-v1", 3, "sync") for _ in range(2))
    one.reset([1, 2, 3]), two.reset([1, 2, 3])
    kept, copies = [], []
    for action in actions(one.action_space, 3, 60):
        step, x = one.step(torch.from_numpy(action)), two.step_array(action)
        assert (x.final is x.obs) == (not (x.terminated | x.truncated).any())
        kept.append(step), copies.append([np.array(part) for part in x[:5]])
    for step, parts in zip(kept, copies, strict=True):
        assert all(np.array_equal(found.numpy(), part) for found, part in zip(step[:5], parts, strict=True))
    assert x.obs is two.step_array(action).obs, "the same memory again"


def test_actions_are_taken_in_any_type_that_can_be_cast() -> None:
    one, two = (envs.make("Pendulum-v1", 2, "sync") for _ in range(2))
    one.reset([1, 2]), two.reset([1, 2])
    action = actions(one.action_space, 2, 1)[0]
    x, y = one.step_array(action), two.step_array(action.astype(np.float64))
    assert np.array_equal(x.obs, y.obs) and np.array_equal(x.reward, y.reward)


def test_who_steps_in_arrays_and_who_as_they_come() -> None:
    sync, vector, native = (envs.make("CartPole-v1", 2, backend) for backend in ("sync", "vector", "native"))
    assert all(isinstance(x, InArrays) and not isinstance(x, SendReceive) for x in (sync, vector, native))
    assert not isinstance(envs.make("Chain", 2), InArrays)


class Grows(gym.Env):
    """Every one has a number more to show than the one before it."""

    action_space, made = spaces.Discrete(2), 0

    def __init__(self) -> None:
        Grows.made += 1
        self.observation_space = spaces.Box(-1, 1, (Grows.made,))


def test_environments_of_different_spaces_are_refused() -> None:
    with pytest.raises(LogpiError) as said:
        envs.make(Grows, 3, "sync")
    assert str(said.value) == (
        "Environment 1 (Grows) has other spaces than environment 0: its constructor must not draw them."
    )
