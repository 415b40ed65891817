"""The number of workers is found by a trial: what waits gets more of them than there are cores."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from breaking import BadStart, Busy, Slow

from logpi import envs
from logpi.workers import work
from logpi.workers.guard import Guard


@pytest.mark.parametrize(
    ("cores", "share", "workers"),
    [(1, 1.0, 1), (2, 1.0, 2), (4, 1.0, 6), (2, 0.95, 2), (2, 0.5, 4), (2, 0.04, 16), (4, 0.0, 16), (2, 1.3, 2)],
)
def test_waiting_is_filled_with_other_processes(
    cores: int, share: float, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "cores", lambda: cores)
    assert work.workers_for(16, share) == workers and work.workers_for(3, share) == min(3, workers)


def test_a_trial_tells_work_from_waiting() -> None:
    busy, slow = work.measure(Guard(Busy, 0)), work.measure(Guard(Slow, 0))
    assert slow["share"] < 0.5 < busy["share"] <= 1
    assert min(busy["seconds"], slow["seconds"]) >= 1e-3


def test_a_trial_draws_from_no_generator_of_ours() -> None:
    before = np.random.get_state()[1].copy(), torch.get_rng_state(), gym.spaces.Discrete(9, seed=1)
    Slow.action_space.seed(5)
    first = Slow.action_space.sample()
    Slow.action_space.seed(5)
    work.measure(Guard(Slow, 0))
    assert Slow.action_space.sample() == first
    assert np.array_equal(before[0], np.random.get_state()[1]) and torch.equal(before[1], torch.get_rng_state())


def test_who_waits_gets_a_worker_of_its_own_and_a_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "cores", lambda: 2)
    made = envs.make(Slow, 4, "async")
    assert len(made.workers) == 4 and made.note.startswith("4 workers on 2 cores: a step of Slow takes ")
    assert made.note.endswith("% of it at work (--workers sets another number).")
    made.close()


def test_no_trial_where_the_number_is_said_or_is_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "cores", lambda: 2)
    for n, workers in ((4, 3), (2, None)):
        made = envs.make(Slow, n, "async", workers=workers)
        assert len(made.workers) == (workers or n) and made.note == ""
        made.close()


def test_a_trial_that_fails_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "cores", lambda: 2)
    from logpi.workers.trial import tried

    assert tried(BadStart, "BadStart", 5, 60.0) == (
        2,
        "2 workers on 2 cores: a trial of BadStart failed (--workers sets another number).",
    )
