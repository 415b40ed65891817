"""The reward of a task of the user's runs in a process that can be killed, as their reward functions do."""

import os

import pytest

from logpi import LogpiError
from logpi.run.language import Text, rewards_of

MINE = """
import os, time
from logpi.lm.tasks.texts import Copy

class Moody(Copy):
    def reward(self, prompts, completions, answer, **_):
        if "hang" in completions:
            time.sleep(600)
        if "raise" in completions:
            raise KeyError("no mood")
        if "pid" in completions:
            return [float(os.getpid())] * len(completions)
        return [float(self.length)] * len(completions)
"""


@pytest.fixture
def moody(tmp_path, request):
    (tmp_path / "mine.py").write_text(MINE)
    settings = Text(task=f"{tmp_path / 'mine.py'}:Moody", level=3, reward_limit=2.0, reward_failed=-1.0)
    made = rewards_of(settings)
    yield made
    made.close()


def asked(rewards, *said: str) -> list[float]:
    return rewards([{"prompt": f"{k}=", "answer": "a"} for k in range(len(said))], [*said]).tolist()


def test_it_has_a_process_and_the_tasks_level(moody):
    moody.must_load()
    assert asked(moody, "a", "b") == [3.0, 3.0] and moody.told == {"reward_failures": 0.0}
    assert asked(moody, "pid") != [os.getpid()]


@pytest.mark.parametrize(("bad", "why"), [("hang", "it took more than 2 s"), ("raise", "KeyError: 'no mood'")])
def test_what_breaks_costs_its_own_completion_and_is_counted_and_told(moody, bad, why):
    with pytest.warns(
        UserWarning, match=rf"The reward of Moody failed for 1 of 2 completions \({why}\): each counts as -1"
    ):
        assert asked(moody, "a", bad) == [3.0, -1.0]
    assert moody.told == {"reward_failures": 1.0}


def test_a_task_that_cannot_be_made_there_is_refused(moody, tmp_path):
    (tmp_path / "mine.py").write_text("raise RuntimeError('gone')")
    with pytest.raises(LogpiError, match="The reward .*mine.py:Moody cannot be loaded: RuntimeError: gone"):
        moody.must_load()
