"""One group steps while its caller decides for another: the numbers of sync, and failures are told to whom they befall."""

import os
import signal
from typing import Any

import numpy as np
import pytest
import torch
from breaking import WAYS, Fragile, Walker
from scenarios import async_envs, gone, pids, wait_until

from logpi import envs
from logpi.envs import InGroups
from logpi.errors import EnvironmentFailed


def decide(obs: np.ndarray) -> np.ndarray:
    return np.tanh(obs[:, :2] * 3 + obs[:, 2:]).astype(np.float32)


def alternating(made: InGroups, obs: np.ndarray, steps: int) -> list[list[np.ndarray]]:
    """[step] [obs, final, reward, terminated, truncated]: each group is sent its next action as soon as it came."""
    found = [[np.zeros(0)] * 5 for _ in range(steps)]
    for group, rows in enumerate(made.groups):
        made.send(group, decide(obs[rows]))
    for parts in found:
        came = []
        for group in range(len(made.groups)):
            x = made.receive(group)
            came.append([part.copy() for part in x[:5]])
            assert x.mask is None and x.broken is None
            if parts is not found[-1]:
                made.send(group, decide(x.obs))
        parts[:] = [np.concatenate(part) for part in zip(*came, strict=True)]
    return found


@pytest.mark.parametrize(("n", "workers"), [(1, 1), (5, 1), (5, 2), (5, 3), (4, 4)])
def test_alternating_groups_give_the_numbers_of_sync_whatever_the_workers(n: int, workers: int) -> None:
    sync, made = envs.make(Walker, n, "sync"), async_envs(Walker, n, workers=workers)
    assert isinstance(made, InGroups)
    obs, same = (x.reset(list(range(n))).numpy() for x in (sync, made))
    assert np.array_equal(obs, same)
    ends = 0
    for parts in alternating(made, obs, 50):
        expected = sync.step(torch.from_numpy(decide(obs)))
        for found, x in zip(parts, expected[:5], strict=True):
            assert found.dtype == x.numpy().dtype and np.array_equal(found, x.numpy())
        obs, ends = expected.obs.numpy(), ends + int((expected.terminated | expected.truncated).sum())
    assert ends > 0
    made.close()


def test_groups_are_contiguous_and_cut_by_the_number_of_environments_alone() -> None:
    for n, cut in ((1, [1]), (2, [1, 1]), (5, [2, 3]), (6, [3, 3])):
        for workers in (1, 2):
            made = async_envs(n=n, workers=workers)
            assert [rows.stop - rows.start for rows in made.groups] == cut
            assert [i for rows in made.groups for i in range(rows.start, rows.stop)] == list(range(n))
            made.close()


def stepped(made: Any, group: int, **ways: str) -> Any:
    rows = made.groups[group]
    action = np.zeros(rows.stop - rows.start, np.int64)
    for name, way in ways.items():
        action[int(name[1:])] = WAYS.index(way)
    made.send(group, action)


def test_observations_stay_as_they_were_given_while_their_group_steps() -> None:
    made = async_envs(workers=1)
    made.reset(list(range(6)))
    stepped(made, 0)
    x = made.receive(0)
    before = x.obs.copy()
    stepped(made, 0), stepped(made, 1)
    made.receive(1)  # the worker did one after the other: group 0 has stepped
    assert np.array_equal(x.obs, before) and np.array_equal(made.receive(0).obs[:, 1], before[:, 1] + 1)
    made.close()


def test_a_death_is_told_to_both_groups_of_the_worker_in_flight_or_not() -> None:
    for in_flight in (True, False):
        made = async_envs(workers=1)
        obs = made.reset(list(range(6))).numpy()
        stepped(made, 0, _1="kill")
        if in_flight:
            stepped(made, 1)
        x = made.receive(0)
        assert x.broken is not None and x.broken.all() and np.array_equal(x.final, obs[:3]) and not x.reward.any()
        assert len(made.failures) == 1 and made.failures[0].number == 1
        if not in_flight:
            assert made.state() is None, "what the caller saw last is no more"
            stepped(made, 1)  # for episodes that are no more
        x = made.receive(1)
        assert x.broken is not None and x.broken.all() and x.mask is not None and not x.mask.any()
        assert np.array_equal(x.final, obs[3:]) and not x.reward.any() and not x.obs[:, 1].any()
        assert (x.obs[:, 0] != obs[3:, 0]).all() and len(made.failures) == 1
        first = x.obs.copy()
        stepped(made, 1)
        x = made.receive(1)
        assert x.broken is None and np.array_equal(x.obs[:, 0], first[:, 0]) and (x.obs[:, 1] == 1).all()
        made.close()


def test_a_failure_in_one_group_loses_no_step_of_the_other() -> None:
    made = async_envs(workers=1)
    obs = made.reset(list(range(6))).numpy()
    stepped(made, 0, _2="raise"), stepped(made, 1)
    x = made.receive(0)
    assert x.broken is not None and x.broken.tolist() == [False, False, True]
    assert np.array_equal(x.final[2], obs[2]) and x.obs[2, 1] == 0 and (x.obs[:2, 1] == 1).all()
    x = made.receive(1)
    assert x.broken is None and np.array_equal(x.obs[:, 0], obs[3:, 0]) and (x.obs[:, 1] == 1).all()
    made.close()


def test_a_hang_of_one_group_leaves_the_other_alone() -> None:
    made = async_envs(step_timeout=0.3)
    made.reset(list(range(6)))
    stepped(made, 0, _0="hang"), stepped(made, 1)
    x = made.receive(0)
    assert x.broken is not None and x.broken.all() and "gave no answer for 0.3 s" in str(made.failures[0])
    assert made.receive(1).broken is None
    made.close()


def test_a_failure_ends_the_run_where_it_should() -> None:
    made = async_envs(on_failure="fail")
    made.reset(list(range(6)))
    own = pids(made)
    stepped(made, 0), stepped(made, 1, _1="exit")
    made.receive(0)
    with pytest.raises(EnvironmentFailed, match="ended with exit code 3 at environment 4"):
        made.receive(1)
    assert all(map(gone, own))


def test_a_new_start_is_not_asked_for_while_a_group_steps() -> None:
    made = async_envs()
    made.reset(list(range(6)))
    stepped(made, 1)
    obs = made.reset(list(range(6)))
    assert "was interrupted" in str(made.failures.pop()) and not obs[:, 1].any()
    assert made.step(torch.zeros(6, dtype=torch.long)).broken is None, "nothing is left of what was lost"
    stepped(made, 1)
    assert made.state() is None, "nor is a state told"
    made.close()


def test_a_death_between_two_steps_is_found_at_once() -> None:
    made = async_envs(Fragile, step_timeout=30.0)
    made.reset(list(range(6)))
    os.kill(pids(made)[1], signal.SIGKILL)
    took = wait_until(lambda: made.step(torch.zeros(6, dtype=torch.long)).broken is not None, 5.0)
    assert took < 1.0 and [failure.number for failure in made.failures] == [3]
    made.close()
