"""NaN and infinities stop a run at once and are named; nothing trains on them in silence."""

from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import pytest

import logpi
from logpi import average, objective, psi
from logpi.step.gradient import ascend


def cartpole_with(what, bad):
    class Bad(gym.Wrapper):
        steps = 0

        def step(self, action):
            obs, reward, *ends = self.env.step(action)
            Bad.steps += 1
            if Bad.steps == 150:
                obs, reward = (np.full_like(obs, bad), reward) if what == "obs" else (obs, bad)
            return obs, reward, *ends

    return lambda: Bad(gym.make("CartPole-v1"))


@pytest.mark.parametrize("method", ["trpo", "npg", "ppo", "reinforce", "grpo"])
@pytest.mark.parametrize(("what", "bad"), [("reward", float("nan")), ("obs", float("inf"))])
def test_a_bad_number_of_the_environment_stops_the_run_and_is_named(method, what, bad):
    with pytest.raises(logpi.LogpiError, match=f"rollout's {what} holds NaN or inf: look at the environment"):
        list(logpi.learn(method, cartpole_with(what, bad), steps=2_000))


def test_diverged_parameters_are_named():
    with pytest.raises(logpi.LogpiError, match="lower the learning rate"):
        list(logpi.learn("ppo", lr=1e30, steps=20_000))


@dataclass(frozen=True)
class NoRate:
    """A page that ascends but forgot its learning rate."""

    episodes: int = 2
    rows, critic = "episodes", None

    def psi(self, b, state):
        return psi.reward_to_go(b.reward, b.ended), None

    def objective(self, now, b, state):
        return objective.score(now.log_pi, b.psi)

    def average(self, mask):
        return average.weights("per_episode", mask)

    def step(self, surrogate, kl, rows, optimizer):
        return ascend(surrogate, rows, optimizer)


def test_a_page_that_ascends_without_a_learning_rate_is_told():
    with pytest.raises(logpi.LogpiError, match="give it a field lr"):
        next(logpi.learn(NoRate))


def test_integer_rewards_are_discounted_like_any_other():
    import torch

    ended = torch.zeros(3, dtype=torch.bool)
    whole = psi.reward_to_go(torch.ones(3, dtype=torch.long), ended, 0.5)
    assert whole.tolist() == [1.75, 1.5, 1.0]
