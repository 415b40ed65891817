"""Reward functions of the user's: whatever they do, the run goes on."""

import time

import pytest
import torch

from logpi import LogpiError
from logpi.lm import tasks
from logpi.lm.judges import Judge
from logpi.lm.rewards import Rewards

FUNCTIONS = """
import os, time

def length(prompts, completions, **columns):
    print("noise on stdout")
    return [float(len(c)) for c in completions]

async def answers(prompts, completions, answer, **columns):
    return [float(c == a) for c, a in zip(completions, answer)]

def moody(prompts, completions, **columns):
    for c in completions:
        if c == "hang":
            time.sleep(1000)
        if c == "die":
            os._exit(3)
        if c == "eat":
            bytearray(4 << 30)
        if c == "raise":
            raise ValueError("no " + c)
    return [float("nan") if c == "nan" else 1.0 for c in completions]

def few(prompts, completions, **columns):
    return [1.0]
"""


@pytest.fixture
def judge(tmp_path):
    (tmp_path / "mine.py").write_text(FUNCTIONS)
    made = []

    def make(name: str, **how) -> Judge:
        made.append(Judge(f"{tmp_path / 'mine.py'}:{name}", **how))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_several_with_weights_synchronous_and_not_with_columns(judge):
    rewards = Rewards(tasks.find("copy"), [judge("length"), judge("answers")], [0.5, 2.0])
    examples = [{"prompt": "ab=", "answer": "ab"}, {"prompt": "c=", "answer": "c"}]
    assert rewards(examples, ["ab", "xyz"]).tolist() == [0.5 * 2 + 2.0, 0.5 * 3]
    assert rewards.told == {"reward/length": 2.5, "reward/answers": 0.5, "reward_failures": 0.0}
    with pytest.raises(LogpiError, match="2 rewards and 1 weights"):
        Rewards(tasks.find("copy"), [judge("length"), judge("answers")], [1.0])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("hang", "more than 2 s"),
        ("die", "exit code 3"),
        ("eat", "MemoryError"),
        ("raise", "ValueError: no raise"),
        ("nan", "no finite number"),
    ],
)
def test_what_breaks_costs_its_own_reward_alone(judge, bad, reason):
    asked = judge("moody", limit=2.0, memory=2048, failed=-1.0)
    began = time.monotonic()
    found = asked(["p"] * 4, ["a", bad, "b", "c"])
    assert found == [1.0, -1.0, 1.0, 1.0] and asked.failures == 1 and reason in asked.reason
    assert time.monotonic() - began < 30
    assert asked(["p"], ["fine"]) == [1.0], "and the next batch is judged as ever"


def test_a_function_that_always_hangs_is_given_up_and_told_once(judge):
    rewards = Rewards(tasks.find("copy"), [judge("moody", limit=0.5)])
    examples = [{"prompt": "p", "answer": "a"}] * 64
    began = time.monotonic()
    with pytest.warns(UserWarning, match="failed for 64 of 64 completions .it took more than 0.5 s.: each counts as 0"):
        assert torch.equal(rewards(examples, ["hang"] * 64), torch.zeros(64, dtype=torch.float64))
    assert time.monotonic() - began < 10, "not 64 times the limit"


def test_too_few_numbers_are_a_failure_until_one_is_right(judge):
    asked = judge("few", failed=0.25)
    assert asked(["p", "q"], ["a", "b"]) == [1.0, 1.0], "asked one by one it is right"


def test_a_large_request_to_a_process_that_never_reads_is_given_up(judge, tmp_path):
    (tmp_path / "stuck.py").write_text("import time\ntime.sleep(1000)\ndef f(**x): return []\n")
    asked = Judge(f"{tmp_path / 'stuck.py'}:f", limit=0.5)
    assert asked(["p" * 500_000], ["c" * 500_000]) == [0.0]
    asked.close()
