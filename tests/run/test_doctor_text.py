"""The doctor on language runs: healthy ones are told so, and each thing that goes wrong with them is named with its cure."""

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from logpi.run import cli, doctor, doctor_text, examine, judge
from logpi.run.commands import doctor as command
from logpi.run.doctor import Finding, Log
from logpi.run.examine import Live

QUICK = "--evaluate 0 --quiet --no-plot --out runs"
COPY = "--task copy --level 2 --warmup 60 --warmup-rows 64"
BROKEN = "def f(prompts, completions, **columns):\n    raise ValueError('no')\n"


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run that is trained and examined in this process: (exit code, findings by name, the advice)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text(BROKEN)

    def run(line: str, flags: str = "") -> tuple[int, dict[str, Finding], str]:
        cli.dispatch(["train", *shlex.split(f"{line} {QUICK}")])
        (folder,) = (tmp_path / "runs").glob("*/*/*")
        capsys.readouterr()
        code = cli.dispatch(["doctor", str(folder), "--json", *shlex.split(flags)])
        told = json.loads(capsys.readouterr().out)
        found = {f["name"]: Finding(**f) for f in told["findings"]}
        assert [*found] == [x for x in command.ORDER if x not in command.CONTROL]
        return code, found, told["advice"]

    return run


@pytest.mark.parametrize(
    "line",
    [f"grpo {COPY} --steps 4000 --starts 16 --kl 0.1 --lr 3e-4", f"ppo {COPY} --steps 2500 --envs 64 --lr 3e-4"],
    ids=["grpo", "ppo"],
)
def test_nothing_wrong_is_found_in_a_healthy_run(line: str, ask: Any) -> None:
    code, found, advice = ask(line)
    assert code == 0 and advice.startswith("nothing wrong found")
    live = ("fresh batch", "first ratio", "first KL", "masks", "direction", "signal")
    texts = ("rewards", "step size", "entropy", "length")
    assert {found[name].state for name in (*live, *texts)} == {"ok"}


def test_a_sick_run_is_named_with_its_cure(ask: Any) -> None:
    code, found, advice = ask("rloo --task addition --level 1 --steps 600")
    assert code == 1 and found["groups"].state == found["signal"].state == "wrong"
    assert advice.startswith("first: signal: the loss is 0 because all rewards in every group are equal")


@pytest.mark.filterwarnings("ignore:The reward f failed")
def test_a_reward_of_the_users_that_fails_is_named_and_code_of_theirs_is_named_again(ask: Any) -> None:
    code, found, _ = ask(f"rloo {COPY} --steps 200 --reward ./broken.py:f", "--reward ./broken.py:f")
    assert code == 1 and found["rewards"].state == "wrong" and "(100%)" in found["rewards"].seen
    assert found["fresh batch"].state == "ok"
    (folder,) = Path("runs").glob("*/*/*")
    assert "pass them again, --reward ./broken.py:f" in command.look(folder, {}, True).why


def test_a_page_that_forgets_the_mask_is_named(ask: Any) -> None:
    page = f"{Path(__file__).with_name('unwell.py')}:InAverage"
    code, found, _ = ask(f"{page} {COPY} --steps 300", f"--method {page}")
    assert code == 1 and found["masks"].state == "wrong" and "have weight in the average" in found["masks"].seen


def test_garbage_behind_a_completion_and_around_it_is_seen_where_a_page_takes_it_in() -> None:
    from lm.little import little
    from lm.test_tokens import drawn

    b = drawn(little()).with_(start=None)
    other = examine.spoilt_text(b)
    assert other.mask.shape[1] == b.mask.shape[1] + examine.PADDING and int(other.mask.sum()) == int(b.mask.sum())
    assert bool(other.log_pi[~other.mask][: len(b)].isnan().any()) and not bool(other.log_pi[other.mask].isnan().any())
    kept = slice(0, b.mask.shape[1])
    assert torch.equal(other.action[:, kept][b.mask], b.action[b.mask])
    before = b.mask.flip(-1).cumsum(-1).flip(-1) > 0  # a prompt, and what was said
    assert torch.equal(other.obs[:, kept][before], b.obs[before]) and not torch.equal(other.obs[:, kept], b.obs)


ROWS: list[dict[str, Any]] = [
    {"iteration": i, "steps": 512 * i, "return": 0.2 + 0.05 * i, "episodes": 128.0 * i, "kl": 0.01, "entropy": 1.0}
    | {"length": 6.0, "truncated": 0.05, "groups_without_signal": 0.3, "reward_failures": 0.0, "kl_ref": 0.01 * i}
    for i in range(1, 13)
]
HEALTH = Log(ROWS, {"state": "finished"}, text=True)
WORSE = {"return": lambda r: 1.0 - 0.05 * r["iteration"]}
FLAT = {"return": 0.0}


def each(**change: Any) -> Log:
    made = [row | {k: v(row) if callable(v) else v for k, v in change.items()} for row in ROWS]
    return dataclasses.replace(HEALTH, rows=made)


doubling = lambda r: 0.01 * 2.0 ** r["iteration"]  # noqa: E731
LOGS: dict[str, Any] = {
    "KL exploding": (doctor_text.reference, each(kl_ref=doubling), "wrong", "it explodes"),
    "KL large": (doctor_text.reference, each(kl_ref=1.0), "look", "KL to the reference 1 nats a token"),
    "no reference": (doctor_text.reference, each(kl_ref=None), "not measured", "no reference policy"),
    "entropy collapsed": (
        doctor_text.entropy,
        each(entropy=lambda r: 2.0 / 9 ** r["iteration"], **FLAT),
        "wrong",
        "coll",
    ),
    "certain and solved": (
        doctor_text.entropy,
        each(entropy=lambda r: 2.0 / 9 ** r["iteration"]),
        "ok",
        "nats a token",
    ),
    "a short run of nothing": (
        *(doctor.progress, dataclasses.replace(each(**FLAT), rows=each(**FLAT).rows[:3])),
        *("look", "0 from the beginning to the end"),
    ),
    "silent groups": (doctor_text.groups, each(groups_without_signal=1.0, **FLAT), "wrong", "100% of the groups"),
    "silent and solved": (doctor_text.groups, each(groups_without_signal=1.0), "look", "100% of the groups"),
    "no groups": (doctor_text.groups, each(groups_without_signal=None), "not measured", "this method has none"),
    "truncated": (doctor_text.length, each(truncated=0.7, **WORSE), "look", "70% were cut at the limit"),
    "exploding": (
        *(doctor_text.length, each(truncated=lambda r: r["iteration"] / 12, length=lambda r: r["iteration"], **WORSE)),
        *("wrong", "it explodes"),
    ),
    "longer": (doctor_text.length, each(length=lambda r: 1.0 * r["iteration"], **WORSE), "look", "it explodes"),
    "collapsing": (
        doctor_text.length,
        each(length=lambda r: 12.0 / r["iteration"] ** 2, **WORSE),
        "wrong",
        "it collapses",
    ),
    "longer and better": (doctor_text.length, each(length=lambda r: 2.0 * r["iteration"]), "ok", "tokens in the last"),
    "no lengths": (doctor_text.length, each(length=None), "not measured", "none in the log"),
    "rewards failing": (doctor_text.rewards, each(reward_failures=64.0), "wrong", "failed for 768 of 1,536"),
    "one of two failing": (
        doctor_text.rewards,
        each(reward_failures=128.0, **{"reward/f": 1.0, "reward/f-2": 0.0}),
        "wrong",
        "failed for 1,536 of 3,072 judgements (50%)",
    ),
    "some failing": (doctor_text.rewards, each(reward_failures=5.0), "look", "failed for 60 of 1,536"),
    "one failing": (
        doctor_text.rewards,
        each(reward_failures=lambda r: float(r["iteration"] == 3)),
        "ok",
        "failed for 1",
    ),
    "the task's own": (doctor_text.rewards, each(reward_failures=None), "ok", "the task's own"),
    "no entropy": (doctor_text.entropy, each(entropy=None), "not measured", "none in the log"),
}


@pytest.mark.parametrize("case", LOGS)
def test_a_log_is_judged(case: str) -> None:
    check, log, state, words = LOGS[case]
    found = check(log)
    assert found.state == state and words in found.seen
    assert bool(found.do) or state in ("ok", "not measured")
    assert check(HEALTH).state == "ok"


def test_a_first_ratio_far_from_one_in_the_log_is_wrong_whatever_the_batch_says() -> None:
    log = each(first_ratio_error=lambda r: 0.3 if r["iteration"] == 2 else 1e-6)
    assert judge.ratio(log, Live()).state == "wrong" and judge.ratio(HEALTH, Live()).state == "not measured"


def test_an_empty_log_is_no_illness() -> None:
    empty = Log([], {"state": "running"}, text=True)
    assert {check(empty).state for check in doctor_text.CHECKS} == {"not measured"}
