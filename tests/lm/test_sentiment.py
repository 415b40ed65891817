"""The toy world of preferences: what answers are worth, and how often the better one is preferred."""

import math
import random

import pytest

from logpi import LogpiError
from logpi.lm import tasks
from logpi.lm.tasks import draw
from logpi.lm.tasks.sentiment import STEEP, UNFRIENDLY, VALUE, SentimentToy


@pytest.mark.parametrize(
    ("said", "worth"),
    [
        ("good fine kind", 1.0),
        ("good good good", 1 / 3),
        ("good new bad", 0.0),
        ("bad bad bad", -1 / 3),
        ("cold dull sour", -1.0),
        ("good fine kin", 1 / 3),
        ("good  fine", 1 / 3),
        ("good", 1 / 3),
        ("", 0.0),
        ("good fine kind warm", 2 / 3),
    ],
)
def test_what_answers_are_worth(said, worth):
    assert SentimentToy().reward([""], [said]) == [pytest.approx(worth)]


def test_nothing_is_worth_more_than_distinct_friendly_words():
    chance, task = random.Random(0), SentimentToy()
    said = [" ".join(chance.choice([*VALUE, "", "x"]) for _ in range(chance.randrange(1, 6))) for _ in range(5000)]
    assert max(task.reward([], said)) == 1.0
    assert all(task.worth(x) < 1 for x in said if len({*x.split(" ")}) < 3)
    assert len({w[0] for w in VALUE}) == len(VALUE) == 3 * len(UNFRIENDLY), "the first letter decides"


def test_demonstrations_are_of_mixed_quality():
    task = tasks.find("sentiment-toy")
    worth = task.reward([], [draw(task, "train", 0, k)["answer"] for k in range(2000)])
    assert abs(sum(worth) / 2000) < 0.04 and min(worth) == -1 and max(worth) == 1
    assert {len(draw(tasks.find("sentiment-toy", 5), "train", 0, k)["answer"].split()) for k in range(50)} == {5}


def test_preferences_are_those_of_bradley_and_terry():
    task = tasks.find("sentiment-toy")
    pairs = [draw(task, "train", 0, k, "preference") for k in range(4000)]
    assert pairs[7] == draw(task, "train", 0, 7, "preference")
    for apart in (1 / 3, 2 / 3):
        better = [
            task.worth(x["chosen"]) > task.worth(x["rejected"])
            for x in pairs
            if abs(abs(task.worth(x["chosen"]) - task.worth(x["rejected"])) - apart) < 1e-9
        ]
        p, n = 1 / (1 + math.exp(-STEEP * apart)), len(better)
        assert abs(sum(better) - n * p) < 4 * (n * p * (1 - p)) ** 0.5
    held = {draw(task, "test", 0, k, "preference")["prompt"] for k in range(200)}
    assert not held & {x["prompt"] for x in pairs}


def test_a_task_without_preferences_says_so():
    with pytest.raises(LogpiError, match=r"Addition has no preferences: give --data"):
        draw(tasks.find("addition"), "train", 0, 0, "preference")
