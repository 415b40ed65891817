"""Curves from metrics.jsonl: read on by offset, torn and null as they are, thinned without losing an extreme."""

import json
import time

import numpy as np
import pytest

from logpi.lab.runs import POINTS, Board, Log, thin


def rows(n, start=0, **more):
    return "".join(
        json.dumps({"iteration": i, "steps": 10 * i, "seconds": 0.5, "return": float(i)} | more) + "\n"
        for i in range(start, start + n)
    )


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "CartPole-v1" / "ppo" / "0-20261130-120000"
    path.mkdir(parents=True)
    (path / "metrics.jsonl").write_text(rows(5))
    return path


def test_a_log_is_read_on_from_where_it_stopped(run):
    log = Log(run / "metrics.jsonl")
    log.follow()
    offset = log.offset
    with log.file.open("a") as file:
        file.write(rows(2, start=5) + '{"iteration": 7, "ste')
    log.follow()
    assert offset < log.offset < log.file.stat().st_size  # the torn line is left for later
    assert log.curve("return", "steps")[1].tolist() == [0, 1, 2, 3, 4, 5, 6]
    with log.file.open("a") as file:
        file.write('ps": 70, "return": 7.0}\n')
    log.follow()
    assert log.curve("return", "steps")[0].tolist() == [0, 10, 20, 30, 40, 50, 60, 70] and not log.damaged


def test_a_log_that_was_cut_and_written_anew_is_read_anew(run):
    log = Log(run / "metrics.jsonl")
    log.follow()
    log.file.write_text(rows(3) + rows(9, start=3).replace('"return": ', '"return": 1'))
    log.follow()
    assert log.curve("return", "steps")[1].tolist()[:5] == [0, 1, 2, 13, 14]


def test_a_damaged_line_is_counted_and_a_failure_is_no_row(run):
    (run / "metrics.jsonl").write_text(rows(2) + "}{\n[1]\n" + '{"error": "NaN", "steps": 5}\n' + rows(1, start=2))
    log = Log(run / "metrics.jsonl")
    log.follow()
    assert log.damaged == 2 and log.curve("return", "iteration")[0].tolist() == [0, 1, 2]


def test_seconds_add_up_and_speed_is_steps_over_them(run):
    log = Log(run / "metrics.jsonl")
    log.follow()
    x, speed = log.curve("steps_per_second", "seconds")
    assert x.tolist() == [1.0, 1.5, 2.0, 2.5] and speed.tolist() == [20.0] * 4


def test_null_is_a_gap_but_for_the_first_rows(run):
    text = rows(2, **{"return": None}) + rows(2, start=2) + rows(1, start=4, **{"return": None}) + rows(1, start=5)
    (run / "metrics.jsonl").write_text(text)
    line = Board(run.parents[2]).picture(["CartPole-v1/ppo/" + run.name], "steps")["charts"][0]["groups"][0]["lines"][0]
    assert line["x"] == [20, 30, 40, 50] and line["y"] == [2, 3, None, 5]


def test_thinning_keeps_every_buckets_extremes_and_a_gap():
    y = np.sin(np.arange(100_000) / 50.0)
    y[54_321], y[12_345], y[777] = 99.0, -99.0, np.nan
    x, kept = thin(np.arange(100_000.0), y, 400)
    assert len(kept) <= 600 and np.all(np.diff(x) > 0)
    assert {54_321.0, 12_345.0, 777.0} <= {*x} and np.nanmax(kept) == 99 and np.nanmin(kept) == -99
    assert np.isnan(kept).sum() == 1
    same = thin(np.arange(10.0), y[:10], 400)
    assert np.array_equal(same[1], y[:10])
    assert np.isnan(thin(np.arange(1000.0), np.full(1000, np.nan), 100)[1]).all()


def test_runs_that_differ_in_the_seed_only_are_one_curve_with_an_interval(tmp_path):
    for seed in range(3):
        run = tmp_path / "e" / "ppo" / f"{seed}-20261130-12000{seed}"
        run.mkdir(parents=True)
        (run / "metrics.jsonl").write_text(rows(20).replace('"return": ', f'"return": 1{seed}'))
        (run / "config.toml").write_text(f'[method]\nname = "ppo"\nlr = 0.1\n[run]\nenv = "e"\nseed = {seed}\n')
    board = Board(tmp_path)
    names = [line["id"] for line in board.every()]
    (group,) = board.picture(names, "steps")["charts"][0]["groups"]
    assert group["name"] == "ppo on e" and len(group["lines"]) == 3
    mean = group["mean"]
    assert all(low <= y <= high for low, y, high in zip(mean["low"], mean["y"], mean["high"], strict=True))
    assert max(np.subtract(mean["high"], mean["low"])) > 0


def test_the_list_is_newest_first_and_has_what_is_damaged(tmp_path):
    for name in ("0-20261130-120000", "1-20261130-130000"):
        (tmp_path / "e" / "ppo" / name).mkdir(parents=True)
        (tmp_path / "e" / "ppo" / name / "status.json").write_text("{")
    found = Board(tmp_path).every()
    assert [line["seed"] for line in found] == [1, 0] and found[0]["state"] == "unreadable"
    assert Board(tmp_path / "none").every() == []


def test_checkpoints_are_never_opened(run, monkeypatch):
    from pathlib import Path

    (run / "checkpoints" / "step-1").mkdir(parents=True)
    (run / "checkpoints" / "step-1" / "policy.safetensors").write_text("")
    opened, plain = [], Path.open
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: opened.append(self) or plain(self, *a, **k))
    board = Board(run.parents[2])
    board.picture([line["id"] for line in board.every()], "steps")
    assert opened and not [file for file in opened if "checkpoints" in file.parts]


@pytest.mark.slow
def test_a_million_rows_are_a_small_picture_and_going_on_is_quick(run):
    chunk = rows(1000, kl=0.01, entropy=0.5)
    with (run / "metrics.jsonl").open("w") as file:
        for _ in range(1000):
            file.write(chunk)
    board, name = Board(run.parents[2]), "CartPole-v1/ppo/" + run.name
    began = time.perf_counter()
    picture = board.picture([name], "iteration")
    first = time.perf_counter() - began
    with (run / "metrics.jsonl").open("a") as file:
        file.write(rows(1, start=10**6))
    began = time.perf_counter()
    again = board.picture([name], "iteration")
    print(
        f"\na million rows: {first:.1f} s, one more: {time.perf_counter() - began:.2f} s, {len(json.dumps(picture)):,} bytes"
    )
    assert time.perf_counter() - began < 2 and first < 60
    assert len(picture["charts"][0]["groups"][0]["lines"][0]["y"]) <= 1.5 * POINTS
    assert max(again["charts"][0]["groups"][0]["lines"][0]["y"]) == 10**6
