"""What bit rot, a careless copy or a dying disk can do to checkpoints: all of it is refused by name, none of it costs the run."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import exams_damage as exam
import pytest
from exams import differences
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import logpi
from logpi.run import checkpoint
from logpi.run.folder import rows

SIZES = {"flip": 140, "truncate": 30, "delete": 15, "swap": 15, "rename": 5, "log": 15}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six checkpoints, from step 0 to 320."""
    return exam.small_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


@pytest.mark.parametrize("kind", exam.KINDS)
def test_no_damage_is_accepted_and_each_is_named(kind: str, run: Path) -> None:
    before = {f: f.read_bytes() for f in run.rglob("*") if f.is_file()}
    outcomes = exam.damage(run, SIZES[kind], kind, seed=0)
    assert len(outcomes) == SIZES[kind] and [o.faults for o in outcomes if o.faults] == []
    assert all(o.said for o in outcomes) and "SILENT" not in {s for o in outcomes for s in o.said}
    assert {f: f.read_bytes() for f in run.rglob("*") if f.is_file()} == before
    if kind in ("flip", "truncate"):
        hit = {file.name for o in outcomes for file in o.files}
        assert hit == {*checkpoint.FILES, "manifest.json"}


@pytest.mark.parametrize("seed", range(6))
def test_a_run_with_a_damaged_newest_checkpoint_ends_as_if_nothing_had_been(
    seed: int, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each file in turn, by one kind of damage or another."""
    kind = ("flip", "delete", "truncate")[seed % 3]
    copy, file, differ = exam.recovers(run, kind, seed, tmp_path)
    assert differ == []
    (kept,) = (copy / "checkpoints").glob("damaged-*")
    assert kept.name.startswith(f"damaged-{file.parent.name}-")
    whole = exam.checkpoints(run)[-1]
    same = [
        (kept / f.name).is_file() and (kept / f.name).read_bytes() == f.read_bytes() for f in sorted(whole.iterdir())
    ]
    assert same == [f.name != file.name for f in sorted(whole.iterdir())]
    (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("skipped: ")]
    assert str(file) in said or (file.name == "manifest.json" and str(file.parent) in said)
    told = json.loads((copy / "history.jsonl").read_text().splitlines()[-1])
    assert told["from"] == exam.checkpoints(run)[-2].name and [f"skipped: {s}" for s in told["skipped"]] == [said]


def test_three_damaged_ones_are_skipped_one_by_one(run: Path, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    last = exam.checkpoints(copy)
    (last[-1] / "policy.json").unlink()
    (last[-2] / "manifest.json").write_bytes(b"")
    exam.flip_bit(last[-3] / "trainer.safetensors", 4242)
    exam.again(copy)
    assert differences(run, copy) == []
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("skipped: ")]
    damaged = "is missing or damaged (its SHA-256 is not the manifest's): use another checkpoint."
    assert said == [
        f"skipped: {last[-1] / 'policy.json'} {damaged}",
        f"skipped: {last[-2] / 'manifest.json'} cannot be read: Expecting value: line 1 column 1 (char 0).",
        f"skipped: {last[-3] / 'trainer.safetensors'} {damaged}",
    ]
    assert len([*(copy / "checkpoints").glob("damaged-*")]) == 3


def test_a_run_without_one_whole_checkpoint_says_so_and_is_left_alone(copy: Path) -> None:
    for folder in exam.checkpoints(copy):
        (folder / "manifest.json").unlink()
    newest = exam.checkpoints(copy)[-1]
    before = sorted(copy.rglob("*"))
    for reader in (exam.again, logpi.load, logpi.resume):
        assert exam.sentence(lambda reader=reader: exam._first(reader(copy))) == (
            f"{copy} has no checkpoint that can be taken: The checkpoint {newest} has no manifest.json: use another checkpoint."
        )
    assert sorted(copy.rglob("*")) == before


def test_a_log_cut_short_means_an_older_checkpoint(run: Path, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A copy that was made while the run went on: metrics.jsonl came first."""
    older = exam.checkpoints(copy)[2]
    log = copy / "metrics.jsonl"
    log.write_bytes(log.read_bytes()[: checkpoint.unseal(older)["log"]["bytes"] + 30])
    exam.again(copy)
    assert differences(run, copy) == []
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("skipped: ")]
    assert said == [
        f"skipped: {folder.name}: {log} does not begin with what was logged up to it: "
        f"put the file back, or start a new run from its weights with --init {log.parent}."
        for folder in reversed(exam.checkpoints(run)[3:])
    ]


def test_a_log_that_is_gone_is_begun_again_from_the_start(run: Path, copy: Path) -> None:
    """Only the checkpoint at step 0 knows of no line; without it the sentence says why."""
    (copy / "metrics.jsonl").unlink()
    exam.again(copy)
    assert differences(run, copy) == []
    shutil.rmtree(exam.checkpoints(copy)[0])
    (copy / "metrics.jsonl").unlink()
    with pytest.raises(logpi.LogpiError) as said:
        exam.again(copy)
    newest = exam.checkpoints(copy)[-1].name
    assert str(said.value) == (
        f"{copy} has no checkpoint that can be taken: {newest}: {copy / 'metrics.jsonl'} does not begin with what was logged up to it: "
        f"put the file back, or start a new run from its weights with --init {copy}."
    )


def test_a_torn_last_line_is_skipped_by_readers_and_cut_by_resume(run: Path, copy: Path) -> None:
    (exam.checkpoints(copy)[-1] / "policy.json").unlink()
    whole = [*rows(copy)]
    with (copy / "metrics.jsonl").open("ab") as log:
        log.write(b'{"iteration": 21, "ste')
    assert [*rows(copy)] == whole
    exam.again(copy)
    assert differences(run, copy) == []


def test_a_line_that_is_damaged_in_the_middle_is_told_by_its_number(copy: Path) -> None:
    log = copy / "metrics.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join([lines[0], b"{torn\n", *lines[1:]]))
    with pytest.raises(logpi.LogpiError) as said:
        [*rows(copy)]
    assert str(said.value) == f"Line 2 of {log} is not JSON: remove it to read the rest."


def test_load_warns_of_what_it_skipped(copy: Path) -> None:
    newest, older = exam.checkpoints(copy)[-1], exam.checkpoints(copy)[-2]
    exam.flip_bit(newest / "policy.safetensors", 5000)
    with pytest.warns(UserWarning) as told:
        policy = logpi.load(copy)
    assert [str(w.message) for w in told] == [
        f"Skipped: {newest / 'policy.safetensors'} is missing or damaged (its SHA-256 is not the manifest's): use another checkpoint."
    ]
    expected = logpi.load(older).state_dict()
    assert all(v.equal(expected[k]) for k, v in policy.state_dict().items())


def test_what_dead_processes_left_behind_is_swept(run: Path, copy: Path) -> None:
    (exam.checkpoints(copy)[-1] / "manifest.json").unlink()
    for left in (".step-000000000336.4242", ".old-step-000000000016.77"):
        (copy / "checkpoints" / left).mkdir()
        (copy / "checkpoints" / left / "policy.json").write_text("{")
    exam.again(copy)
    assert differences(run, copy) == []


def forged(folder: Path, step: int, score: float | None, finite: bool) -> Path:
    """A checkpoint with a true manifest, as far as pruning looks."""
    made = folder / f"step-{step:012d}"
    made.mkdir(parents=True)
    facts = {"format": checkpoint.FORMAT, "step": made.name, "score": score, "finite": finite, "log": None}
    entries = {name: {"bytes": 0, "sha256": checkpoint.digest(b"")} for name in checkpoint.FILES}
    (made / "manifest.json").write_bytes(
        checkpoint.seal(facts | {"method": "ppo", "environments": "", "versions": {}, "files": entries})
    )
    for name in checkpoint.FILES:
        (made / name).touch()
    return made


ROW = st.tuples(st.sampled_from([None, -1.0, 0.0, 0.5, 2.0]), st.booleans(), st.sampled_from([True, True, True, False]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(sequence=st.lists(ROW, min_size=1, max_size=9), keep=st.integers(1, 4))
def test_pruning_keeps_the_newest_the_best_and_the_newest_finite(
    sequence: list[Any], keep: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("prune")
    whole: list[tuple[Path, float | None, bool]] = []
    damaged: set[Path] = set()
    for step, (score, finite, sound) in enumerate(sequence):
        made = forged(folder, step, score, finite)
        if sound:
            whole.append((made, score, finite))
        else:
            (made / "manifest.json").write_text("{")
            damaged.add(made)
        checkpoint.prune(folder, keep)
        expected = {made for made, _, _ in whole[-keep:]} | {
            made for made, _, fine in whole if fine and made == [m for m, _, f in whole if f][-1]
        }
        scored = [(s, m) for m, s, _ in whole if s is not None]
        expected |= {max(scored)[1]} if scored else set()
        assert {*folder.iterdir()} == expected | damaged
        whole = [w for w in whole if w[0] in expected]


def test_pruning_is_what_a_run_does(tmp_path: Path) -> None:
    run = exam.small_run(tmp_path, keep=2)
    kept = exam.checkpoints(run)
    assert [f.name for f in kept][-2:] == ["step-000000000256", "step-000000000320"]
    assert len(kept) == 2 and checkpoint.best(run / "checkpoints") is None  # fewer than 100 episodes: no evidence


def test_a_checkpoint_that_cannot_be_read_back_is_not_followed_by_pruning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that takes writes and forgets them: the run ends, and all that was kept before is there."""
    publish, count = checkpoint.publish, [0]

    def forgetful(contents: dict[str, bytes], final: Path) -> None:
        publish(contents, final)
        count[0] += 1
        if count[0] == 4:
            (final / "policy.safetensors").write_bytes(b"")

    monkeypatch.setattr(checkpoint, "publish", forgetful)
    with pytest.raises(logpi.LogpiError) as said:
        exam.small_run(tmp_path, keep=1)
    (run,) = tmp_path.glob("*/*/*")
    first, best, bad = exam.checkpoints(run)[0], exam.checkpoints(run)[-2], exam.checkpoints(run)[-1]
    assert str(said.value) == (
        f"{bad / 'policy.safetensors'} is missing or damaged (its SHA-256 is not the manifest's): use another checkpoint."
    )
    assert bad.name == "step-000000000192" and best.name == "step-000000000128" and first.is_dir()
    assert json.loads((run / "status.json").read_text())["state"] == "failed"
    monkeypatch.setattr(checkpoint, "publish", publish)
    exam.again(run)
    assert differences(exam.small_run(tmp_path / "straight", keep=1), run) == []


def stop_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back by half a century, and standing still."""
    monkeypatch.setattr(time, "time", lambda: 0.0)
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    monkeypatch.setattr(time, "strftime", lambda *_: "19700101-000000")


def test_a_clock_that_jumps_changes_no_number(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_the_clock(monkeypatch)
    one, two = (exam.small_run(tmp_path / "new") for _ in range(2))
    assert (one.name, two.name) == ("0-19700101-000000", "0-19700101-000000-2")
    assert differences(run, one) == [] and differences(one, two) == []


def test_what_is_set_aside_twice_at_one_time_keeps_two_names(
    run: Path, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_the_clock(monkeypatch)
    for _ in range(2):
        (exam.checkpoints(copy)[-1] / "policy.json").unlink()
        exam.again(copy)
        assert differences(run, copy) == []
    assert sorted(f.name for f in (copy / "checkpoints").glob("damaged-*")) == [
        "damaged-step-000000000320-1",
        "damaged-step-000000000320-2",
    ]
