"""What an environment returns is checked, what it raises is named: in this process and in another, in the same words."""

import time
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from breaking import WAYS, BadStart, Fragile
from gymnasium import spaces

from logpi import LogpiError, envs
from logpi.errors import EnvironmentFailed
from logpi.workers.guard import Guard

SENTENCES = {
    "raise": "Environment 1 (Fragile) raised RuntimeError in step: the simulator went away. more of it.",
    "shape": "Environment 1 (Fragile) returned an obs of shape (3,) from step: expected is (2,).",
    "dtype": "Environment 1 (Fragile) returned an obs of dtype <U1 from step: expected is float64.",
    "reward": "Environment 1 (Fragile) returned the reward 'much' from step: expected is one real number.",
    "flag": "Environment 1 (Fragile) returned terminated 1 from step: expected is True or False.",
    "no reset": "Environment 1 (Fragile) raised OSError in reset: the level is gone.",
}


@pytest.mark.parametrize("backend", ["sync", "async"])
@pytest.mark.parametrize("way", SENTENCES)
def test_each_way_to_break_has_its_sentence(way: str, backend: str) -> None:
    made = envs.make(Fragile, 2, backend, workers=1)
    made.reset([1, 2])
    with pytest.raises(EnvironmentFailed) as said:
        made.step(torch.tensor([0, WAYS.index(way)]))
    made.close()
    assert str(said.value) == SENTENCES[way] and said.value.number == 1
    raised = way in ("raise", "no reset")
    assert raised == ("breaking.py" in said.value.details and "Traceback" in said.value.details)
    if raised and backend == "sync":
        assert isinstance(said.value.__cause__, RuntimeError | OSError)


class Gives(gym.Env):
    """Whatever it is told to return."""

    observation_space, action_space = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(2)

    def __init__(self, reset: Any = None, step: Any = None) -> None:
        self.first = (np.zeros(2), {}) if reset is None else reset
        self.then = step

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.first

    def step(self, action: int) -> Any:
        return self.then


def good(**change: Any) -> tuple:
    return tuple(
        ({"obs": np.zeros(2), "reward": 1.0, "terminated": False, "truncated": False, "info": {}} | change).values()
    )


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (good()[:4], "4 values from step: expected is (obs, reward, terminated, truncated, info)"),
        (None, "a NoneType from step: expected is (obs, reward,"),
        (good(obs=None), "an obs of dtype object from step: expected is float32"),
        (good(obs={"x": 1}), "an obs of dtype object"),
        (good(obs=[[1.0], [1.0, 2.0]]), "an obs of dtype object"),
        (good(obs=np.zeros(2, complex)), "an obs of dtype complex128"),
        (good(obs=np.zeros((1, 2))), "an obs of shape (1, 2) from step: expected is (2,)"),
        (good(reward=None), "the reward None"),
        (good(reward=np.zeros(1)), "the reward array([0.])"),
        (good(reward=1j), "the reward 1j"),
        (good(reward=10**400), "the reward 1000000000000000000000000000000000000..."),
        (good(terminated=None), "terminated None from step: expected is True or False"),
        (good(truncated=0.0), "truncated 0.0 from step: expected is True or False"),
    ],
)
def test_what_is_wrong_is_named(step: Any, words: str) -> None:
    guard = Guard(lambda: Gives(step=step), 7)
    guard.reset()
    with pytest.raises(EnvironmentFailed) as said:
        guard.step(0)
    assert str(said.value).startswith(f"Environment 7 (Gives) returned {words}")


@pytest.mark.parametrize(("reset", "words"), [(np.zeros(2), "a ndarray from reset: expected is (obs, info)"),
                                              ((np.zeros(3), {}), "an obs of shape (3,) from reset")])  # fmt: skip
def test_a_wrong_reset_is_named(reset: Any, words: str) -> None:
    with pytest.raises(EnvironmentFailed) as said:
        Guard(lambda: Gives(reset=reset), 0).reset()
    assert words in str(said.value)


@pytest.mark.parametrize(
    "step",
    [good(obs=[0.5, -0.5]), good(obs=torch.zeros(2)), good(reward=np.float32(0.5)), good(reward=3), good(reward=True),
     good(reward=np.array(2)), good(reward=torch.tensor(1.5)), good(terminated=np.bool_(True))],
)  # fmt: skip
def test_what_means_the_same_is_taken(step: Any) -> None:
    guard = Guard(lambda: Gives(step=step), 0)
    guard.reset()
    obs, reward, terminated, truncated, _ = guard.step(0)
    assert obs.dtype == np.float32 and np.array_equal(obs, np.asarray(step[0], np.float32))
    assert (type(reward), reward) == (float, float(step[1])) and type(terminated) is type(truncated) is bool
    assert (terminated, truncated) == (bool(step[2]), False)


def test_integers_are_not_made_of_fractions() -> None:
    class Whole(Gives):
        observation_space = spaces.Box(0, 255, (2,), np.uint8)

    with pytest.raises(EnvironmentFailed, match="an obs of dtype float64 from reset: expected is uint8"):
        Guard(Whole, 0).reset()


def test_a_constructor_that_gives_something_else_is_refused() -> None:
    with pytest.raises(LogpiError) as said:
        envs.make(lambda: 3, 1, "sync")  # type: ignore[arg-type,return-value]
    assert str(said.value) == "The environment's constructor gave a int: it must give a gymnasium.Env."


def test_a_constructor_that_fails_in_the_worker_alone_is_named() -> None:
    with pytest.raises(EnvironmentFailed) as said:
        envs.make(BadStart, 3, "async", workers=2)
    assert str(said.value) == "Environment 0 (BadStart) raised ConnectionError in its constructor: port 5000 is taken."
    assert "breaking.py" in said.value.details


def test_watching_costs_some_microseconds() -> None:
    guard, bare = Guard(lambda: Gives(step=good(obs=np.zeros(2, np.float32))), 0), Gives(step=good())
    guard.reset()
    cost = []
    for env in (bare, guard):
        best = 1.0
        for _ in range(5):
            began = time.perf_counter()
            for _ in range(1000):
                env.step(0)
            best = min(best, time.perf_counter() - began)
        cost.append(best / 1000)
    assert cost[1] - cost[0] < 20e-6
