"""Atari games: what the literature puts around them, games counted whole, and the same seen in a single one."""

from typing import Any

import numpy as np
import pytest
import torch

from logpi import LogpiError, envs
from logpi.envs.gym import Gymnasium
from logpi.methods import GRPO, PPO
from logpi.run.play import environment
from logpi.run.setup import Settings, assemble
from logpi.workers.game import Game

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


NOTHING_RANDOM = {"noop_max": 0, "life_loss_info": False}
FIRM = {"noop_max": 0, "repeat_action_probability": 0.0}
AROUND = ["gymnasium.wrappers:RecordEpisodeStatistics"]


def single(name: str, wrap: Any = (), backend: Any = "sync", n: int = 1, **options: Any) -> Any:
    asked = envs.construction(name, [f"{k}={str(v).lower()}" for k, v in options.items()], wrap)
    return envs.make(asked, n, backend, workers=1)


@pytest.mark.parametrize(
    ("game", "options"),
    [
        ("Breakout", {}),
        ("SpaceInvaders", {"frameskip": 3, "stack_num": 2}),
        ("MsPacman", {"img_height": 60, "img_width": 42}),
        ("Pong", {"use_fire_reset": False, "full_action_space": True}),
        ("Breakout", {"noop_max": 1, "frameskip": 1, "num_threads": 1}),
        ("Freeway", {"max_num_frames_per_episode": 200}),
        ("Breakout", {"max_num_frames_per_episode": 201}),
    ],
)
def test_a_single_game_is_the_vector_environments_frame_for_frame(game: str, options: dict[str, Any]) -> None:
    """Across the end of a game, where one is reached."""
    every = NOTHING_RANDOM | options
    one, many = single(f"{game}NoFrameskip-v4", **every), made(f"{game}NoFrameskip-v4", 1, **every)
    assert one.observation_space == many.observation_space and one.action_space == many.action_space
    assert torch.equal(one.reset([5]), many.reset([5]))
    draw = np.random.default_rng(0)
    for _ in range(300):
        action = draw.integers(many.action_space.n, size=1)
        ours, theirs = one.step_array(action), many.step_array(action)
        for name in ("obs", "final", "reward", "terminated", "truncated"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name


def test_colours_are_the_same_too() -> None:
    every = NOTHING_RANDOM | {"grayscale": False}
    one = Game(envs.spec_of(PLAIN))(**every)
    many = made(PLAIN, 1, **every).env
    assert one.observation_space == many.single_observation_space
    assert np.array_equal(one.reset(seed=5)[0], many.reset(seed=5)[0][0])
    for action in (0, 2, 3, 0, 1):
        assert np.array_equal(one.step(action)[0], many.step(np.array([action]))[0][0])


@pytest.mark.parametrize(
    ("backend", "wrap"), [("sync", ()), ("async", ()), ("auto", AROUND), ("async", AROUND)], ids=str
)
def test_every_backend_and_wrapper_has_the_literatures_pictures(backend: Any, wrap: Any) -> None:
    env, many = single(STICKY, wrap, backend, **FIRM), made(STICKY, 1, **FIRM)
    assert env.observation_space == many.observation_space and env.backend != "vector"
    assert torch.equal(env.reset([5]), many.reset([5]))
    env.close()


def test_groups_begin_in_the_literatures_pictures() -> None:
    options = ("max_num_frames_per_episode=80",)
    parts = assemble(GRPO(starts=1, group=2), Settings(env=STICKY, env_options=options, threads=1, fast="off"))
    obs = parts.collect(parts.policy, None).obs
    assert obs.shape[:2] == (1, 2) and obs.shape[3:] == (4, 84, 84) and torch.equal(obs[0, 0, 0], obs[0, 1, 0])


def test_a_single_game_idles_and_fires_as_the_vector_environment_does() -> None:
    game = Game(envs.spec_of(STICKY))()
    frames = {game.reset(seed=seed)[1]["episode_frame_number"] for seed in range(3)}
    assert frames == {0}, "as told before the start was played"
    began = {game.unwrapped.ale.getEpisodeFrameNumber() for seed in range(12) if game.reset(seed=seed)}
    assert min(began) >= 1 and max(began) <= 29 and len(began) > 5


def test_ales_own_environment_is_still_there() -> None:
    for options, shape in (({"obs_type": "ram"}, (128,)), ({"obs_type": "rgb"}, (210, 160, 3))):
        assert (
            envs.make(envs.construction(STICKY, [f"{k}={v}" for k, v in options.items()]), 1).reset([1]).shape[1:]
            == shape
        )


def test_what_a_single_game_cannot_do_is_told() -> None:
    with pytest.raises(
        LogpiError, match="Only ALE's vector environment ends an episode of BreakoutNoFrameskip-v4 with"
    ):
        single(PLAIN)
    with pytest.raises(LogpiError, match=r"no option maxpool=False, which --backend vector may have"):
        single(STICKY, maxpool=False)
    with pytest.raises(LogpiError, match=r"no option stack_nun=3.*Did you mean stack_num\?"):
        single(STICKY, stack_nun=3)
    assert single(STICKY, maxpool=True, reward_clipping=False).n == 1


def test_a_game_that_is_watched_is_the_one_that_was_trained_on() -> None:
    for name in (STICKY, PLAIN):
        asked = envs.construction(name, ["noop_max=0", "repeat_action_probability=0.0", "stack_num=3"])
        env = environment(name, asked, "rgb_array")
        assert np.array_equal(env.reset(seed=5)[0], made(name, 1, stack_num=3, **FIRM).reset([5])[0].numpy())
        assert env.render().ndim == 3
        assert next(t for t in range(500) if env.step(t % 2)[2]) > 100
        assert env.unwrapped.ale.lives() == 0, "a game, not a life"
        env.close()
