"""Workers under every kind of main program: the module, the installed command, a script, and one without a guard."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scenarios import descendants, gone, wait_until

MINE = """
import gymnasium as gym

def MyEnv():
    return gym.make("CartPole-v1")
"""
SMALL = [
    "--envs",
    "4",
    "--length",
    "16",
    "--steps",
    "128",
    "--evaluate",
    "0",
    "--no-plot",
    "--backend",
    "async",
    "--workers",
    "2",
    "--quiet",
]
SCRIPT = """
import logpi, sys
from pathlib import Path
{indent}
    for record in logpi.learn("a2c", "CartPole-v1", envs=4, length=16, steps=128, backend="async", workers=2):
        print(record.steps)
"""


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


COMMAND = str(Path(sys.executable).with_name("logpi"))


@pytest.mark.skipif(not Path(COMMAND).exists(), reason="the command is not installed beside this Python")
def test_the_command_with_a_file_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    done = run(COMMAND, "train", "a2c", "--env", "./mine.py:MyEnv", *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_the_module_with_an_id(tmp_path: Path) -> None:
    done = run(sys.executable, "-m", "logpi", "train", "a2c", "--env", "Acrobot-v1", *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_a_script_with_a_guard(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT.format(indent='if __name__ == "__main__":'))
    done = run(sys.executable, "train.py", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "64\n128\n", "")


def test_a_script_without_one_is_told_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT.format(indent="if True:"))
    done = run(sys.executable, "train.py", cwd=tmp_path)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last == (
        "logpi.errors.EnvironmentFailed: Worker 0 (environments 0 to 1 of CartPole-v1) ended with exit code 1 before it "
        'was ready: its environment must be importable, and a script needs if __name__ == "__main__".'
    )


def test_ctrl_c_in_a_terminal_ends_all_without_a_traceback(tmp_path: Path) -> None:
    command = [COMMAND] if Path(COMMAND).exists() else [sys.executable, "-m", "logpi"]
    long = ["train", "a2c", "--env", "Acrobot-v1", *SMALL, "--steps", "9999999"]
    with subprocess.Popen([*command, *long], cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True,
                          stdout=subprocess.DEVNULL) as parent:  # fmt: skip
        wait_until(lambda: list(tmp_path.glob("runs/*/*/*/metrics.jsonl")), 30)
        family = descendants(parent.pid)
        assert len(family) >= 3
        began = time.perf_counter()
        os.killpg(parent.pid, signal.SIGINT)
        _, said = parent.communicate(timeout=20)
    assert "Traceback" not in said and parent.returncode == 130, said
    assert time.perf_counter() - began < 5
    wait_until(lambda: all(map(gone, family)), 2)
