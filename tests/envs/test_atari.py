"""Atari games: what the literature puts around them, games counted whole, and the same seen in a single one."""

from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("ale_py")

from logpi import envs
from logpi.envs.atari import one
from logpi.envs.gym import Gymnasium
from logpi.methods import PPO
from logpi.run.setup import Settings, assemble

STICKY, PLAIN = "ALE/Breakout-v5", "BreakoutNoFrameskip-v4"


def made(name: str, n: int = 2, **options: Any) -> Gymnasium:
    asked = envs.construction(name, [f"{k}={str(v).lower()}" for k, v in options.items()])
    found = envs.make(asked, n)
    assert isinstance(found, Gymnasium) and found.backend == "vector"
    return found


def played(env: Gymnasium, steps: int, seed: int = 0) -> list[Any]:
    env.reset([seed, seed + 1])
    draw = np.random.default_rng(seed)
    return [env.step_array(draw.integers(4, size=env.n)) for _ in range(steps)]


def test_pictures_are_four_grey_frames_of_84_and_rewards_are_scores() -> None:
    env = made(PLAIN)
    assert env.observation_space.shape == (4, 84, 84) and env.observation_space.dtype == np.uint8
    steps = played(env, 400)
    assert all(x.obs.dtype == np.uint8 for x in steps) and max(x.reward.max() for x in steps) >= 1
    for name in ("ALE/SpaceInvaders-v5", "SpaceInvadersNoFrameskip-v4"):
        other = made(name)
        other.reset([1, 2])
        draw = np.random.default_rng(0)
        assert max(other.step_array(draw.integers(6, size=2)).reward.max() for _ in range(300)) >= 5, "no signs"


def test_a_life_ends_an_episode_without_sticky_actions_and_a_game_with_them() -> None:
    lives = played(made(PLAIN), 600)
    ended = [x for x in lives if x.terminated.any()]
    over = [x for x in ended if (x.terminated & ~x.going).any()]
    assert len(ended) > 3 * len(over) > 0, "five lives a game"
    whole = played(made(STICKY), 600)
    assert all(x.going is None for x in whole) and 0 < sum(int(x.terminated.sum()) for x in whole) < 20


def test_the_observation_before_a_reset_is_the_final_one() -> None:
    env = made(STICKY)
    for x in played(env, 500):
        for i in (x.terminated | x.truncated).nonzero()[0]:
            assert not np.array_equal(x.final[i], x.obs[i])
        rest = ~(x.terminated | x.truncated)
        assert np.array_equal(x.final[rest], x.obs[rest])


def test_only_sticky_actions_repeat_what_was_not_asked_for() -> None:
    """One seed, two sequences of actions that part at step 60: both games are the same up to there, in either kind."""
    for name in (STICKY, PLAIN):
        env = made(name, 1)
        runs = []
        for last in (2, 3):
            env.reset([7])
            runs.append([env.step_array(np.array([1 if t < 60 else last])).obs for t in range(80)])
        same = [np.array_equal(a, b) for a, b in zip(*runs, strict=True)]
        assert all(same[:60]) and not all(same)
    assert made(STICKY).env.ale is not None


def test_options_reach_the_emulator() -> None:
    env = made(PLAIN, life_loss_info=False, stack_num=2, noop_max=1)
    assert env.observation_space.shape == (2, 84, 84)
    assert all(x.going is None for x in played(env, 50))


def test_games_are_counted_whole_and_learnt_by_their_signs() -> None:
    settings = {"clip_reward": True, "normalise_reward": False, "threads": 1, "fast": "off"}
    parts = assemble(PPO(envs=2, length=300, epochs=1), Settings(env=PLAIN, **settings))
    batch = parts.collect(parts.policy, parts.critic)
    assert batch.obs.dtype == torch.uint8 and set(batch.reward.unique().tolist()) <= {-1.0, 0.0, 1.0}
    lives, games = int(batch.terminated.sum()), parts.collect.finished
    assert lives > games > 0, "an episode is a life, a game has five"
    returns, lengths = zip(*parts.collect.recent, strict=True)
    assert max(lengths) > 60 and all(float(r).is_integer() for r in returns)
    assert parts.collect.steps_before.le(parts.collect.length_before).all()
    parts.collect.envs.close()


def test_a_single_game_shows_the_same_space() -> None:
    pytest.importorskip("cv2")
    for name in (STICKY, PLAIN):
        spec = envs.construction(name)
        env = one(envs._spec(spec.base), {}, "rgb_array")
        obs, _ = env.reset(seed=1)
        assert env.observation_space.shape == (4, 84, 84) and np.asarray(obs).shape == (4, 84, 84)
        assert env.render().ndim == 3
        env.close()
