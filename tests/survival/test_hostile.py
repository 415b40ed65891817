"""Folders from a stranger: one sentence, nothing run, nothing read or written outside, no secret kept."""

import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import exams_damage as exam
import pytest
import torch
from forged import facts, forge, refusal

import logpi
from logpi.methods import A2C, PPO
from logpi.run import checkpoint
from logpi.run.folder import RESERVED, RunFolder, safe
from logpi.run.setup import Settings, assemble


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exam.small_run(tmp_path_factory.mktemp("runs"), steps=64, save_every=32, keep=1)


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


@pytest.fixture
def last(run: Path) -> Path:
    return exam.checkpoints(run)[-1]


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.marker),))


# Row 1: files that could run code


@pytest.mark.parametrize("name", ["state.pt", "data.pkl", ".metadata", "rng_state.pth", "policy.bin", "__init__.py"])
def test_a_pickle_among_the_files_is_refused_by_name_before_it_is_opened(name: str, last: Path, tmp_path: Path) -> None:
    (last / name).write_bytes(pickle.dumps(Bomb(tmp_path / "marker")))
    for reader in (checkpoint.verify, logpi.load, logpi.resume):
        assert (
            refusal(reader, last) == f"{last / name} does not belong in a checkpoint: only its own files are ever read."
        )
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("name", checkpoint.FILES)
def test_a_pickle_under_one_of_our_names_is_not_run(name: str, last: Path, tmp_path: Path) -> None:
    forge(last, {name: pickle.dumps(Bomb(tmp_path / "marker"))})
    for reader in (logpi.load, logpi.resume):
        said = refusal(reader, last)
        read = name.startswith("policy") if reader is logpi.load else name != "policy.json"
        assert str(last / name) in said if read else said == "SILENT"
    assert not (tmp_path / "marker").exists()


@pytest.mark.parametrize("name", ["model.pt", "model.pkl", "model.zip", "step-1.pt"])
def test_a_file_is_no_run(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    if name.endswith("zip"):
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("data", pickle.dumps(Bomb(tmp_path / "marker")))
    else:
        torch.save(Bomb(tmp_path / "marker"), file)
    expected = f"{file} is not a checkpoint: that is a folder step-*, and no other kind of file is ever read."
    assert refusal(logpi.load, file) == refusal(logpi.resume, file) == expected
    assert refusal(exam.again, file) == f"{file} is not a run folder that can go on: it has no config.toml."
    assert not (tmp_path / "marker").exists()


# Row 2: a way out of the folder


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "..\\x", "policy.json/../../../x"])
def test_a_manifest_cannot_name_a_file_elsewhere(name: str, last: Path) -> None:
    whole = facts(last)
    stranger = {name: whole["files"]["policy.json"]}
    for listed in (whole["files"] | stranger, stranger):
        (last / "manifest.json").write_bytes(checkpoint.seal(whole | {"files": listed}))
        said = f"{last / 'manifest.json'} is damaged (it is not what was written): use another checkpoint."
        assert refusal(logpi.load, last) == said
    (last / "manifest.json").write_bytes(checkpoint.seal(whole))
    assert refusal(logpi.load, last) == "SILENT"


@pytest.mark.parametrize("name", [*checkpoint.FILES, "manifest.json"])
def test_a_link_in_a_checkpoint_is_refused_even_to_the_right_bytes(name: str, last: Path, tmp_path: Path) -> None:
    (last / name).rename(tmp_path / "elsewhere")
    (last / name).symlink_to(tmp_path / "elsewhere")
    assert (
        refusal(logpi.load, last) == f"{last / name} does not belong in a checkpoint: only its own files are ever read."
    )


def test_a_folder_or_a_pipe_in_place_of_a_file_is_refused(last: Path) -> None:
    said = f"{last / 'policy.json'} does not belong in a checkpoint: only its own files are ever read."
    (last / "policy.json").unlink()
    os.mkfifo(last / "policy.json")
    assert refusal(logpi.load, last) == said
    (last / "policy.json").unlink()
    (last / "policy.json").mkdir()
    assert refusal(logpi.load, last) == said


def test_a_link_in_place_of_a_checkpoint_is_skipped(run: Path, last: Path, tmp_path: Path) -> None:
    last.rename(tmp_path / last.name)
    last.symlink_to(tmp_path / last.name)
    said = f"{last} is not a checkpoint: that is a folder step-*, and no other kind of file is ever read."
    assert refusal(logpi.load, last) == said
    assert refusal(logpi.load, run) == f"{run} has no checkpoint that can be taken: {said}"


@pytest.mark.parametrize("name", ["lock", "metrics.jsonl", "checkpoints", "history.jsonl"])
def test_nothing_is_written_through_a_link_in_a_run_folder(name: str, run: Path, tmp_path: Path) -> None:
    """A downloaded run whose lock, or log, is a link to a file of the user's must not cost them that file."""
    shutil.rmtree(run / name) if (run / name).is_dir() else (run / name).unlink(missing_ok=True)
    (tmp_path / "precious").write_text("precious")
    (run / name).symlink_to(tmp_path / "precious")
    assert refusal(exam.again, run) == (
        f"{run / name} is a symbolic link: nothing is written through one, put the file itself there."
    )
    assert (tmp_path / "precious").read_text() == "precious"


def test_resuming_a_checkpoint_says_what_to_resume_and_leaves_it_whole(last: Path) -> None:
    before = {f.name: f.read_bytes() for f in last.iterdir()}
    assert refusal(exam.again, last) == f"{last} is a checkpoint: resume the run folder that it lies in."
    assert {f.name: f.read_bytes() for f in last.iterdir()} == before


# Row 6: another format, another method


def test_another_format_is_told_with_both_versions(last: Path) -> None:
    for version in (1, 3, 10**30):
        forge(last, format=version)
        assert refusal(logpi.load, last) == (
            f"The checkpoint {last} has format {version}, this logpi reads 2: use the version that wrote it."
        )


@pytest.mark.parametrize(
    ("page", "settings", "difference"),
    [
        (A2C(envs=2, length=8), {}, "name ppo, not a2c"),
        (PPO(envs=2, length=8, clip=0.3), {}, "clip 0.2, not 0.3"),
        (PPO(envs=2, length=8), {"hidden": (5,)}, "hidden [4], not [5]"),
        (PPO(envs=2, length=8), {"seed": 3}, "seed 0, not 3"),
    ],
)
def test_parts_of_another_method_or_settings_are_refused(
    page: Any, settings: dict[str, Any], difference: str, last: Path
) -> None:
    parts = assemble(page, Settings(**{"hidden": (4,), "steps": 64, "normalise_obs": True} | settings))
    before = [p.clone() for p in parts.policy.parameters()]
    said = refusal(lambda folder: checkpoint.restore(parts, folder), last)
    # the first setting that differs, in the order of names
    assert said.startswith(f"{last} was saved with ") and said.endswith(
        ": to train on with other settings start a new run from its weights with --init."
    )
    assert difference in said or page.__class__ is A2C
    assert all(torch.equal(p, q) for p, q in zip(before, parts.policy.parameters(), strict=True))


# Row 13: names that become paths


@pytest.mark.parametrize(
    "name", ["../../etc", "a\\b", "a\0b", "x" * 300, "CON", "LPT1", "", "...", "~", "-rf", "a/b", "é" * 90]
)
def test_names_of_environments_and_methods_stay_inside_the_folder(name: str, tmp_path: Path) -> None:
    folder = RunFolder.create(str(tmp_path / "runs"), name, name, 0)
    folder.close()
    inside = folder.path.relative_to(tmp_path / "runs").parts
    assert len(inside) == 3 and not {"..", "."} & {*inside}
    for part in inside:
        assert part.split(".")[0].upper() not in RESERVED and len(part) <= 101 and not {*'\\/:*?"<>|\0'} & {*part}


def test_a_device_of_windows_is_none_with_an_ending_either() -> None:
    assert [safe(name) for name in ("CON", "con.txt", "lpt1.tar.gz", "console")] == [
        "_CON",
        "_con.txt",
        "_lpt1.tar.gz",
        "console",
    ]


@pytest.mark.parametrize("out", ["a\0b", "x" * 300])
def test_an_out_that_no_system_takes_is_one_sentence(out: str, tmp_path: Path) -> None:
    said = exam.sentence(lambda: exam.small_run(tmp_path / out))
    reason = "embedded null byte" if "\0" in out else "File name too long"
    assert said.startswith("The run folder ") and said.endswith(
        f" cannot be made ({reason}): choose another with --out."
    )


def test_an_out_elsewhere_is_the_users_to_choose_and_a_linked_run_is_the_same_run(tmp_path: Path) -> None:
    """`--out ../there` is typed by the user; a link to a run is one name more for it."""
    run = exam.small_run(tmp_path / "a" / ".." / "b", steps=32)
    (tmp_path / "link").symlink_to(run, target_is_directory=True)
    assert len(exam.checkpoints(tmp_path / "link")) == 2
    exam.again(tmp_path / "link", 64)
    assert exam.checkpoints(run)[-1].name == "step-000000000064"
    assert logpi.load(tmp_path / "link").state_dict().keys() == logpi.load(run).state_dict().keys()


def test_a_checkpoint_has_a_name_even_from_inside(last: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(last)
    assert refusal(logpi.load, ".") == refusal(logpi.load, "../../") == "SILENT"


# Row 25: secrets


MINE = """
import gymnasium as gym, numpy as np
class Mine(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)
    steps = 0
    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}
    def step(self, action):
        Mine.steps += 1
        if Mine.steps > 50:
            raise RuntimeError("broken pipe to the simulator")
        return np.zeros(2, np.float32), 1.0, False, Mine.steps % 5 == 0, {}
"""


def test_no_secret_of_the_environment_reaches_a_run_folder(tmp_path: Path) -> None:
    """Not even when it fails: what is kept is named, never dumped."""
    (tmp_path / "mine.py").write_text(MINE)
    secret = "hunter2-4b1d5e"
    line = "train ppo --env ./mine.py:Mine --backend sync --envs 2 --length 8 --steps 400 --hidden 4 --save-every 16 --quiet"
    process = subprocess.run(
        [sys.executable, "-m", "logpi", *line.split()],
        cwd=tmp_path,
        env=os.environ
        | {"WANDB_API_KEY": secret, "HF_TOKEN": secret, "AWS_SECRET_ACCESS_KEY": secret, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 2 and "broken pipe to the simulator" in process.stderr
    (run,) = (tmp_path / "runs").glob("*/*/*")
    files = [f for f in run.rglob("*") if f.is_file()]
    assert {"config.toml", "command.txt", "status.json", "0001.txt", "trainer.json"} <= {f.name for f in files}
    for file in files:
        assert secret.encode() not in file.read_bytes(), file
    assert secret not in process.stdout + process.stderr
