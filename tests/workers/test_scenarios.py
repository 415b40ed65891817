"""A pull request's share of the kills, hangs, exceptions, wrong shapes and orphaned workers; `make soak` does the rest."""

from pathlib import Path

import pytest
import scenarios
from breaking import Deadly, Flaky

from logpi.methods import GRPO


def test_ten_kills_lose_and_double_nothing() -> None:
    scenarios.kills(10)


def test_three_hangs_are_found_in_time() -> None:
    scenarios.hangs(3)


@pytest.mark.parametrize("way", ["raise", "shape", "dtype"])
def test_three_failures_of_one_environment_leave_its_neighbours_alone(way: str) -> None:
    scenarios.failures(way, 3)


def test_rows_are_whole_episodes_whatever_breaks() -> None:
    scenarios.whole_episodes(10, Flaky)
    scenarios.whole_episodes(5, Deadly)
    scenarios.whole_episodes(5, Flaky, GRPO(starts=2, group=3))


def test_a_killed_parent_leaves_no_process_and_no_shared_memory(tmp_path: Path) -> None:
    scenarios.parent_deaths(5, tmp_path)
