"""Disks that are full, closed or in the way: one sentence, exit code 2, and what was saved before goes on to the same end."""

import contextlib
import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import exams_damage as exam
import pytest
from exams import differences

from logpi.run import checkpoint, cli
from logpi.run.files import write_whole
from logpi.run.resume import resume
from logpi.run.train import command

QUICK = "--envs 2 --length 8 --hidden 4 --normalise-obs --recipe none --evaluate 0 --quiet --no-plot"


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The command in this process: (exit code, stderr)."""

    def run(line: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["logpi", *shlex.split(line)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return end.value.code or 0, capsys.readouterr().err

    return run


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exam.small_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def half(straight: Path, tmp_path: Path) -> Path:
    """The same run as if it had been killed after 192 of its 320 steps."""
    copy = Path(shutil.copytree(straight, tmp_path / "run"))
    for folder in exam.checkpoints(copy)[-2:]:
        shutil.rmtree(folder)
    write_whole(copy / "status.json", json.dumps({"state": "running"}))
    return copy


@contextlib.contextmanager
def limit(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: what a full disk is to it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextlib.contextmanager
def nobody(folder: Path) -> Iterator[None]:
    """A user who may read a folder, and write nothing in it; to root permissions mean nothing."""
    modes = {path: path.stat().st_mode for path in (folder, *folder.rglob("*"))}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222 | (0o555 if path.is_dir() else 0o444))
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path, mode in modes.items():
            path.chmod(mode)


def sentence(code: int, err: str) -> str:
    """The one line that a failure may say, after what was skipped or stopped."""
    assert code == 2 and "Traceback" not in err, (code, err)
    (line,) = err.splitlines()
    assert line.startswith("logpi: ")
    return line.removeprefix("logpi: ")


def test_a_checkpoint_that_does_not_fit_on_the_disk_costs_none_before_it(half: Path, straight: Path, call: Any) -> None:
    before = {f: f.read_bytes() for f in (half / "checkpoints").rglob("*") if f.is_file()}
    with limit(20_000):
        said = sentence(*call(f"resume {half}"))
    assert said == f"File too large: what was saved before is whole; mend that, then {command()} resume {half}."
    assert {f: f.read_bytes() for f in (half / "checkpoints").rglob("*") if f.is_file()} == before
    assert json.loads((half / "status.json").read_text())["state"] == "failed"
    assert call(f"resume {half}")[0] == 0
    assert [d for d in differences(straight, half) if "metrics" not in d] == []


def test_a_log_that_does_not_fit_on_the_disk_costs_nothing_but_time(tmp_path: Path, call: Any) -> None:
    """metrics.jsonl is what grows: its last line is torn in the middle."""
    line = f"train ppo {QUICK} --epochs 1 --minibatches 1 --steps 2400 --save-every 480"
    with limit(40_000):
        said = sentence(*call(f"{line} --out {tmp_path / 'a'}"))
    (run,) = (tmp_path / "a").glob("*/*/*")
    assert said == f"File too large: what was saved before is whole; mend that, then {command()} resume {run}."
    assert (run / "metrics.jsonl").stat().st_size == 40_000
    assert call(f"resume {run}")[0] == 0
    assert call(f"{line} --out {tmp_path / 'b'}")[0] == 0
    (straight,) = (tmp_path / "b").glob("*/*/*")
    assert differences(straight, run) == []


def test_a_disk_that_is_full(half: Path, straight: Path, tmp_path: Path, call: Any) -> None:
    """A real one, of 800 kB, where the machine lets us make it; emptied of what else lies on it, the run goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=800k", "none", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system of one's own can be mounted here")
    try:
        run = Path(shutil.copytree(half, disk / "run"))
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        (disk / "ballast").write_bytes(bytes(free - 24_000))
        said = sentence(*call(f"resume {run}"))
        cure = f"what was saved before is whole; mend that, then {command()} resume {run}."
        assert said == f"No space left on device: {cure}"
        checkpoint.verify(exam.checkpoints(run)[-1])
        (disk / "ballast").unlink()
        assert call(f"resume {run}")[0] == 0
        left = [d for d in differences(straight, run) if "metrics" not in d]
        assert left == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_folder_that_may_not_be_written(straight: Path, half: Path, call: Any) -> None:
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        run = Path(shutil.copytree(half, Path(place) / "run"))
        with nobody(run):
            said = sentence(*call(f"resume {run}"))
        assert said == f"[Errno 13] Permission denied: '{run / 'lock'}'"
        with nobody(run):
            said = sentence(*call(f"train ppo {QUICK} --steps 32 --out {run / 'more'}"))
        assert said.startswith(f"The run folder '{run / 'more'}/") and said.endswith(
            "' cannot be made (Permission denied): choose another with --out."
        )
        assert call(f"resume {run}")[0] == 0
        assert differences(straight, run) == []


@pytest.mark.parametrize("out", ["file", "file/inside", "/proc/nowhere"])
def test_an_out_that_cannot_be_a_folder(out: str, tmp_path: Path, call: Any) -> None:
    (tmp_path / "file").write_text("mine")
    out = str(tmp_path / out)
    said = sentence(*call(f"train ppo {QUICK} --steps 32 --out {out}"))
    assert said.startswith(f"The run folder '{out}/CartPole-v1/ppo/0-")
    reason = "No such file or directory" if out.startswith("/proc") else "Not a directory"
    assert said.endswith(f"' cannot be made ({reason}): choose another with --out.")
    assert (tmp_path / "file").read_text() == "mine"


def test_an_out_that_is_a_dead_link(tmp_path: Path, call: Any) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "gone" / "away")
    said = sentence(*call(f"train ppo {QUICK} --steps 32 --out {tmp_path / 'link'}"))
    assert said.endswith("' cannot be made (File exists): choose another with --out.")


def test_a_file_in_place_of_the_checkpoints(half: Path, call: Any) -> None:
    shutil.rmtree(half / "checkpoints")
    (half / "checkpoints").write_text("x")
    said = sentence(*call(f"resume {half}"))
    assert said == f"{half} has no checkpoint: it must be a run folder, or one of its checkpoints/step-*."


@pytest.mark.parametrize("name", ["metrics.jsonl"])
def test_a_folder_in_place_of_a_file(name: str, half: Path, call: Any) -> None:
    (half / name).unlink()
    (half / name).mkdir()
    assert sentence(*call(f"resume {half}")) == f"[Errno 21] Is a directory: '{half / name}'"
    (half / name).rmdir()
    assert call(f"resume {half}")[0] == 0


def test_an_empty_manifest_and_one_of_the_future_cost_one_checkpoint_each(
    half: Path, straight: Path, call: Any
) -> None:
    newest, second = exam.checkpoints(half)[-1], exam.checkpoints(half)[-2]
    (newest / "manifest.json").write_bytes(b"")
    manifest = checkpoint.unseal(second)
    (second / "manifest.json").write_bytes(checkpoint.seal(manifest | {"format": 3}))
    code, err = call(f"resume {half}")
    assert code == 0 and err.splitlines() == [
        f"skipped: {newest / 'manifest.json'} cannot be read: Expecting value: line 1 column 1 (char 0).",
        f"skipped: The checkpoint {second} has format 3, this logpi reads 2: use the version that wrote it.",
    ]
    assert differences(straight, half) == []


CONFIGS = [
    "",
    "[run]\nenv = 'CartPole-v1'\n",
    "[method]\nclip = 0.2\n[run]\n",
    "[method]\nname = 5\n[run]\n",
    "[method]\nname = 'ppo'\n",
]


def test_a_config_that_does_not_say_what_was_trained(half: Path, call: Any) -> None:
    for text in CONFIGS:
        (half / "config.toml").write_text(text)
        assert sentence(*call(f"resume {half}")) == (
            f"The config.toml of {exam.checkpoints(half)[-1]} does not say what was trained: "
            "it needs [method] with a name, and [run]."
        )


def test_a_damaged_config_is_one_sentence_or_changes_no_number(half: Path, straight: Path, call: Any) -> None:
    """Every 61st bit of config.toml flipped: a setting that is not the checkpoint's is refused by name."""
    whole, last = (half / "config.toml").read_bytes(), exam.checkpoints(half)[-1].name
    taken = 0
    for bit in range(0, 8 * (whole.index(b"[train]") - 1), 61):
        exam.flip_bit(half / "config.toml", bit)
        if b"steps = 320" not in (half / "config.toml").read_bytes():  # the user's to change
            (half / "config.toml").write_bytes(whole)
            continue
        code, err = call(f"resume {half}") if bit % 3 else (2, exam.sentence(lambda: exam.again(half)))
        assert code in (0, 2) and "Traceback" not in err and not err.startswith("CRASH"), (bit, err)
        (half / "config.toml").write_bytes(whole)
        taken += exam.checkpoints(half)[-1].name != last
        if exam.checkpoints(half)[-1].name != last:
            assert [d for d in differences(straight, half) if "config" not in d] == []
            for folder in exam.checkpoints(half)[-2:]:
                shutil.rmtree(folder)
    assert taken > 0  # a flip in a comment


def test_versions_that_are_no_table_are_told(half: Path, call: Any) -> None:
    (half / "versions.json").write_text("[]")
    code, err = call(f"resume {half}")
    assert (
        code == 0
        and err == f"{half / 'versions.json'} cannot be read: whether versions are as they were is not known.\n"
    )


def test_what_was_half_written_beside_the_checkpoints_is_swept_too(half: Path, straight: Path, call: Any) -> None:
    (half / ".status.json.4242").write_text("{")
    (half / "checkpoints" / ".step-000000000336.4242").write_text("a file")
    assert call(f"resume {half}")[0] == 0
    assert differences(straight, half) == []


def test_a_damaged_checkpoint_in_the_way_is_told_not_taken_for_the_new_one(half: Path) -> None:
    newest = exam.checkpoints(half)[-1]
    (newest / "policy.json").unlink()
    with pytest.warns(UserWarning, match="^Skipped: .*policy.json is missing or damaged"):
        records = resume(half)
        record = next(r for r in records if r.steps == 192)
    assert exam.sentence(lambda: record.save(half / "checkpoints")) == (
        f"{newest / 'policy.json'} is missing or damaged (its SHA-256 is not the manifest's): use another checkpoint."
    )
    records.close()  # type: ignore[attr-defined]


def test_bytes_that_are_no_text_are_refused_before_a_folder_is_made(tmp_path: Path, call: Any) -> None:
    said = sentence(*call(f"train ppo {QUICK} --steps 32 --out {tmp_path}/a\udcff"))
    assert "that are not UTF-8" in said and list(tmp_path.iterdir()) == []
