"""The doctor: healthy runs are told so, and each thing that can be wrong with a run is named with its cure, on real runs."""

import contextlib
import dataclasses
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium import spaces
from unwell import FOLLOWING, HEALTHY, SICK

from logpi import METHODS
from logpi.errors import LogpiError
from logpi.run import cli, doctor, examine, judge
from logpi.run.commands import doctor as command
from logpi.run.doctor import Finding, Log
from logpi.run.examine import Live
from logpi.run.folder import RunFolder

CODE = Path(__file__).with_name("unwell.py")
QUICK = "--hidden 16 --evaluate 0 --quiet --no-plot --seed 1"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, str]]:
    """(its folder, the flags that name code of ours again) of a run, trained once."""
    home, runs = tmp_path_factory.mktemp("doctor"), dict[str, tuple[Path, str]]()

    def train(line: str) -> tuple[Path, str]:
        if line not in runs:
            words = shlex.split(line.replace("./unwell.py", str(CODE)))
            with contextlib.suppress(LogpiError):  # the doctor shall explain it
                cli.dispatch(["train", *words, *QUICK.split(), "--out", str(home / str(len(runs)))])
            (run,) = (home / str(len(runs))).glob("*/*/*")
            flags = zip(["--method", *words], words, strict=False)
            runs[line] = run, shlex.join(word for pair in flags if ".py:" in pair[1] for word in pair)
        return runs[line]

    return train


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Any:
    """The command in this process: (exit code, findings by name, the advice)."""

    def run(path: Path, flags: str = "") -> tuple[int, dict[str, Finding], str]:
        capsys.readouterr()
        code = cli.dispatch(["doctor", str(path), "--json", *shlex.split(flags)])
        told = json.loads(capsys.readouterr().out)
        found = {f["name"]: Finding(**f) for f in told["findings"]}
        assert [*found] == [x for x in command.ORDER if x not in command.TEXT] and told["wrong"] == sum(
            f.state == "wrong" for f in found.values()
        )
        return code, found, told["advice"]

    return run


def contents(run: Path) -> dict[str, str]:
    files = sorted(file for file in run.rglob("*") if file.is_file())
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.parametrize("line", HEALTHY)
def test_a_healthy_run_raises_no_alarm_and_is_left_as_it_is(line: str, trained: Any, ask: Any) -> None:
    run, flags = trained(line)
    before, noise = contents(run), torch.get_rng_state()
    code, found, advice = ask(run, flags)
    assert [f for f in found.values() if f.state in ("look", "wrong")] == []
    assert (code, advice) == (0, "nothing wrong found")
    live = ("fresh batch", "first ratio", "first KL", "masks", "direction", "signal", "normaliser")
    assert {found[name].state for name in live} == {"ok"}
    assert contents(run) == before and torch.equal(torch.get_rng_state(), noise)


@pytest.mark.parametrize("line", SICK)
def test_what_is_wrong_comes_first_with_its_cure(
    line: str, trained: Any, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, words, others = SICK[line]
    run = trained(line)
    monkeypatch.setenv("UNITS", "1000" if "--normalise-obs" in line else "1")  # which have changed since
    code, found, advice = ask(*run)
    assert code == 1 and found[first].state == "wrong" and words in found[first].seen and found[first].do
    assert advice.startswith(f"first: {first}: ") and advice.endswith(f"{found[first].do}.")
    assert all(found[name].state != "ok" for name in others)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_ours_goes_where_its_credit_says(name: str, trained: Any) -> None:
    live = examine.examine(trained(f"{name} --steps 600")[0], {})
    assert live.cosine is not None and live.cosine > 0.99 and live.along is not None and live.along > 0.99


@pytest.mark.parametrize("line", [*FOLLOWING, "ppo --entropy 5", "a2c --entropy 50"])
def test_bonuses_penalties_and_baselines_of_a_page_are_no_wrong_sign(line: str, trained: Any, ask: Any) -> None:
    _, found, _ = ask(*trained(f"{line} --steps 2000"))
    assert found["direction"].state == "ok" or ("entropy" in line and found["direction"].state == "look")


def test_code_of_the_users_runs_only_when_it_is_named_again(trained: Any, ask: Any) -> None:
    run, flags = trained("./unwell.py:InPsi --steps 1000")
    code, found, advice = ask(run)
    assert (code, advice) == (0, "nothing wrong found") and found["step size"].state == "ok"
    assert found["fresh batch"].state == found["masks"].state == "not measured"
    assert f"pass it again, {flags}" in found["fresh batch"].seen
    assert "--no-live" in ask(run, "--no-live")[1]["fresh batch"].seen
    with pytest.raises(LogpiError, match="There is no file ./nofile.py"):
        cli.dispatch(["doctor", str(run), "--method", "./nofile.py:Whole"])


def test_the_log_alone_is_examined_where_there_is_no_checkpoint(trained: Any, ask: Any, tmp_path: Path) -> None:
    run = shutil.copytree(trained(HEALTHY[0])[0], tmp_path / "run")
    shutil.rmtree(run / "checkpoints")
    code, found, advice = ask(run)
    assert code == 1 and "has no checkpoint" in found["fresh batch"].seen and found["entropy"].state == "not measured"
    assert advice.startswith("first: run: finished, but it has no whole checkpoint; it cannot be loaded or resumed")
    (run / "metrics.jsonl").write_text("")
    assert ask(run)[1]["run"].seen == "finished, but it has no whole checkpoint and its log is empty"
    for file in ("status.json", "config.toml", "metrics.jsonl"):
        (run / file).unlink()
        with pytest.raises(LogpiError, match="is not a run folder"):
            cli.dispatch(["doctor", str(run)])


def test_a_run_that_trains_or_was_killed_is_examined_too(trained: Any, ask: Any, tmp_path: Path) -> None:
    run = shutil.copytree(trained(HEALTHY[0])[0], tmp_path / "run")
    with (run / "metrics.jsonl").open("a") as log:
        log.write('{"iteration": 11, "st')
    holder = RunFolder(run)
    holder.status("running")
    assert ask(run)[1]["run"] == Finding("run", "ok", "running, 10 iterations")
    holder.close()
    code, found, advice = ask(run)
    assert code == 0 and found["run"].state == "look" and advice.startswith("nothing wrong found; worth a look: run: ")


def test_a_checkpoint_that_a_training_run_removes_is_not_the_newest_any_more(
    trained: Any, ask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, real = shutil.copytree(trained(HEALTHY[0])[0], tmp_path / "run"), examine.reopen

    def slow(folder: Path, *args: Any, **more: Any) -> Any:
        if folder.name != "step-000000000000":
            shutil.rmtree(folder)
        return real(folder, *args, **more)

    monkeypatch.setattr(examine, "reopen", slow)
    code, found, _ = ask(run)
    assert code == 0 and found["fresh batch"].seen.endswith("of step-000000000000")


def test_what_a_page_raises_is_told(trained: Any, ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run, flags = trained("./unwell.py:Whole --steps 3000")
    monkeypatch.setattr(examine, "leaks", lambda *_: [].pop())
    code, found, _ = ask(run, flags)
    assert code == 1 and found["fresh batch"].seen == "IndexError: pop from empty list"
    assert found["signal"].state == "ok" and found["masks"].state == "not measured"


def test_a_credit_of_a_wrong_shape_names_its_page(trained: Any, ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained("./unwell.py:Misshapen --steps 1000")
    monkeypatch.setenv("SHORT", "1")
    assert ask(*run)[1]["fresh batch"].seen.startswith("Misshapen.psi returned a psi of shape")


def test_the_table_and_the_exit_code(trained: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run, sick = trained(HEALTHY[0])[0], trained("reinforce --lr 3 --steps 2000")[0]
    capsys.readouterr()
    assert cli.dispatch(["doctor", str(run)]) == 0
    head, *_, last = capsys.readouterr().out.splitlines()
    assert (head.split(), last) == (["check", "state", "what", "was", "seen"], "nothing wrong found")
    whole = [sys.executable, "-m", "logpi", "doctor", str(sick)]
    done = subprocess.run(whole, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=60)
    assert (done.returncode, done.stderr) == (1, "")
    head, *_, last = done.stdout.splitlines()
    assert head.rstrip().endswith("what to do") and last.startswith("first: step size: KL of an update ")


ROWS = [
    {"iteration": i, "steps": 512 * i, "return": 20.0 * i, "episodes": 100.0 * i, "kl": 0.01, "clip_fraction": 0.1}
    | {"entropy": 0.6 - 0.01 * i, "explained_variance": 0.1 * i, "accepted": 1.0}
    for i in range(1, 11)
]
HEALTH = Log(ROWS, {"state": "finished"}, {"envs": 8}, spaces.Discrete(2))


def each(**change: Any) -> Log:
    """The log with these metrics changed: a function of the row, or one value for all."""
    made = [row | {k: v(row) if callable(v) else v for k, v in change.items()} for row in ROWS]
    return dataclasses.replace(HEALTH, rows=made)


NOISY = lambda r: 20.0 + (90 + 50 * (r["iteration"] % 2)) * (r["iteration"] > 1)  # noqa: E731
WORSE = each(**{"return": lambda r: 20.0 - r["iteration"]})
AT_CHANCE = each(entropy=0.69, **{"return": lambda r: 22.0 + r["iteration"] % 3})
LOGS = {
    "NaN": (doctor.numbers, each(kl=lambda r: None if r["iteration"] > 7 else 0.01), "wrong", "kl in 3 of 10", "in 8"),
    "NaN in a file of another's": (doctor.numbers, each(entropy=float("nan")), "wrong", "entropy in 10"),
    "waiting": (doctor.numbers, each(**{"return": None}), "ok", "none in 10"),
    "large steps": (doctor.step_size, each(kl=0.3), "look", "KL of an update 0.3 (median)"),
    "clipped": (doctor.step_size, each(clip_fraction=0.6), "look", "60% of the ratios"),
    "half refused": (doctor.line_search, each(accepted=lambda r: float(r["iteration"] % 2)), "ok", "50%"),
    "refused": (doctor.line_search, each(accepted=lambda r: float(r["iteration"] < 9)), "look", "100%"),
    "worse than a constant": (doctor.critic, each(explained_variance=-0.5, **{"return": 20.0}), "look", "-0.50"),
    "a constant target": (doctor.critic, each(explained_variance=-0.5), "ok", "-0.50"),
    "certain and solved": (doctor.entropy, each(entropy=0.001), "ok", "0% of log 2"),
    "certain too early": (doctor.entropy, each(entropy=0.001, **{"return": 20.0}), "wrong", "collapsed"),
    "never another": (doctor.progress, each(**{"return": -200.0}), "look", "-200.0 from the beginning to the end"),
    "learnt and lost": (doctor.progress, each(**{"return": lambda r: 200.0 - 19 * r["iteration"]}), "look", "best 181"),
    "never learned": (doctor.progress, AT_CHANCE, "look", "not above its start by more than its noise: 23"),
    "a shorter one": (doctor.progress, dataclasses.replace(AT_CHANCE, rows=AT_CHANCE.rows[:7]), "ok", "at the end"),
    "worse and worse": (doctor.progress, WORSE, "look", "19.0 at the start"),
    "up and down": (doctor.progress, each(**{"return": NOISY}), "ok", "best 160"),
    "solved from the start": (
        doctor.progress,
        dataclasses.replace(AT_CHANCE, status={"state": "solved"}),
        "ok",
        "best",
    ),
    "at chance": (doctor.entropy, AT_CHANCE, "look", "still alike: 0.69 in the last quarter, 100% of log 2"),
    "of several": (doctor.entropy, dataclasses.replace(AT_CHANCE, space=spaces.MultiBinary(2)), "ok", "50% of the"),
    "of more": (doctor.entropy, dataclasses.replace(AT_CHANCE, space=spaces.MultiDiscrete([2, 2])), "ok", "50%"),
    "nothing kept": (doctor.ended, dataclasses.replace(HEALTH, whole=False), "wrong", "it has no whole checkpoint"),
    "nothing told": (doctor.ended, dataclasses.replace(HEALTH, rows=[]), "wrong", "its log is empty"),
    "killed at once": (doctor.ended, Log([], {"state": "interrupted"}, whole=False), "look", "interrupted"),
    "broken": (doctor.environments, each(broken_episodes=50.0), "look", "50 of 1,050 episodes broke"),
    "one broken": (doctor.environments, each(broken_episodes=1.0), "ok", "1 of 1,001 episodes broke"),
    "memory": (doctor.memory, each(micro=lambda r: 4096.0 // r["iteration"]), "look", "409 rows"),
    "no end": (doctor.progress, each(steps=20_000, **{"return": None}), "look", "no episode has ended in 20,000"),
    "no end yet": (doctor.progress, each(**{"return": None}), "not measured", "no episode has ended in 5,120"),
}


@pytest.mark.parametrize("case", LOGS)
def test_a_log_is_judged(case: str) -> None:
    check, log, state, *words = LOGS[case]
    found = check(log)
    assert found.state == state and all(word in found.seen for word in words)
    assert bool(found.do) or state in ("ok", "not measured")
    assert check(HEALTH).state == "ok"


def test_an_empty_log_is_no_illness() -> None:
    empty = Log([], {"state": "running"})
    assert {check(empty).state for check in doctor.CHECKS} == {"ok", "not measured"}


BATCH = Live("", "", "step-1", 256, 1e-5, 0.0, 0.0, 0.2, {"credit": 0.0, "gradient": 0.0, "weight": 0.0}, 1.0, 2.0, 0.5)
LIVES = {
    "solved": (
        judge.signal,
        HEALTH,
        {"equal_groups": 1.0, "gradient": 0.0},
        "look",
        "the loss is 0 because all rewards",
    ),
    "outweighed": (judge.direction, WORSE, {"cosine": -0.2, "along": 1.0}, "look", "outweighs the credit"),
    "against": (judge.direction, WORSE, {"cosine": 0.2, "along": -1.0}, "wrong", "against its own credit"),
    "no credit": (judge.direction, HEALTH, {}, "not measured", "no gradient, or no credit"),
    "mostly equal": (judge.signal, HEALTH, {"equal_groups": 0.9}, "look", "equal in 90% of the groups"),
    "some equal": (judge.signal, HEALTH, {"equal_groups": 0.5}, "ok", "equal in 50% of the groups"),
    "sparse": (judge.signal, HEALTH, {"reward": 0.0}, "look", "every reward of 256 actions is 0"),
    "drifts": (judge.normaliser, HEALTH, {"distance": 5.0, "cut": 0.0}, "look", "5 stds from the stored mean"),
    "other rewards": (judge.normaliser, HEALTH, {"reward_scale": 20.0}, "look", "20.0 times what was stored"),
    "as stored": (judge.normaliser, HEALTH, {"distance": 1.0, "cut": 0.0, "reward_scale": 2.0}, "ok", "1 stds"),
}


@pytest.mark.parametrize("case", LIVES)
def test_a_fresh_batch_is_judged(case: str) -> None:
    check, log, measured, state, words = LIVES[case]
    found = check(log, dataclasses.replace(BATCH, **measured))
    assert found.state == state and words in found.seen
