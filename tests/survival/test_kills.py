"""SIGKILL at random moments: the run that is resumed again and again ends as the one that nobody touched, bit for bit."""

from pathlib import Path

import pytest
from exams import cases, here, kill

from logpi.methods import METHODS


@pytest.mark.parametrize(("method", "world", "count"), [*cases(30, list(METHODS))])
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(method, world, count, tmp_path: Path):
    told = kill(method, world, count, seed=sum(map(ord, method)), out=tmp_path, untouched=here)
    assert (told.kills, told.differences) == (count, [])
