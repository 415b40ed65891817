"""Some environments step while their caller decides for others: the numbers of sync, and failures are told of whom they befall."""

import os
import signal
from typing import Any

import numpy as np
import pytest
import torch
from breaking import WAYS, Fragile, Walker
from scenarios import async_envs, gone, pids, wait_until

from logpi import LogpiError, envs
from logpi.envs import SendReceive, StepArrays
from logpi.errors import EnvironmentFailed

FIRST, SECOND = np.arange(3), np.arange(3, 6)  # the groups of six environments in one process


def decide(obs: np.ndarray) -> np.ndarray:
    return np.tanh(obs[:, :2] * 3 + obs[:, 2:]).astype(np.float32)


def as_they_come(made: SendReceive, obs: np.ndarray, steps: int) -> list[list[Any]]:
    """[environment] [(obs, final, reward, terminated, truncated) of each step]: each gets its next action when it has come."""
    found: list[list[Any]] = [[] for _ in obs]
    made.send(np.arange(len(obs)), decide(obs))
    while any(len(x) < steps for x in found):
        rows, x = made.receive()
        assert len(rows) and x.mask is None and x.broken is None
        for k, row in enumerate(rows):
            found[row].append([part[k].copy() for part in x[:5]])
        on = np.array([len(found[row]) < steps for row in rows])
        if on.any():
            made.send(rows[on], decide(x.obs[on]))
    return found


@pytest.mark.parametrize(("n", "workers"), [(1, 1), (5, 1), (5, 2), (5, 3), (4, 4)])
def test_who_comes_first_changes_no_number(n: int, workers: int) -> None:
    sync, made = envs.make(Walker, n, "sync"), async_envs(Walker, n, workers=workers)
    assert isinstance(made, SendReceive)
    obs, same = (x.reset(list(range(n))).numpy() for x in (sync, made))
    assert np.array_equal(obs, same)
    ends = 0
    for parts in zip(*as_they_come(made, obs, 50), strict=True):
        expected = sync.step(torch.from_numpy(decide(obs)))
        for row, found in enumerate(parts):
            for part, x in zip(found, expected[:5], strict=True):
                assert part.dtype == x.numpy().dtype and np.array_equal(part, x[row].numpy())
        obs, ends = expected.obs.numpy(), ends + int((expected.terminated | expected.truncated).sum())
    assert ends > 0
    made.close()


@pytest.mark.parametrize(("n", "workers", "cut"), [(1, 1, [1]), (2, 1, [1, 1]), (5, 1, [2, 3]), (5, 2, [1, 2, 1, 1])])
def test_a_worker_has_two_groups_so_that_it_never_waits(n: int, workers: int, cut: list[int]) -> None:
    made = async_envs(n=n, workers=workers)
    assert [len(group.rows) for group in made.groups] == cut
    assert [i for group in made.groups for i in group.rows] == list(range(n))
    made.close()


def stepped(made: Any, rows: np.ndarray, **ways: str) -> Any:
    action = np.zeros(len(rows), np.int64)
    for name, way in ways.items():
        action[int(name[1:])] = WAYS.index(way)
    made.send(rows, action)


def received(made: Any, rows: np.ndarray) -> StepArrays:
    """The next that come: these."""
    came, x = made.receive()
    assert np.array_equal(came, rows)
    return x


def test_what_was_given_is_the_callers_own() -> None:
    made = async_envs(workers=1)
    made.reset(list(range(6)))
    stepped(made, FIRST)
    x = received(made, FIRST)
    before = [part.copy() for part in x[:5]]
    stepped(made, FIRST), stepped(made, SECOND)
    while made.sent:
        made.receive()
    assert all(np.array_equal(part, was) for part, was in zip(x, before, strict=False))
    made.close()


def test_a_death_is_told_of_both_groups_of_the_worker_in_flight_or_not() -> None:
    for in_flight in (True, False):
        made = async_envs(workers=1)
        obs = made.reset(list(range(6))).numpy()
        stepped(made, FIRST, _1="kill")
        if in_flight:
            stepped(made, SECOND)
        x = received(made, FIRST)
        assert x.broken is not None and x.broken.all() and np.array_equal(x.final, obs[:3]) and not x.reward.any()
        assert len(made.failures) == 1 and made.failures[0].number == 1
        if not in_flight:
            assert made.state() is None, "what the caller saw last is no more"
            stepped(made, SECOND)  # for episodes that are no more
        x = received(made, SECOND)
        assert x.broken is not None and x.broken.all() and x.mask is not None and not x.mask.any()
        assert np.array_equal(x.final, obs[3:]) and not x.reward.any() and not x.obs[:, 1].any()
        assert (x.obs[:, 0] != obs[3:, 0]).all() and len(made.failures) == 1
        first = x.obs.copy()
        stepped(made, SECOND)
        x = received(made, SECOND)
        assert x.broken is None and np.array_equal(x.obs[:, 0], first[:, 0]) and (x.obs[:, 1] == 1).all()
        made.close()


def test_a_failure_in_one_group_loses_no_step_of_the_other() -> None:
    made = async_envs(workers=1)
    obs = made.reset(list(range(6))).numpy()
    stepped(made, FIRST, _2="raise"), stepped(made, SECOND)
    came = {}
    while made.sent:
        rows, x = made.receive()
        came[int(rows[0])] = x
    one, other = came[0], came[3]
    assert one.broken is not None and one.broken.tolist() == [False, False, True]
    assert np.array_equal(one.final[2], obs[2]) and one.obs[2, 1] == 0 and (one.obs[:2, 1] == 1).all()
    assert other.broken is None and np.array_equal(other.obs[:, 0], obs[3:, 0]) and (other.obs[:, 1] == 1).all()
    made.close()


def test_a_step_that_came_before_its_worker_died_is_kept_and_what_follows_it_is_broken() -> None:
    made = async_envs(workers=1)
    obs = made.reset(list(range(6))).numpy()
    stepped(made, FIRST), stepped(made, SECOND, _0="hang")
    x = received(made, FIRST)
    os.kill(pids(made)[0], signal.SIGKILL)
    assert received(made, SECOND).broken is not None
    assert np.array_equal(x.obs, np.stack([obs[:3, 0], np.ones(3)], 1)), "its episodes are those it had"
    stepped(made, FIRST)  # which are no more
    y = received(made, FIRST)
    assert y.broken is not None and y.broken.all() and np.array_equal(y.final, x.obs), (
        "a break shows what was seen last"
    )
    made.close()


def test_who_receives_before_he_sends_is_told() -> None:
    made = async_envs()
    made.reset(list(range(6)))
    with pytest.raises(LogpiError, match="send, then receive"):
        made.receive()
    made.close()


def test_a_hang_of_one_worker_leaves_the_other_alone() -> None:
    made = async_envs(step_timeout=0.3)
    made.reset(list(range(6)))
    stepped(made, np.arange(6), _0="hang")
    broken = np.zeros(6, bool)
    while made.sent:
        rows, x = made.receive()
        broken[rows] = False if x.broken is None else x.broken
    assert broken.tolist() == [True] * 3 + [False] * 3 and "gave no answer for 0.3 s" in str(made.failures[0])
    made.close()


def test_a_failure_ends_the_run_where_it_should() -> None:
    made = async_envs(on_failure="fail")
    made.reset(list(range(6)))
    own = pids(made)
    stepped(made, np.arange(6), _4="exit")
    with pytest.raises(EnvironmentFailed, match="ended with exit code 3 at environment 4"):
        while made.sent:
            made.receive()
    assert all(map(gone, own))


def test_a_new_start_is_not_asked_for_while_a_group_steps() -> None:
    made = async_envs()
    made.reset(list(range(6)))
    stepped(made, np.arange(3, 6))
    obs = made.reset(list(range(6)))
    assert "was interrupted" in str(made.failures.pop()) and not obs[:, 1].any()
    assert made.step(torch.zeros(6, dtype=torch.long)).broken is None, "nothing is left of what was lost"
    stepped(made, np.arange(3, 6))
    assert made.state() is None, "nor is a state told"
    made.close()


def test_a_death_between_two_steps_is_found_at_once() -> None:
    made = async_envs(Fragile, step_timeout=30.0)
    made.reset(list(range(6)))
    os.kill(pids(made)[1], signal.SIGKILL)
    took = wait_until(lambda: made.step(torch.zeros(6, dtype=torch.long)).broken is not None, 5.0)
    assert took < 1.0 and [failure.number for failure in made.failures] == [3]
    made.close()
