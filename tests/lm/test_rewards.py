"""Reward functions of the user's: whatever they do, the run goes on."""

import time
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch

import logpi
from logpi import LogpiError
from logpi.lm import tasks
from logpi.lm.judges import Judge
from logpi.lm.rewards import Rewards, score

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

def mixed(prompts, completions, **columns):
    worth = {"nan": float("nan"), "inf": 1e400, "word": "one", "none": None, "error": TimeoutError("it was slow"), "yes": True}
    return [worth.get(c, 2.0) for c in completions]

def odd(prompts, completions, **columns):
    return [float(len(c) % 2) for c in completions]

def numpy(prompts, completions, **columns):
    import numpy as np
    return np.ones(len(completions), np.float32) if completions[0] == "array" else [np.float32(1.0), np.array([1.0])]

def texts(prompts, completions, **columns):
    import numpy as np
    return np.array(["1"] * len(completions))

def nothing(prompts, completions, **columns):
    return None

def one_number(prompts, completions, **columns):
    return 1.0

async def dies(prompts, completions, **columns):
    raise RuntimeError("no network")

class Counts:
    async def __call__(self, prompts, completions, **columns):
        return [len(prompts)] * len(prompts)

counts = Counts()

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


def test_two_of_one_name_are_told_apart(judge):
    rewards = Rewards(tasks.find("copy"), [judge("length"), judge("few"), judge("length")])
    rewards([{"prompt": "ab=", "answer": "ab"}], ["abc"])
    assert rewards.told == {"reward/length": 3.0, "reward/few": 1.0, "reward/length-2": 3.0, "reward_failures": 0.0}


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


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("nan", "it returned nan, which is no finite number"),
        ("inf", "it returned inf, which is no finite number"),
        ("word", "it returned a str, which is no number"),
        ("none", "it returned a NoneType, which is no number"),
        ("error", "TimeoutError: it was slow"),
    ],
)
def test_what_is_no_number_fails_alone_and_is_told_in_one_sentence(judge, bad, reason):
    rewards = Rewards(tasks.find("copy"), [judge("mixed", failed=-0.5)])
    examples = [{"prompt": "p", "answer": "a"}] * 3
    with pytest.warns(UserWarning) as told:
        assert rewards(examples, ["yes", bad, "good"]).tolist() == [1.0, -0.5, 2.0]
    assert [str(x.message) for x in told] == [
        f"The reward mixed failed for 1 of 3 completions ({reason}): each counts as -0.5."
    ]
    assert rewards.told == {"reward_failures": 1.0}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nothing", "it returned a NoneType, not a list of numbers"),
        ("one_number", "it returned a float, not a list of numbers"),
        ("dies", "RuntimeError: no network"),
        ("few", "it returned 1 numbers for 2 completions"),  # and 1 for 1, were it asked in halves
    ],
)
def test_what_is_no_list_of_the_right_length_fails_whole(judge, name, reason):
    asked = judge(name, failed=3.0)
    assert asked(["p", "q"], ["a", "b"]) == [3.0, 3.0] and (asked.failures, asked.reason) == (2, reason)


def test_numbers_of_numpy_and_torch_are_numbers(judge):
    for first in ("array", "list"):
        assert judge("numpy")(["p", "q"], [first, "b"]) == [1.0, 1.0]
    asked = judge("texts", failed=3.0)
    assert asked(["p"], ["a"]) == [3.0] and asked.reason == "it returned a str, which is no number"


@pytest.mark.parametrize("found", [[np.float32(1.0), True], np.array([1, 1]), torch.ones(2, 1), (torch.ones(()), 1.0)])
def test_those_of_a_task_too(found):
    assert score(lambda **_: found, ["p", "q"], ["a", "b"], {}) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (np.array(["1", "1"]), "returned .*'1'.* for the completion 'a': return a finite number"),
        (np.ones((2, 2)), "for the completion 'a': return a finite number"),
        (["1", 1.0], "returned '1' for the completion 'a'"),
        ([torch.tensor(float("nan")), 1.0], "for the completion 'a': return a finite number"),
        (torch.ones(()), "returned a Tensor for 2 completions"),
        (np.ones(3), "returned 3 numbers for 2 completions"),
        ("11", "returned a str for 2 completions"),
    ],
)
def test_what_a_task_returns_beside_them_is_refused(found, words):
    with pytest.raises(LogpiError, match=words):
        score(lambda **_: found, ["p", "q"], ["a", "b"], {})


@pytest.mark.filterwarnings("ignore:The reward dies failed")
def test_what_is_told_of_rewards_is_of_all_rounds_of_prompts(judge):
    paths = tuple(judge(name).path for name in ("odd", "dies"))
    record = next(logpi.learn("dapo", task="addition", level=1, starts=6, group=2, reward=paths, reward_failed=-1.0))
    assert record.parts.collect.drawn > 6, "several rounds"
    assert record["reward_failures"] == record["episodes"] == 2 * record.parts.collect.drawn
    assert record["reward"] == pytest.approx(record["reward/odd"] - 1) and record["reward/dies"] == -1


def test_a_call_that_is_awaited_is_one_too(judge):
    assert judge("counts")(["p", "q"], ["a", "b"]) == [2.0, 2.0]


def test_the_same_question_has_the_same_answer_after_a_failure(judge):
    asked = judge("moody", limit=2.0)
    first = asked(["p"] * 3, ["a", "die", "b"])
    assert asked(["p"] * 3, ["a", "die", "b"]) == first == [1.0, 0.0, 1.0]


def test_what_a_reward_starts_ends_with_it(judge, tmp_path):
    (tmp_path / "parent.py").write_text(
        "import subprocess, sys, time\n"
        "def f(prompts, completions, **_):\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
        f"    open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
        "    time.sleep(1000)\n"
    )
    asked = Judge(f"{tmp_path / 'parent.py'}:f", limit=2.0)
    assert asked(["p"], ["c"]) == [0.0]
    status = Path("/proc", (tmp_path / "pid").read_text(), "stat")
    wait_for(lambda: not status.exists() or status.read_text().split()[2] == "Z")


def wait_for(done, seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("g = 1", "has no 'f'"),
        ("import os; os._exit(7)", "its process ended .exit code 7."),
        ("import time; time.sleep(1000)", "it took more than 2 s"),
    ],
)
def test_a_function_that_is_not_there_is_refused_before_anything_is_asked(judge, tmp_path, monkeypatch, text, said):
    monkeypatch.setattr("logpi.lm.judges.LOADING", 2.0)
    (tmp_path / "broken.py").write_text(text)
    with pytest.raises(LogpiError, match=f"The reward .*broken.py:f cannot be loaded: .*{said}"):
        Judge(f"{tmp_path / 'broken.py'}:f").must_load()


def test_a_sentence_that_quotes_a_question_ends_once(judge):
    with pytest.raises(LogpiError, match=r"mine.py has no 'nothin'. Did you mean nothing\?$"):
        judge("nothin").must_load()


def test_a_large_request_to_a_process_that_never_reads_is_given_up(tmp_path):
    (tmp_path / "stuck.py").write_text("def f(**x):\n    import time\n    time.sleep(1000)\n")
    asked = Judge(f"{tmp_path / 'stuck.py'}:f", limit=0.5)
    assert asked(["p" * 500_000], ["c" * 500_000]) == [0.0]
    asked.close()


def test_a_column_that_json_cannot_hold_is_named(judge):
    with pytest.raises(LogpiError, match="The column day has what JSON cannot hold .*date.*: make it text or numbers"):
        judge("length")(["p"], ["c"], answer=["a"], day=[date(2026, 1, 1)])
