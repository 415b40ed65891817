"""Shipped tasks: their answers are worth 1, their prompts are never in both splits, their letters suffice."""

import random

import pytest
import torch

from logpi import LogpiError
from logpi.lm import tasks
from logpi.lm.letters import letters
from logpi.lm.rewards import score
from logpi.lm.tasks import TASKS, draw
from logpi.lm.tasks.numbers import solves

TURNS = [name for name in TASKS if hasattr(TASKS[name], "reply")]  # test_episodes.py asks what their answers are worth
EXACT = [name for name in TASKS if name not in ("sentiment-toy", *TURNS)]  # whose answers are of any quality


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("level", [None, 3])
def test_right_answers_are_worth_one_and_wrong_ones_less(name, level):
    task = tasks.find(name, level)
    drawn = [draw(task, "train", 0, k) for k in range(200)]
    columns = {k: [x[k] for x in drawn] for k in drawn[0] if k != "prompt"}
    prompts, answers = ([x[k] for x in drawn] for k in ("prompt", "answer"))
    assert score(task.reward, prompts, answers, columns) == [1.0] * 200
    assert max(score(task.reward, prompts, ["=" + a for a in answers], columns)) < 1
    assert max(score(task.reward, prompts, [""] * 200, columns)) == 0


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("level", [None, 3])
def test_letters_and_the_limit_suffice(name, level):
    task = tasks.find(name, level)
    prompts, answers = ([draw(task, "train", 0, k)[x] for k in range(200)] for x in ("prompt", "answer"))
    answers = [turn for x in answers for turn in x] if name in TURNS else answers
    spelt = letters(task.letters)
    for text in prompts + answers:
        ids = spelt(text, add_special_tokens=False)["input_ids"]
        assert len(ids) == len(text) and spelt.decode(ids) == text
    assert max(map(len, answers)) < task.limit, "there is room for an end token"
    assert len({*prompts}) > 100


@pytest.mark.parametrize("name", TASKS)
def test_no_prompt_is_in_both_splits_and_examples_are_numbered(name):
    task = tasks.find(name)
    train = {draw(task, "train", 0, k)["prompt"] for k in range(500)}
    test = [draw(task, "test", 0, k) for k in range(100)]
    assert not train & {x["prompt"] for x in test}
    assert test[40:] == [draw(task, "test", 0, k) for k in range(40, 100)]
    assert test[:5] != [draw(task, "test", 1, k) for k in range(5)]


def test_countdown_takes_any_expression_of_all_numbers_and_runs_none():
    assert solves("(7+3)*2", [2, 7, 3], 20) and solves("2*(3+7)", [2, 7, 3], 20)
    for said in ("7+3*2", "10*2", "(7+3)*2*1", "7+3", "(7+3)*2)", "", "__import__('os')", "2**7", "7/0", "(" * 500):
        assert not solves(said, [2, 7, 3], 20)
    assert solves("8/(3-8/3)", [8, 3, 8, 3], 24), "fractions are exact"


def test_what_is_no_task_and_what_is_no_reward_is_refused():
    with pytest.raises(LogpiError, match=r"^./mine.py is a file: name the task in it, too, ./mine.py:MyTask.$"):
        tasks.find("./mine.py")
    with pytest.raises(LogpiError, match="no task 'adition'. Did you mean addition"):
        tasks.find("adition")
    with pytest.raises(LogpiError, match="is not a task: it has no letters"):
        tasks.find("logpi.lm.tasks.task:Task")
    for wrong, said in (
        ([1.0], "1 numbers for 2"),
        (None, "a NoneType"),
        ([1.0, float("nan")], "returned nan"),
        (["a", 1], "'a'"),
    ):
        with pytest.raises(LogpiError, match=said):
            score(lambda prompts, completions, w=wrong: w, ["p", "q"], ["x", "y"], {})


class Mine:
    letters, limit = "ab=", 4

    def __init__(self, level=1):
        self.level, self.far = level, 1 / (level - 2)
        self.limit = "3" if level == 3 else 4

    def example(self, chance):
        return {1: {"answer": "a"}, 4: "ab=", 5: {"prompt": 5}}[self.level]

    def reward(self, prompts, completions, **_):
        return [1 / 0]


def test_what_a_task_of_ones_own_does_wrong_is_told_with_its_name():
    found = lambda level=None: tasks.find(f"{__name__}:Mine", level)  # noqa: E731
    for level, said in (
        (2, "Mine cannot be made at level 2: its __init__ raised ZeroDivisionError"),
        (3, "Mine is not a task: its limit is '3', not a whole number above 0, or None"),
    ):
        with pytest.raises(LogpiError, match=said):
            found(level)
    for level, said in (
        (None, "The example of Mine is {'answer': 'a'}: return a dict whose prompt is a text, or a list of messages"),
        (4, "The example of Mine is 'ab=': return a dict"),
        (5, "The example of Mine is {'prompt': 5}: return a dict"),
        (6, "The example of Mine raised KeyError .6.: it must make one of any chance"),
    ):
        with pytest.raises(LogpiError, match=said):
            draw(found(level), "train", 0, 0)
    with pytest.raises(LogpiError, match="The reward of Mine raised ZeroDivisionError .*: it must have a number for"):
        score(found().reward, ["a"], ["b"], {})


def test_letters_that_are_not_in_the_alphabet_are_refused():
    with pytest.raises(Exception, match="unk|WordLevel"):
        letters("abc")("xyz")


def test_random_numbers_of_a_task_touch_no_global_generator():
    before = (random.getstate(), torch.get_rng_state())
    draw(tasks.find("countdown"), "train", 0, 0)
    assert random.getstate() == before[0] and torch.equal(torch.get_rng_state(), before[1])
