"""Ctrl-C and SIGTERM: saved and gone within two seconds, at once the second time, and a resume never notices."""

import json
import signal
import time
from pathlib import Path

import pytest
from exams import LONG, command, here, start, stop, the_run, train

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight")
    here(train("ppo", "discrete", LONG, out, "--save-every 3000"))
    return the_run(out)


@pytest.mark.parametrize("seed", range(5))
def test_a_signal_saves_and_ends_the_process_within_two_seconds(seed: int, straight: Path, tmp_path: Path) -> None:
    number = [*CODES][seed % 2]
    told = stop(number, seed, tmp_path, straight, here)
    assert (told.code, told.whole, told.differences) == (CODES[number], True, [])
    assert told.seconds <= 2


SLOW = '''
import time
import gymnasium as gym

class Slow(gym.Wrapper):
    """A tenth of a second a step."""

    def step(self, action):
        time.sleep(0.1)
        return self.env.step(action)

def Env():
    return Slow(gym.make("CartPole-v1"))
'''


def begun(out: Path) -> Path:
    """The run once it has its first checkpoint and trains."""
    deadline = time.monotonic() + 60
    while the_run(out) is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return the_run(out)


def slow(out: Path) -> list[str]:
    (out / "slow.py").write_text(SLOW)
    line = f"train ppo --env {out}/slow.py:Env --envs 2 --length 64 --steps 1000 --hidden 4 --out {out}/runs"
    return command(f"{line} --quiet --no-plot --evaluate 0")


@pytest.mark.parametrize("number", CODES)
def test_an_iteration_that_takes_longer_is_given_up(number: int, tmp_path: Path) -> None:
    process = start(slow(tmp_path))
    run = begun(tmp_path / "runs")
    began = time.perf_counter()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert time.perf_counter() - began <= 2 and (process.returncode, out) == (CODES[number], "")
    assert "all up to step-000000000000 is saved" in err and f"resume {run}" in err and "Traceback" not in err
    assert json.loads((run / "status.json").read_text())["state"] == "stopped"


def test_a_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    process = start(slow(tmp_path))
    begun(tmp_path / "runs")
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)  # the grace of the iteration is longer
    assert process.poll() is None
    began = time.perf_counter()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert time.perf_counter() - began < 0.5 and process.returncode == -signal.SIGTERM


def test_two_signals_at_the_same_moment_end_it_too(tmp_path: Path) -> None:
    process = start(slow(tmp_path))
    begun(tmp_path / "runs")
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    began = time.perf_counter()
    _, err = process.communicate(timeout=60)
    assert time.perf_counter() - began < 0.5 and process.returncode in (-signal.SIGTERM, -signal.SIGINT) and err == ""


def test_a_stopped_run_is_shown_as_stopped_and_a_killed_one_as_interrupted(tmp_path: Path) -> None:
    from logpi.run.folder import status_of

    told = stop(signal.SIGTERM, 3, tmp_path / "stopped")
    assert told.whole and status_of(the_run(tmp_path / "stopped"))["state"] == "stopped"
    process = start(train("ppo", "discrete", 10**6, tmp_path / "killed"))
    run = begun(tmp_path / "killed")
    assert status_of(run)["state"] == "running"
    process.kill()
    process.communicate()
    assert status_of(run)["state"] == "interrupted"
