"""`envs.make` picks a backend and says which; what cannot be made is refused in one sentence that names the cure."""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from logpi import LogpiError, envs
from logpi.methods import GRPO, PPO
from logpi.run.setup import Settings, assemble


class Spaces(gym.Env):
    """Any two spaces."""

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space) -> None:
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        return self.observation_space.sample(), 0.0, False, True, {}


def refusal(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(LogpiError) as said:
        envs.make(*args, **kwargs)
    assert "\n" not in str(said.value)
    return str(said.value)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("CartPole-v", "CartPole-v1"), ("cartpole-v1", "CartPole-v1"), ("Bandt", "Bandit"), ("GridWorld", "Gridworld")],
)
def test_an_unknown_name_is_answered_with_the_nearest(wrong: str, right: str) -> None:
    said = refusal(wrong, 2)
    assert repr(wrong) in said and said.endswith(f"Did you mean {right}?")


def test_backends_that_an_environment_lacks_are_refused() -> None:
    assert "no native FrozenLake-v1" in refusal("FrozenLake-v1", 2, "native")
    assert "Acrobot-v1 has no vector entry point" in refusal("Acrobot-v1", 2, "vector")


@pytest.mark.parametrize("word", ["mujoco", "box2d"])
def test_a_missing_package_names_the_extra(word: str) -> None:
    def construct() -> gym.Env:
        raise gym.error.DependencyNotInstalled(f'{word} is not installed, run `pip install "gymnasium[{word}]"`')

    assert f'pip install "logpi[{word}]"' in refusal(construct, 1)


def test_mujoco_without_mujoco_names_the_extra() -> None:
    absent = "import sys; sys.modules['mujoco'] = None; from logpi import envs; envs.make('HalfCheetah-v5', 1)"
    done = subprocess.run([sys.executable, "-c", absent], capture_output=True, text=True)
    assert done.returncode == 1 and 'pip install "logpi[mujoco]"' in done.stderr.splitlines()[-1]


def test_every_extra_that_is_named_exists() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert set(envs.EXTRAS.values()) <= set(project["optional-dependencies"])


def test_a_constructor_that_takes_arguments_is_refused_in_a_sentence() -> None:
    assert "could not be made" in refusal(Spaces, 1)


VECTOR, CHOICE = spaces.Box(-1, 1, (3,)), spaces.Discrete(2)
UNEVEN = spaces.Box(-np.arange(1, 41, dtype=np.float32), np.ones(40, np.float32))


@pytest.mark.parametrize(
    ("observations", "actions", "words"),
    [
        (spaces.Text(9), CHOICE, "is no array: wrap the environment"),
        (spaces.Dict({"x": UNEVEN, "y": spaces.Sequence(CHOICE)}), CHOICE, r"\(the part y\) is no array"),
        (
            VECTOR,
            spaces.Text(9),
            "has no policy head: there are heads for Discrete, MultiDiscrete, MultiBinary and Box",
        ),
        (VECTOR, spaces.Tuple([CHOICE, spaces.Sequence(CHOICE)]), "has no policy head"),
        (
            spaces.Dict({"x": VECTOR, "action_mask": spaces.MultiBinary(3)}),
            CHOICE,
            "action_mask has 3 entries, and .* has 2 choices",
        ),
    ],
)
def test_spaces_that_no_policy_takes_are_refused_in_one_sentence(observations: Any, actions: Any, words: str) -> None:
    with pytest.raises(LogpiError, match=words) as said:
        assemble(PPO(envs=1), Settings(env="custom"), lambda: Spaces(observations, actions))
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("head", ["squashed", "beta"])
def test_bounded_heads_refuse_an_unbounded_box(head: Any) -> None:
    with pytest.raises(LogpiError, match=f"The {head} head needs a bounded Box.*--head gaussian"):
        assemble(
            PPO(envs=1), Settings(env="custom", head=head), lambda: Spaces(VECTOR, spaces.Box(-np.inf, np.inf, (2,)))
        )


def test_auto_takes_the_first_backend_there_is_and_says_which() -> None:
    assert envs.make("CartPole-v1", 2).backend == envs.make("Chain", 2).backend == "native"
    assert envs.make("FrozenLake-v1", 2).backend == envs.make(lambda: gym.make("CartPole-v1"), 2).backend == "sync"
    gym.register("logpi-tests/Pole-v0", entry_point=gym.spec("CartPole-v1").entry_point, max_episode_steps=500,
                 vector_entry_point=gym.spec("CartPole-v1").vector_entry_point)  # fmt: skip
    try:
        assert envs.make("logpi-tests/Pole-v0", 2).backend == "vector"
        assert envs.make("logpi-tests/Pole-v0", 2, seeded=True).backend == "sync"
        groups = assemble(GRPO(starts=2, group=2), Settings(env="logpi-tests/Pole-v0")).collect.envs
        assert groups.backend == "sync", "groups need equal starts"
    finally:
        del gym.registry["logpi-tests/Pole-v0"]


def test_steps_have_the_shapes_and_types_of_the_contract() -> None:
    for backend in ("native", "sync", "vector"):
        made = envs.make("CartPole-v1", 3, backend)
        assert made.reset([1, 2, 3]).shape == (3, 4)
        step = made.step(torch.zeros(3, dtype=torch.long))
        assert step.obs.shape == step.final.shape == (3, 4) and step.reward.shape == (3,)
        assert step.terminated.dtype == step.truncated.dtype == torch.bool and step.mask is None
