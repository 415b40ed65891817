"""TensorBoard, W&B and trackio show what metrics.jsonl holds: each row once, none of it lost, nobody asked to log in."""

import json
import math
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from logpi import LogpiError
from logpi.run import track

ROWS: list[dict[str, Any]] = [
    {"iteration": 1, "steps": 32, "return": None, "kl": 0.125, "seconds": 0.25},
    {"iteration": 2, "steps": 64, "return": 21.5, "kl": 0.0625, "seconds": 0.25},
    {"iteration": 3, "steps": 96, "return": -3e7, "kl": 1e-9, "seconds": 0.5},
]
EXPECTED = {
    name: {row["steps"]: row[name] for row in ROWS if row[name] is not None}
    for name in ("iteration", "return", "kl", "seconds")
}
QUIET = {"TRACKIO_DIR": "trackio", "OMP_NUM_THREADS": "1", "WANDB_MODE": ""}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    made = tmp_path / "runs" / "CartPole-v1" / "ppo" / "3-20261121-120000"
    made.mkdir(parents=True)
    (made / "config.toml").write_text('[method]\nname = "ppo"\nlr = 0.001\n\n[run]\nhidden = [8, 8]\nseed = 3\n')
    (made / "status.json").write_text('{"state": "finished", "time": "2026-11-21T12:00:00"}')
    write(made, ROWS)
    return made


def write(run: Path, rows: list[dict[str, Any]]) -> None:
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def command(line: str, run: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """logpi track in a process of its own: what the packages warn of is not ours to fail on."""
    env = os.environ | QUIET | environment
    env = {k: v for k, v in env.items() if k != "WANDB_MODE" or v}
    whole = [sys.executable, "-m", "logpi", "track", str(run), *line.split()]
    return subprocess.run(whole, capture_output=True, text=True, cwd=run.parents[3], env=env, timeout=120)


def made(line: str, run: Path) -> str:
    done = command(line, run)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def shown_by_tensorboard(run: Path) -> tuple[dict[str, dict[int, float]], str]:
    pytest.importorskip("tensorboard")
    code = (
        "import json, sys, warnings; warnings.simplefilter('ignore')\n"
        "from tensorboard.backend.event_processing.event_accumulator import EventAccumulator\n"
        "found = EventAccumulator(sys.argv[1], size_guidance={'scalars': 0}); found.Reload(); tags = found.Tags()\n"
        "points = {t: [(e.step, e.value) for e in found.Scalars(t)] for t in tags['scalars']}\n"
        "text = b' '.join(b for t in tags['tensors'] for e in found.Tensors(t) for b in e.tensor_proto.string_val)\n"
        "print(json.dumps([points, text.decode()]))"
    )
    whole = [sys.executable, "-c", code, str(run / "events")]
    points, text = json.loads(subprocess.run(whole, capture_output=True, text=True, check=True).stdout)
    assert all(len(x) == len(dict(x)) for x in points.values()), "no point twice"
    return {name: dict(x) for name, x in points.items()}, text


WANDB_FILE = """
import json, struct, sys, warnings
warnings.simplefilter("ignore")
from wandb.proto import wandb_internal_pb2 as pb
data, at, part, rows, config = open(sys.argv[1], "rb").read(), 7, b"", [], {}
while at + 7 <= len(data):  # LevelDB's log: blocks of 32 KiB, records of checksum, length, kind (1 whole, 2-4 in parts)
    if 32768 - at % 32768 < 7:
        at += 32768 - at % 32768
        continue
    _, length, kind = struct.unpack("<IHB", data[at : at + 7])
    part, at = part + data[at + 7 : at + 7 + length], at + 7 + length
    if kind in (1, 4):
        record = pb.Record()
        record.ParseFromString(part)
        part, found = b"", {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
        rows += [found] if found else []
        config |= {u.key or "/".join(u.nested_key): json.loads(u.value_json) for u in record.run.config.update}
print(json.dumps([rows, config]))
"""


def shown_by_wandb(run: Path) -> tuple[dict[str, dict[int, float]], dict[str, Any]]:
    (file,) = (run / "wandb").glob("offline-run-*/*.wandb")
    whole = [sys.executable, "-c", WANDB_FILE, str(file)]
    rows, config = json.loads(subprocess.run(whole, capture_output=True, text=True, check=True).stdout)
    points: dict[str, dict[int, float]] = {}
    for row in rows:
        for name in row.keys() & EXPECTED.keys():
            assert row["_step"] not in points.setdefault(name, {}), "no point twice"
            points[name][row["_step"]] = row[name]
    return points, config


def shown_by_trackio(run: Path) -> tuple[dict[str, dict[int, float]], dict[str, Any]]:
    with sqlite3.connect(run.parents[3] / "trackio" / "CartPole-v1.db") as base:
        table = base.execute("select step, metrics from metrics where run_name = 'ppo-3-20261121-120000'").fetchall()
        (config,) = base.execute("select config from configs").fetchall()
    base.close()
    points: dict[str, dict[int, float]] = {}
    for step, metrics in table:
        for name, value in json.loads(metrics).items():
            assert step not in points.setdefault(name, {}), "no point twice"
            points[name][step] = value
    return points, json.loads(config[0])


def test_tensorboard_shows_every_number_once_however_often_it_is_made(run: Path) -> None:
    pytest.importorskip("tensorboard")
    for _ in range(2):
        assert made("--to tensorboard", run) == f"{run}: tensorboard --logdir {run / 'events'}\n"
    points, text = shown_by_tensorboard(run)
    assert points.keys() == EXPECTED.keys()
    for name, expected in EXPECTED.items():
        assert points[name] == pytest.approx(expected, rel=1e-7), "float32 is what TensorBoard keeps"
    assert "method.lr = 0.001" in text and "run.hidden = [8, 8]" in text


def test_wandb_shows_every_number_once_and_needs_neither_login_nor_network(run: Path) -> None:
    pytest.importorskip("wandb")
    for _ in range(2):
        assert made("--to wandb", run) == f"{run}: wandb sync {run / 'wandb' / 'offline-run-*'}\n"
    points, config = shown_by_wandb(run)
    assert points == EXPECTED and config["method.lr"] == 0.001 and config["run.hidden"] == [8, 8]
    files = {f.name for f in (run / "wandb").rglob("*")}
    assert "run-CartPole-v1-ppo-3-20261121-120000.wandb" in files, "one run there, too"
    assert not {"wandb-metadata.json", "requirements.txt"} & files


def test_wandb_online_without_a_login_is_refused_in_one_sentence(run: Path) -> None:
    pytest.importorskip("wandb")
    done = command("--to wandb", run, WANDB_MODE="online", WANDB_API_KEY="", HOME=str(run), NETRC=str(run / "netrc"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "logpi: WANDB_MODE is online, and there is no login: wandb login first, or leave it unset.\n"
    )


def test_trackio_shows_every_number_once_however_often_it_is_made(run: Path) -> None:
    pytest.importorskip("trackio")
    for _ in range(2):
        assert made("--to trackio", run) == f'{run}: trackio show --project "CartPole-v1"\n'
    points, config = shown_by_trackio(run)
    assert points == EXPECTED and config["method.lr"] == 0.001


def test_a_live_view_continues_from_where_the_run_was_set_back(run: Path) -> None:
    pytest.importorskip("tensorboard")
    code = (
        "import sys; from pathlib import Path; from logpi.run import track; run = Path(sys.argv[1])\n"
        "first = track.open(['tensorboard'], run)\n"
        "[first.log({'steps': s, 'return': 7.0}) for s in (32, 64, 96, 128)]; first.close()\n"
        "again = track.open(['tensorboard'], run, 64)\n"
        "again.log({'steps': 96, 'return': 9.0, 'kl': float('nan'), 'error': None}); again.log({'steps': 96, 'return': 9.0})\n"
        "again.close()"
    )
    subprocess.run([sys.executable, "-c", code, str(run)], check=True, env=os.environ | QUIET, timeout=100)
    points, _ = shown_by_tensorboard(run)
    assert points["return"] == {64: 21.5, 96: 9.0} and points["kl"] == {32: 0.125, 64: 0.0625}


def test_numbers_reach_every_view_and_what_is_none_reaches_no_view() -> None:
    seen: list[Any] = []
    views = [
        track.View(lambda steps, found, i=i: seen.append((i, steps, found)), lambda i=i: seen.append(i)) for i in (1, 2)
    ]
    tracker = track.Tracker(views)
    tracker.log({"steps": 5, "a": 1.5, "b": None, "c": math.inf, "d": math.nan, "e": "x", "f": 3})
    tracker.log({"steps": 6, "b": None})
    tracker.log({"steps": 7, "a": 1.0, "error": "it broke"})
    tracker.close()
    assert seen == [(1, 5, {"a": 1.5, "f": 3}), (2, 5, {"a": 1.5, "f": 3}), 2, 1]


def test_one_view_that_cannot_close_leaves_the_others_closed() -> None:
    seen: list[str] = []

    def fail() -> None:
        raise OSError("full")

    views = [track.View(lambda *_: None, f) for f in (lambda: seen.append("a"), fail, lambda: seen.append("c"))]
    with pytest.raises(OSError, match="full"):
        track.Tracker(views).close()
    assert seen == ["c", "a"]


def test_mistakes_are_answered_in_one_sentence(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LogpiError, match=r"^There is no tracker 'tensorbord'\. Did you mean tensorboard\?$"):
        track.open(["tensorbord"], run)
    for module, package, extra in (
        ("torch.utils.tensorboard", "tensorboard", "tb"),
        ("wandb", "wandb", "wandb"),
        ("trackio", "trackio", "track"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(LogpiError) as error:
            track.open([package], run)
        assert str(error.value) == f'A view by {package} needs a package: pip install "logpi[{extra}]".'
    assert not (run / "events").exists() and not (run / "wandb").exists()
