"""From any checkpoint a run goes on bit for bit; what extending it does to schedules is said."""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from exams import command, differences, here, log, state, the_run, train
from test_contracts import Reach, parts_of

import logpi
from logpi.loop import Parts, loop
from logpi.methods import METHODS
from logpi.run import checkpoint


def go(parts: Parts, until: int) -> Parts:
    for record in loop(parts):
        if record.iteration == until:
            break
    return parts


def saved(parts: Parts, folder: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in checkpoint.save(parts, folder).iterdir()}


@pytest.mark.parametrize("method", METHODS)
def test_every_iteration_of_twenty_can_be_the_last_before_a_resume(method: str, tmp_path: Path) -> None:
    def made() -> Parts:
        return parts_of(method, page={"epochs": 2, "critic_epochs": 2}, hidden=(4,))

    straight = made()
    folders = [checkpoint.save(straight, tmp_path)]
    for record in loop(straight):
        folders.append(record.save(tmp_path))
        if record.iteration == 20:
            break
    assert len(set(folders)) == 21
    end = {f.name: f.read_bytes() for f in folders[20].iterdir()}
    for k, folder in enumerate(folders[:20]):
        parts = made()
        checkpoint.restore(parts, folder)
        assert saved(go(parts, 20), tmp_path / f"from {k}") == end


def test_python_goes_on_from_what_it_saved(tmp_path: Path) -> None:
    straight = list(logpi.learn("ppo", "CartPole-v1", steps=600, envs=2, length=32, seed=5))
    for record in logpi.learn("ppo", "CartPole-v1", steps=600, envs=2, length=32, seed=5):
        if record.iteration == 4:
            folder = record.save(tmp_path)
            break
    rest = list(logpi.resume(folder))
    assert [r.iteration for r in rest] == [5, 6, 7, 8, 9, 10]
    assert all(str(r.metrics) == str(s.metrics) for r, s in zip(rest, straight[4:], strict=True))
    with pytest.raises(logpi.LogpiError, match=r"used an environment of yours \(custom\): pass it again, --env custom"):
        list(logpi.resume(next(logpi.learn("ppo", Reach, steps=64)).save(tmp_path / "own")))


def test_a_run_without_a_checkpoint_yet_begins_at_its_start(tmp_path: Path) -> None:
    here(train("ppo", "discrete", 320, tmp_path / "straight"))
    here(train("ppo", "discrete", 320, tmp_path / "killed"))
    run = the_run(tmp_path / "killed")
    for file in ("status.json", "command.txt", "versions.json"):
        (run / file).unlink()
    shutil.rmtree(run / "checkpoints")
    (run / "metrics.jsonl").write_text('{"iteration": 1, "st')
    here(command(f"resume {run}"))
    assert differences(the_run(tmp_path / "straight"), run) == []


def test_what_was_saved_from_python_is_found_by_its_folder(tmp_path: Path) -> None:
    for record in logpi.learn("ppo", steps=128, envs=2, length=32):
        record.save(tmp_path / "saved")
    assert logpi.load(tmp_path / "saved").act([0.0] * 4) == record.policy.act([0.0] * 4)
    assert [r.steps for r in logpi.resume(tmp_path / "saved", steps=192)] == [192]


def test_a_run_may_go_on_with_another_answer_to_what_breaks(tmp_path: Path) -> None:
    here(train("ppo", "box", 320, tmp_path).__add__(["--backend", "async", "--workers", "2"]))
    run = the_run(tmp_path)
    here(command(f"resume {run} --steps 640 --on-failure restart --step-timeout 5 --workers 1"))
    assert [row["steps"] for row in log(run)] == list(range(32, 641, 32))
    assert 'on_failure = "restart"' in (run / "config.toml").read_text()


def test_global_generators_go_on_where_they_were(tmp_path: Path) -> None:
    import random

    from logpi import chance

    chance.seed(3)
    folder = checkpoint.save(go(parts_of("ppo"), 1), tmp_path)
    expected = random.random(), np.random.rand(), float(torch.rand(()))
    checkpoint.restore(parts_of("ppo"), folder)
    assert (random.random(), np.random.rand(), float(torch.rand(()))) == expected
    with chance.untouched():
        drawn = random.random(), np.random.rand(), float(torch.rand(()))
    assert (random.random(), np.random.rand(), float(torch.rand(()))) == drawn


def test_an_extended_run_says_what_happens_to_schedules_and_survives_a_second_stop(tmp_path: Path) -> None:
    here(train("ppo", "discrete", 640, tmp_path))
    run = the_run(tmp_path)
    said = here(command(f"resume {run}"))
    assert said == f"{run} has taken its 640 steps: resume with --steps 1280 to go on.\n"
    said = here(command(f"resume {run} --steps 1280"))
    words = "the horizon moves from 640 to 1,280 steps: progress from 1.00 to 0.50, the learning rate from 0 to 0.0005"
    assert words in said
    assert [row["steps"] for row in log(run)] == list(range(32, 1281, 32))
    assert json.loads((run / "history.jsonl").read_text())["from"] == "step-000000000640"
    other = tmp_path / "other"
    here(train("ppo", "discrete", 640, other))
    run_twice = the_run(other)
    here(command(f"resume {run_twice} --steps 1280"))
    assert differences(run, run_twice) == []


def test_a_new_run_starts_from_old_weights_with_new_settings(tmp_path: Path) -> None:
    here(train("ppo", "discrete", 640, tmp_path / "old"))
    old = the_run(tmp_path / "old")
    said = here(
        [w for w in train("ppo", "discrete", 64, tmp_path / "new", f"--init {old} --lr 1e-5") if w != "--quiet"]
    )
    assert f"weights: policy and critic of {old}/checkpoints/step-000000000640" in said
    new = the_run(tmp_path / "new")
    first = new / "checkpoints" / "step-000000000000"
    assert (first / "policy.safetensors").read_bytes() == state(old)["policy.safetensors"]
    assert [row["steps"] for row in log(new)] == [32, 64]
    here(train("npg", "discrete", 64, tmp_path / "npg", f"--init {old}"))
    shape = r"The tensor network.0.bias in \S+ is \[8\] of float32, the network's is \[9\] of float32: is it of another one\?"
    with pytest.raises(AssertionError, match=shape):
        here(train("ppo", "discrete", 64, tmp_path / "wrong", f"--init {old} --hidden 9"))
    with pytest.raises(AssertionError, match="nowhere has no config.toml: --init takes the folder of a run"):
        here(train("ppo", "discrete", 64, tmp_path / "wrong", "--init nowhere"))


OWN = '''
import gymnasium as gym
from logpi.methods import PPO
from logpi.page import page
from logpi.policy.networks import mlp

@page
class Mine(PPO):
    """PPO by another name."""

def build(inputs, outputs):
    return mlp(inputs, outputs, (4,))

def Env():
    return gym.make("CartPole-v1")
'''


def test_code_of_ones_own_is_asked_for_again(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    own = f"{tmp_path}/own.py"
    line = f"train {own}:Mine --env {own}:Env --network {own}:build --envs 2 --length 16 --out {tmp_path}/runs --quiet --no-plot --evaluate 0"
    here(command(f"{line} --steps 320"))
    run = the_run(tmp_path / "runs")
    given = {"method": f"{own}:Mine", "env": f"{own}:Env", "network": f"{own}:build"}
    for missing in given:
        flags = shlex.join([w for k, v in given.items() if k != missing for w in (f"--{k}", v)])
        with pytest.raises(AssertionError, match=rf"used an? \w+ of yours \(.*\): pass it again, --{missing} "):
            here(command(f"resume {run} --steps 640 {flags}"))
    here(command(f"resume {run} --steps 640 {shlex.join([w for k, v in given.items() for w in (f'--{k}', v)])}"))
    assert [row["steps"] for row in log(run)] == list(range(32, 641, 32))


def test_other_settings_than_the_checkpoints_are_refused(tmp_path: Path) -> None:
    here(train("ppo", "discrete", 320, tmp_path))
    run = the_run(tmp_path)
    config = (run / "config.toml").read_text()
    (run / "config.toml").write_text(config.replace("clip = 0.2", "clip = 0.3"))
    with pytest.raises(
        AssertionError, match=r"was saved with clip 0.2, not 0.3: to train on with other settings start"
    ):
        here(command(f"resume {run} --steps 640"))
    (run / "config.toml").write_text(config)
    here(command(f"resume {run} --steps 640"))
    with pytest.raises(AssertionError, match="This run has taken 640 steps: --steps must be more, not 300"):
        here(command(f"resume {run} --steps 300"))
    with pytest.raises(AssertionError, match="is not a run folder that can go on: it has no config.toml"):
        here(command(f"resume {tmp_path}"))
