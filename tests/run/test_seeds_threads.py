"""Seeds in threads of one process: every file of each is what it is alone, and what cannot be told apart gets a process."""

import dataclasses
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numba")

import logpi
from logpi import chance
from logpi.run import seeds, threads
from logpi.run import train as room
from logpi.run.folder import status_of
from logpi.run.resume import go_on
from logpi.run.setup import Settings
from logpi.run.stop import Interrupted
from logpi.run.train import Options

PAGE = logpi.METHODS["ppo"](envs=2, length=16)
SETTINGS = Settings(steps=160, hidden=(8,), normalise_obs=True)
OPTIONS = Options(save_every=64, keep=9, evaluate=3, eval_every=64, plot=False, quiet=True)


@pytest.fixture(autouse=True)
def three_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    monkeypatch.setattr(sys, "argv", ["logpi", "train", "ppo"])


def contents(run: Path) -> dict[str, Any]:
    """What every file of a run folder says, but for seconds, dates, and where it was asked to lie."""
    found: dict[str, Any] = {}
    for file in sorted(run.rglob("*")):
        name, data = str(file.relative_to(run)), file.read_bytes() if file.is_file() else b""
        if name == "metrics.jsonl":
            found[name] = [json.loads(line) | {"seconds": 0} for line in data.splitlines()]
        elif file.name == "manifest.json":
            found[name] = json.loads(data) | {"log": 0, "sum": 0}
        elif name == "status.json":
            found[name] = json.loads(data) | {"time": 0}
        elif name == "config.toml":
            found[name] = [x for x in data.splitlines() if not x.startswith(b"out = ")]
        elif name != "command.txt":
            found[name] = data
    return found


def together(folder: Path, settings: Settings = SETTINGS, **options: Any) -> dict[int, Path]:
    try:
        given = dataclasses.replace(OPTIONS, **({"seeds": 3} | options), out=str(folder))
        seeds.train("ppo", PAGE, settings, given)
    finally:
        runs = {int(run.name.split("-")[0]): run for run in folder.glob("*/*/*") if run.is_dir()}
    return runs


def test_every_file_of_a_seed_is_what_it_is_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.getswitchinterval()
    runs = together(tmp_path / "together", seeds=5)
    told = capsys.readouterr().out.splitlines()
    assert sorted(runs) == [0, 1, 2, 3, 4] and sys.getswitchinterval() == before
    assert (runs[4] / "command.txt").read_text() == "logpi train ppo --seed 4 --seeds 1 --quiet\n"
    assert [x.split()[1] for x in sorted(told[:-2])] == [*"01234"] and all(" finished " in x for x in told[:-2])
    assert told[-2].startswith("5 seeds: return ") and told[-1].endswith(" ".join(str(runs[s]) for s in range(5)))
    alone = room.train(
        "ppo", PAGE, dataclasses.replace(SETTINGS, seed=3), dataclasses.replace(OPTIONS, out=str(tmp_path))
    )
    one, other = contents(alone), contents(runs[3])
    assert {*one} == {*other} and len([x for x in one if x.endswith("trainer.safetensors")]) == 4
    assert any(x.startswith("eval/") for x in one), "of the saved policy in a new process, and in this one"
    assert one == other
    assert contents(runs[2])["metrics.jsonl"] != one["metrics.jsonl"]


def test_the_generators_of_the_process_are_drawn_from_only_where_one_run_is_put_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, stood = threads.begin, []

    def begin(*given: Any) -> Any:
        made = plain(*given)
        stood.append(chance.state())
        return made

    monkeypatch.setattr(threads, "begin", begin)
    together(tmp_path)
    now, last = chance.state(), stood[-1]
    assert (
        len(stood) == 3
        and bool((now["torch"] == last["torch"]).all())
        and bool((stood[0]["torch"] != now["torch"]).any())
    )
    for name in ("python", "numpy"):
        assert all((x == y).all() if hasattr(x, "all") else x == y for x, y in zip(now[name], last[name], strict=True))


def test_generators_that_stand_are_neither_read_nor_set() -> None:
    with chance.untouched():
        chance.seed(1)
        found = chance.state()
        with chance.standing(found):
            chance.seed(2)
            assert chance.state() is found
            chance.load_state(found)
        assert bool((chance.state()["torch"] != found["torch"]).any())


def test_a_seed_that_fails_leaves_the_others_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = room.follow

    def follow(parts: Any, settings: Settings, *rest: Any) -> Any:
        if settings.seed == 1:
            raise logpi.LogpiError("This seed was chosen to fail.")
        return plain(parts, settings, *rest) if settings.seed != 2 else 1 / 0

    monkeypatch.setattr(room, "follow", follow)
    with pytest.raises(logpi.LogpiError, match=r"^2 of 4 seeds failed \(1, 2\): see above\.$"):
        together(tmp_path, seeds=4)
    told = capsys.readouterr().out.splitlines()
    assert {
        "seed 1   failed: This seed was chosen to fail.",
        "seed 2   failed: ZeroDivisionError: division by zero",
    } < {*told}
    states = {run.name[0]: status_of(run)["state"] for run in tmp_path.glob("*/*/*")}
    assert states == {"0": "finished", "1": "failed", "2": "failed", "3": "finished"}
    assert "ZeroDivisionError" in next(tmp_path.glob("*/*/2-*/failures/0001.txt")).read_text()


def test_an_iteration_that_takes_too_long_after_a_signal_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, entered, release = room.follow, threading.Event(), threading.Event()

    def follow(*given: Any) -> Any:
        found = plain(*given)
        entered.set()
        assert release.wait(60)
        return found

    monkeypatch.setattr(room, "follow", follow)
    given = dataclasses.replace(OPTIONS, out=str(tmp_path)), threading.Event()
    thread = threads.Thread(0, "ppo", PAGE, SETTINGS, *given)
    assert entered.wait(60) and not thread.look()
    thread.ask(signal.SIGTERM)
    assert not thread.look() and thread.run is not None
    thread.asked -= 2 * threads.GRACE
    assert thread.look() and thread.stopped == signal.SIGTERM and status_of(thread.run)["state"] == "stopped"
    release.set()
    thread.thread.join()
    with pytest.raises(Interrupted):
        thread.settled()
    steps = [int(x.name.split("-")[1]) for x in sorted((thread.run / "checkpoints").iterdir())]
    assert steps == [0, 64, 128], "what it was given up in was not saved"
    monkeypatch.undo()
    alone = room.train("ppo", PAGE, SETTINGS, dataclasses.replace(OPTIONS, out=str(tmp_path), evaluate=0))
    go_on(thread.run, {}, {"evaluate": 0}, {"method": None, "env": None, "network": None})
    one, other = contents(alone), contents(thread.run)
    assert one["metrics.jsonl"] == other["metrics.jsonl"]
    assert one["checkpoints/step-000000000160/trainer.json"] == other["checkpoints/step-000000000160/trainer.json"]


def test_what_saves_is_waited_for_and_what_is_saved_is_not(tmp_path: Path) -> None:
    thread = threads.Thread(
        0, "ppo", PAGE, SETTINGS, dataclasses.replace(OPTIONS, out=str(tmp_path)), threading.Event()
    )
    thread.thread.join()
    thread.ask(signal.SIGINT)
    thread.asked -= 2 * threads.GRACE
    assert thread.saving and thread.saved and not thread.stopped
    thread.saved = False
    thread._give_up()
    assert not thread.given_up
    thread.saved = True
    thread._give_up()
    assert thread.given_up and thread.look() and not thread.stopped
    assert thread.run is not None and status_of(thread.run)["state"] == "finished"


def test_a_second_signal_ends_the_process_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    thread = threads.Thread(
        0, "ppo", PAGE, SETTINGS, dataclasses.replace(OPTIONS, out=str(tmp_path)), threading.Event()
    )
    done: list[Any] = []
    monkeypatch.setattr(signal, "signal", lambda *given: done.append(given))
    monkeypatch.setattr(os, "kill", lambda *given: done.append(given))
    thread.ask(signal.SIGINT)
    assert not done
    thread.ask(signal.SIGTERM)
    assert done == [(signal.SIGTERM, signal.SIG_DFL), (os.getpid(), signal.SIGTERM)]
    thread.thread.join()


@pytest.mark.parametrize(
    ("name", "settings", "options", "why"),
    [
        ("ppo", {}, {}, ""),
        ("trpo", {}, {}, ""),
        ("./mine.py:Mine", {}, {}, "the method is code of yours"),
        ("ppo", {"env": "./mine.py:Env"}, {}, "the environment is code of yours"),
        ("ppo", {"network": "./mine.py:build"}, {}, "the network is code of yours"),
        ("ppo", {"env": "FrozenLake-v1"}, {}, "the environments are not native ones"),
        ("ppo", {"env": "Pendulum-v1"}, {}, "the steps of Pendulum-v1 are taken in Python, which threads share"),
        ("ppo", {"backend": "async"}, {}, "the environments are not native ones"),
        ("ppo", {}, {"track": ("tensorboard",)}, "a tracker follows one run of a process"),
        ("ppo", {"fast": "off"}, {}, "--fast off"),
        ("ppo", {"dtype": "float64"}, {}, "there are no fused kernels here"),
        ("ppo", {"optimizer": "SGD"}, {}, "its optimiser is SGD"),
        ("ppo", {"optimizer": "Nowhere"}, {}, ""),
    ],
)
def test_seeds_get_processes_where_threads_are_not_honest_or_do_not_pay(
    name: str, settings: dict[str, Any], options: dict[str, Any], why: str
) -> None:
    page = logpi.METHODS["trpo"](envs=2, length=16) if name == "trpo" else PAGE
    given = dataclasses.replace(SETTINGS, **settings), dataclasses.replace(OPTIONS, **options)
    assert threads.why_not(name, page, *given) == why
