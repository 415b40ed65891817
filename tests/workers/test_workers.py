"""Environments in processes: the numbers of sync, what is said when a process goes, and nothing left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from breaking import WAYS, Fragile, Walker
from scenarios import async_envs, gone, pids, wait_until

from logpi import LogpiError, envs
from logpi.errors import EnvironmentFailed
from logpi.methods import A2C, GRPO, Reinforce
from logpi.run.setup import Settings, assemble
from logpi.workers import wire

HEALTHY = torch.zeros(6, dtype=torch.long)


@pytest.mark.parametrize("method", [A2C(envs=5, length=37), Reinforce(episodes=5), GRPO(starts=2, group=3)],
                         ids=["segments", "episodes", "groups"])  # fmt: skip
def test_the_numbers_are_those_of_sync_to_the_bit(method: Any) -> None:
    how = {"env": "custom", "normalise_obs": True, "seed": 3}
    one = assemble(method, Settings(backend="sync", **how), Walker)
    two = assemble(method, Settings(backend="async", workers=2, **how), Walker)
    ends = 0
    for _ in range(4):
        x, y = (parts.collect(parts.policy, parts.critic) for parts in (one, two))
        for name, field in vars(x).items():
            other = getattr(y, name)
            assert field is other is None or (field.dtype == other.dtype and torch.equal(field, other)), name
        assert x.obs.isfinite().all()
        ends += int(x.ended.sum())
        one.collect.settle(one.policy), two.collect.settle(two.policy)
    assert one.collect.metrics() == two.collect.metrics() and ends > 10
    assert wire.encode(one.collect.envs.state()["envs"]) == wire.encode(two.collect.envs.state()["envs"])
    two.collect.envs.close()


def die(made: Any, action: torch.Tensor) -> EnvironmentFailed:
    processes = [worker.process for worker in made.workers]
    own = pids(made)
    with pytest.raises(EnvironmentFailed) as said:
        made.step(action)
    assert len(processes) == len(own) and all(map(gone, own)), "nothing is left after a failure"
    return said.value


CURE = "--on-failure restart goes on with a new one."


@pytest.mark.parametrize(
    ("way", "how"),
    [("kill", "was killed by signal 9"), ("exit", "ended with exit code 3"), ("hang", "gave no answer for 0.25 s")],
)
def test_the_death_of_a_worker_names_worker_environment_and_cause(way: str, how: str) -> None:
    made = async_envs(on_failure="fail", step_timeout=0.25)
    made.reset([*range(6)])
    failed = die(made, torch.tensor([0, 0, 0, 0, WAYS.index(way), 0]))
    assert str(failed) == f"Worker 1 (environments 3 to 5 of Fragile) {how} at environment 4: {CURE}"
    assert failed.number == 4
    with pytest.raises(LogpiError, match="The environments are closed: make new ones."):
        made.step(HEALTHY)
    assert made.state() is None
    made.close()


def test_a_death_between_steps_names_what_the_worker_steps() -> None:
    made = async_envs(n=3, workers=2, on_failure="fail")
    made.reset([1, 2, 3])
    os.kill(pids(made)[1], signal.SIGTERM)
    failed = die(made, HEALTHY[:3])
    assert str(failed) == f"Worker 1 (environment 2 of Fragile) was killed by signal 15 between steps: {CURE}"


def test_three_failures_without_a_good_step_end_the_run_and_a_good_one_in_between_does_not() -> None:
    made = async_envs()
    made.reset([*range(6)])
    bad = HEALTHY.clone()
    bad[2] = WAYS.index("raise")
    for _ in range(2):
        made.step(bad), made.step(bad), made.step(HEALTHY)
    made.step(bad), made.step(bad)
    assert [failure.number for failure in made.failures] == [2] * 6
    die(made, bad)


def test_an_environment_that_never_comes_to_an_end_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logpi.envs.workers.BREAKS", 5)
    made = async_envs()
    made.reset([*range(6)])
    bad = HEALTHY.clone()
    bad[0] = WAYS.index("raise")
    for _ in range(4):
        made.step(bad), made.step(HEALTHY)
    die(made, bad)


def test_a_failing_reset_after_an_end_loses_no_transition() -> None:
    made = async_envs()
    obs = made.reset([*range(6)])
    step = made.step(torch.tensor([0, WAYS.index("no reset"), 0, 0, 0, 0]))
    assert step.broken is None and step.mask is None and step.terminated.tolist() == [i == 1 for i in range(6)]
    assert torch.equal(step.final[:, 0], obs[:, 0]) and step.obs[1, 0] != obs[1, 0] and step.obs[1, 1] == 0
    assert [failure.number for failure in made.failures] == [1]
    made.close()


def test_a_broken_start_that_others_share_is_started_again_and_others_are_not() -> None:
    made = async_envs()
    obs = made.reset([7, 7, 7, 8, 9, 10])
    step = made.step(torch.tensor([0, WAYS.index("raise"), 0, WAYS.index("raise"), 0, 0]))
    assert torch.equal(step.obs[1], obs[0]) and step.obs[3, 0] != obs[3, 0]
    while not (step := made.step(HEALTHY)).terminated[2] and not step.truncated[2]:
        pass
    step = made.step(torch.tensor([0, 0, WAYS.index("raise"), 0, 0, 0]))
    assert step.broken[2] and step.obs[2, 0] != obs[2, 0], "its first episode is over"
    made.close()


def test_a_process_that_is_gone_when_the_state_is_asked_for_is_made_good_in_the_next_step() -> None:
    made = async_envs()
    made.reset([*range(6)])
    assert made.state() is not None
    os.kill(pids(made)[0], signal.SIGKILL)
    assert made.state() is None
    step = made.step(HEALTHY)
    assert step.broken.tolist() == [True] * 3 + [False] * 3 and len(made.failures) == 1
    assert made.state() is not None
    made.close()


def test_an_interrupted_step_is_not_taken_for_the_next_ones_answer() -> None:
    made = async_envs()
    made.reset([*range(6)])
    made.send(np.arange(3), HEALTHY.numpy()[:3])  # and KeyboardInterrupt before its answer was received
    step = made.step(HEALTHY)
    assert step.broken.tolist() == [True] * 3 + [False] * 3 and "was interrupted" in str(made.failures[0])
    made.close()


def test_close_leaves_no_process_whatever_they_do_and_may_be_called_again() -> None:
    made = async_envs()
    made.reset([*range(6)])
    own = pids(made)
    os.kill(own[0], signal.SIGSTOP)
    made.close(), made.close()
    assert all(map(gone, own))


def test_what_is_forgotten_is_closed() -> None:
    made = async_envs()
    own = pids(made)
    del made
    wait_until(lambda: all(map(gone, own)), 3)


def test_ctrl_c_is_not_the_workers_business() -> None:
    made = async_envs()
    made.reset([*range(6)])
    for pid in pids(made):
        os.kill(pid, signal.SIGINT)
    assert made.step(HEALTHY).broken is None and not made.failures
    made.close()


def test_a_worker_holds_no_file_of_ours(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        os.set_inheritable(lock.fileno(), True)
        made = async_envs()
        held = {str(f.readlink()) for pid in pids(made) for f in Path(f"/proc/{pid}/fd").iterdir() if f.exists()}
        assert not any(str(tmp_path) in file for file in held)
        made.close()


def test_torch_is_not_needed_in_a_worker() -> None:
    code = "import sys, logpi.workers.child; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def refusal(*args: Any, **kwargs: Any) -> str:
    with pytest.raises(LogpiError) as said:
        envs.make(*args, **kwargs)
    return str(said.value)


def test_what_cannot_be_sent_to_a_process_is_refused() -> None:
    def local() -> gym.Env:
        return Fragile()

    assert refusal(local, 2, "async").endswith(
        "is not a class or function of a module: move it to one, or use --backend sync."
    )
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("backend", ["auto", "native", "vector", "sync"])
def test_only_workers_are_restarted(backend: str) -> None:
    assert refusal("CartPole-v1", 2, backend, on_failure="restart") == (
        f"--on-failure restart is for environments in processes: use --backend async, not {backend}."
    )


def test_slices_are_contiguous_and_never_empty() -> None:
    made = async_envs(n=5, workers=3)
    assert [list(worker.numbers) for worker in made.workers] == [[0, 1], [2, 3], [4]]
    made.close()
    made = async_envs(n=2, workers=9)
    assert len(made.workers) == 2
    made.close()


@pytest.mark.parametrize("x", [{"a": [1, 2**200, -0.0, float("inf"), None, True, "é", b"\x00\xff", ()]},
                               {"array": np.arange(6, dtype=np.uint8).reshape(2, 3), "scalar": np.float32(0.1)},
                               {"tensor": torch.arange(3.0), "empty": np.zeros((0, 4))}])  # fmt: skip
def test_the_wire_gives_back_what_it_was_given(x: Any) -> None:
    back = wire.decode(wire.encode(x))
    assert wire.encode(back) == wire.encode(x) and back.keys() == x.keys()
    for name, value in x.items():
        if isinstance(value, torch.Tensor | np.ndarray | np.generic):
            assert type(back[name]) is type(value) and back[name].dtype == value.dtype and (back[name] == value).all()
        else:
            assert back[name] == [[] if v == () else v for v in value]


@pytest.mark.parametrize("x", [object(), {1: 2}, np.array([object()]), [{"a": {3}}]])
def test_the_wire_takes_no_objects(x: Any) -> None:
    with pytest.raises(TypeError):
        wire.encode(x)
