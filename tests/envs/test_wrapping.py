"""Wrappers with keywords, which are read and never run; and those that a policy could not follow."""

import pickle

import pytest
import torch

from logpi import LogpiError, envs
from logpi.run.paths import wrappers


def test_a_wrapper_takes_keywords() -> None:
    asked = envs.construction(
        "CartPole-v1",
        wrap=[
            "gymnasium.wrappers:TimeLimit(max_episode_steps=3)",
            "gymnasium.wrappers:FrameStackObservation(stack_size=2, padding_type='zero')",
        ],
    )
    made = envs.make(pickle.loads(pickle.dumps(asked)), 1)
    assert made.reset([1]).shape == (1, 8), "two frames, one vector"
    ends = [bool(made.step(torch.tensor([t % 2])).truncated) for t in range(6)]
    assert ends == [False, False, True] * 2


@pytest.mark.parametrize(
    "call",
    [
        "(3)",
        "(max_episode_steps=open('x'))",
        "(a=1)(b=2)",
        "(**{'a': 1})",
        "(a=)",
        "(*[1])",
        "(a=" + "[" * 10_000 + ")",
    ],
    ids=lambda x: x[:30],
)
def test_what_is_no_keyword_with_a_value_is_refused(call: str) -> None:
    with pytest.raises(
        LogpiError, match=r"^--wrap takes PATH:Name\(key=value\), not \(.*: values are numbers, texts or"
    ):
        envs.construction("CartPole-v1", wrap=[f"gymnasium.wrappers:TimeLimit{call}"])


def test_keywords_that_a_wrapper_lacks_are_told() -> None:
    for call in ("", "(steps=3)"):
        with pytest.raises(LogpiError, match="could not be made: TypeError: TimeLimit.__init__"):
            envs.make(envs.construction("CartPole-v1", wrap=[f"gymnasium.wrappers:TimeLimit{call}"]), 1)


@pytest.mark.parametrize(("name", "cure"), [("NormalizeObservation", "obs"), ("NormalizeReward(gamma=0.9)", "reward")])
def test_wrappers_whose_statistics_stay_behind_are_refused(name: str, cure: str) -> None:
    with pytest.raises(LogpiError, match=f"no policy.act and no evaluation knows: use --normalise-{cure}."):
        envs.construction("CartPole-v1", wrap=[f"gymnasium.wrappers:{name}"])


def test_a_folder_may_name_wrappers_that_write_nothing() -> None:
    limit = "gymnasium.wrappers:TimeLimit(max_episode_steps=3)"
    assert wrappers([limit], [], "x") == [limit]
    for film in ("gymnasium.wrappers:RecordVideo(video_folder='/')", "gymnasium.wrappers.rendering:RecordVideo"):
        with pytest.raises(LogpiError, match="names a wrapper of yours"):
            wrappers([film], [], "x")
    with pytest.raises(LogpiError, match="has other wrappers"):
        wrappers([limit], [limit.replace("3", "4")], "x")
