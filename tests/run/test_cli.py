"""The command line: quick help, one sentence for every mistake, and what a training run leaves behind."""

import json
import os
import shlex
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

import logpi
from logpi.run import cli
from logpi.run.lock import held

QUICK = "--envs 2 --length 16 --steps 64 --hidden 8 --evaluate 0 --quiet --no-plot"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "PYTHONIOENCODING": "utf-8"}


def command(line: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-m", "logpi", *shlex.split(line)]
    return subprocess.run(whole, capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT | environment, timeout=120)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    """The command in this process, in a folder of its own: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["logpi", *shlex.split(line)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return (end.value.code or 0, *capsys.readouterr())

    return run


def trained(call: Any, line: str = f"train ppo {QUICK}") -> Path:
    code, _, err = call(line)
    assert (code, err) == (0, "")
    (run,) = Path("runs").glob("*/*/*")
    return run


def test_help_is_there_at_once_and_imports_nothing_heavy() -> None:
    def seconds() -> float:
        began = time.perf_counter()
        assert "logpi train METHOD" in command("--help").stdout
        return time.perf_counter() - began

    assert min(seconds() for _ in range(5)) < 0.3
    code = "import sys; sys.argv = ['logpi', '--help']\ntry:\n    import logpi.__main__\nfinally:\n    print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0 and "'logpi.run.cli'" in done.stdout
    assert not any(
        f"'{heavy}'" in done.stdout for heavy in ("torch", "numpy", "gymnasium", "tyro", "rich", "matplotlib")
    )


MISTAKES = {
    "trian ppo": "Did you mean train?",
    "--verson": "There is: bench, compare, completion, doctor, eval, exact, export, generate, lab, methods, play, plot, resume, reward-model, runs, sft, show, tokens, track, train, variance.",
    "train pppo": "Did you mean ppo?",
    "train PPO": "Did you mean ppo?",
    "train --steps 3": "The method comes first",
    "train ppo extra": "extra",
    "train ppo --env CartPole-v": "Did you mean CartPole-v1?",
    "train ppo --env Bandt": "Did you mean Bandit?",
    "train ppo --env FrozenLake-v1 --masks info": "has no action_mask, which --masks info reads",
    "train ppo --env FrozenLake-v1 --backend native": "--backend auto",
    "train ppo --env FrozenLake-v1 --env-options is_slippery": "--env-options takes key=value, not 'is_slippery'",
    "train ppo --wrap ./nowhere.py:Wrapper": "There is no file ./nowhere.py",
    "train ppo --like sb3 --recipe none": "--like stands in the place of a recipe",
    "train trpo --like sb3": "There is no --like sb3 for trpo: there is --like sb3 for ppo.",
    "train ppo --like cleanrl": "There is no --like cleanrl for ppo: there is --like sb3 for ppo.",
    "train ppo --run x": "has no flag --run. Did you mean --until?",
    "train ppo --env CartPole-v1 --memory gru --envs 2": "whole rows, and 2 cannot be parted into 4: give more --envs or",
    "train ppo --gama 0.9": "Did you mean --gamma?",
    "train ppo --no-plto": "Did you mean --no-plot?",
    "train ppo --baseline value": "no flag --baseline",
    "train ppo --backend sinc": "'sync'",
    "train baseline --baseline vale": "'value'",
    "train ppo --head gausian": "'gaussian'",
    "exact --problem sequences": "logpi exact takes its problem without a flag: logpi exact PROBLEM.",
    "train ppo --optimizer Adm": "Did you mean Adam?",
    "train ppo --optimizer LBFGS": "LBFGS",
    "train ppo --optimizer SparseAdam": "SparseAdam",
    "train ppo --gamma 2": "gamma is 2.0: allowed is a number from 0 to 1",
    "train ppo --clip nan": "clip is nan: allowed is a number greater than 0",
    "train ppo --clip abc": "'abc'",
    "train ppo --clip": "--clip",
    "train ppo --lr inf": "lr is inf",
    "train ppo --steps 0": "steps is 0: allowed is a whole number 1 or more",
    "train ppo --steps 1.5": "'1.5'",
    "train ppo --hidden -3": "hidden is -3",
    "train ppo --hidden 64 0": "hidden is 0",
    "train grpo --group 1": "group is 1: allowed is a whole number 2 or more",
    "train ppo --seed abc": "'abc'",
    "train ppo --seed 99999999999999999999999": "seed",
    "train ppo --until soon": "'soon'",
    "train ppo --evaluate -1": "evaluate is -1",
    "train ppo --out ./file": "choose another with --out",
    "train ppo --out /proc/nowhere": "choose another with --out",
    "train grpo --kl 0.1 --reference nowhere": "nowhere has no checkpoint",
    "train ./nofile.py:Mine": "There is no file ./nofile.py",
    "train ./mine.py:Fo": "Did you mean Foo?",
    "train ./mine.py:Foo": "Foo is not a method page",
    "train ./mine.py:number": "is not a method page",
    "train nowhere.atall:Mine": "No module named 'nowhere'",
    "train :Mine": "import path",
    "train ..here:Mine": "import path",
    "train ppo --env ./mine.py:number": "could not be made",
    "train ppo --env ./mine.py:Foo": "Foo",
    "train ppo --network ./nofile.py:build": "There is no file ./nofile.py",
    "train ppo --network ./mine.py:number": "network",
    "eval": "eval",
    "eval nowhere": "there is no folder nowhere",
    "eval nowhere --episodes 0": "episodes is 0",
    "eval nowhere --episode 3": "Did you mean --episodes?",
    "plot": "at least one run folder",
    "plot nowhere": "nowhere is not a run folder",
    "plot nowhere --out x.pdf": "must end in .png or .svg",
    "methods extra": "extra",
    "show pp": "Did you mean ppo?",
    "show ppo extra": "extra",
    "show ppo --long": "--long",
}  # fmt: skip


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_answered_in_one_sentence(line: str, call: Any) -> None:
    Path("file").write_text("not a folder\n")
    Path("mine.py").write_text("class Foo: pass\n\n\nnumber = 3\n")
    code, out, err = call(line + " --steps 8 --quiet --evaluate 0" * ("Adam" in line or "LBFGS" in line))
    assert (code, out) == (2, "")
    assert err.startswith("logpi: ") and err.count("\n") == 1 and err.endswith("\n")
    assert MISTAKES[line].lower() in err.lower() and "Traceback" not in err
    assert "---" not in err and "nvalid choice invalid" not in err, "no frame and no title"
    assert not Path("runs").exists(), "nothing is left of a run that could not begin"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has cuda")
def test_a_device_that_is_not_there_is_refused(call: Any) -> None:
    code, _, err = call("train ppo --device cuda")
    assert code == 2 and err == "logpi: This machine has no cuda that torch can use: use --device auto.\n"
    assert call("train ppo --device cuba")[0] == 2


def test_a_mistake_in_a_real_process_and_its_traceback_with_debug(tmp_path: Path) -> None:
    done = command("train ppo --gamma 2", tmp_path, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.count("\n") == 1
    assert "gamma is 2.0: allowed is a number from 0 to 1. see logpi train ppo --help.\n" in done.stderr.lower()
    assert len(done.stderr) < 100, "no frame of ASCII either"
    for line in ("train pppo --debug", "--debug train pppo"):
        debug = command(line, tmp_path)
        assert (
            debug.returncode == 1
            and debug.stderr.startswith("Traceback")
            and "LogpiError: There is no method 'pppo'" in debug.stderr
        )


def test_the_help_of_a_method_tells_every_field(call: Any) -> None:
    code, out, _ = call("train ppo --help")
    assert code == 0 and "GAE, standardised; clipped ratio" in out
    for words in (
        "--clip FLOAT",
        "how far the ratio is paid for moving from 1",
        "--envs INT",
        "--backend",
        "--until",
        "--out STR",
    ):
        assert words in out
    for line in ("", "--help", "train --help", "show --help", "eval --help", "plot --help", "methods --help"):
        code, out, err = call(line)
        assert code == 0 and "logpi" in out and err == ""
    assert call("--version")[1] == f"logpi {logpi.__version__}\n"


def strict(text: str) -> Any:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_training_leaves_a_run_folder_that_tells_everything(call: Any) -> None:
    line = f"train ppo {QUICK} --clip 0.3 --save-every 32 --seed 7 --out 'my runs'"
    code, out, err = call(line.replace("--no-plot", ""))
    assert (code, err) == (0, "") and " plot " in out and str(64) in out and "steps/s" in out
    (run,) = Path("my runs").glob("CartPole-v1/ppo/7-*")
    config = tomllib.loads((run / "config.toml").read_text())
    assert config["method"]["name"] == "ppo" and config["method"]["clip"] == 0.3 and "target_kl" not in config["method"]
    assert config["run"]["env"] == "CartPole-v1" and config["run"]["hidden"] == [8] and config["run"]["seed"] == 7
    assert config["train"]["out"] == "my runs"
    assert shlex.split((run / "command.txt").read_text())[:3] == ["logpi", "train", "ppo"]
    versions = strict((run / "versions.json").read_text())
    assert versions["torch"] == torch.__version__ and versions["environments"] == "native"
    rows = [strict(row) for row in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["steps"] for row in rows] == [32, 64] and {"kl", "entropy", "return", "episodes", "seconds"} <= rows[
        0
    ].keys()
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == [f"step-{n:012d}" for n in (0, 32, 64)]
    assert (run / "learning-curve.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert strict((run / "status.json").read_text())["state"] == "finished" and not held(run)


def test_a_run_without_a_finished_episode_has_no_return_but_valid_json(call: Any) -> None:
    run = trained(call, "train ppo --envs 2 --length 2 --steps 4 --hidden 8 --evaluate 0 --quiet")
    assert strict((run / "metrics.jsonl").read_text())["return"] is None
    assert strict((run / "status.json").read_text())["return"] is None


def test_eval_writes_every_return(call: Any) -> None:
    run = trained(call)
    code, out, _ = call(f"eval {run} --episodes 5")
    assert code == 0 and "over 5 episodes (deterministic)" in out and "over 5 episodes (sampled)" in out
    (file,) = (run / "eval").iterdir()
    found = strict(file.read_text())
    assert found["env"] == "CartPole-v1" and found["checkpoint"] == "step-000000000064"
    for kind in found["evaluations"]:
        assert len(kind["returns"]) == len(kind["lengths"]) == 5 and kind["returns"] == kind["lengths"]
        assert kind["mean"] == pytest.approx(sum(kind["returns"]) / 5)
    assert call(f"eval {run} --episodes 5")[1] == out, "one seed, one evaluation"
    assert call(f"eval {run / 'checkpoints' / 'step-000000000064'} --episodes 1")[0] == 0
    for written in (run / "eval").iterdir():
        strict(written.read_text())


def test_what_cannot_be_evaluated_is_told_in_one_sentence(call: Any) -> None:
    run = trained(call)
    wrong = {
        "--env Nowhere-v0": "no environment 'Nowhere-v0'",
        "--env Chain": "observation",
        "--env ./x.py:Y": "no file ./x.py",
    }
    for flags, words in wrong.items():
        code, out, err = call(f"eval {run} {flags}")
        assert (code, out) == (2, "") and words in err and err.count("\n") == 1
    (run / "config.toml").write_text("[run\n")
    code, _, err = call(f"eval {run}")
    assert code == 2 and "config.toml" in err and err.count("\n") == 1
    damaged = run / "checkpoints" / "step-000000000064" / "policy.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    code, _, err = call(f"eval {damaged.parent} --env CartPole-v1")
    assert code == 2 and "policy.safetensors is missing or damaged" in err and err.count("\n") == 1
    told = command(f"eval {run} --env CartPole-v1 --episodes 1")
    assert told.returncode == 0 and told.stderr.startswith("logpi: Skipped: ") and told.stderr.count("\n") == 1
    assert "step-000000000000" in max(f.name for f in (run / "eval").iterdir())


def test_a_target_return_ends_the_run_early(call: Any) -> None:
    run = trained(
        call, "train ppo --envs 16 --length 64 --steps 100000 --hidden 8 --until 5 --evaluate 0 --quiet --no-plot"
    )
    status = strict((run / "status.json").read_text())
    assert status["state"] == "solved" and status["steps"] < 20_000 and status["return"] >= 5


STOPS = '''
import os, signal
from dataclasses import dataclass
from logpi.methods import PPO
from logpi.page import page

@page
class Stops(PPO):
    """PPO that is interrupted in its third iteration."""

    def adapt(self, state, info):
        if state["iteration"] == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return state
'''


def test_ctrl_c_saves_and_leaves_in_peace(tmp_path: Path) -> None:
    (tmp_path / "stops.py").write_text(STOPS)
    done = command(
        "train ./stops.py:Stops --envs 2 --length 16 --steps 1000000 --hidden 8 --evaluate 0 --quiet", tmp_path
    )
    assert (done.returncode, done.stdout) == (
        130,
        "",
    ) and "stopped; all up to step-000000000096 is saved" in done.stderr
    (run,) = (tmp_path / "runs").glob("CartPole-v1/stops/*")
    assert strict((run / "status.json").read_text())["state"] == "stopped" and not held(run)
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["step-000000000000", "step-000000000096"]
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 3
    logpi.load(run)
