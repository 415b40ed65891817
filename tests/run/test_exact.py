"""`logpi exact`: the table, its other forms, a picture, estimators and problems of the user's, and what it refuses."""

import json
import os
import subprocess
import sys

import pytest

from logpi.errors import LogpiError
from logpi.methods import METHODS
from logpi.run.cli import dispatch

OWN = """
import torch
from logpi.exact import from_table
from logpi.exact.problems import five_states

def right(log_pi, reward, mask):
    return -torch.where(mask, log_pi * reward.sum(-1, keepdim=True), 0.0).sum(-1).mean()

def problem():
    return from_table(five_states(), "mine", gamma=1.0)

def broken():
    return {}["x"]
"""


@pytest.fixture
def said(capsys):
    def run(*words: str) -> str:
        assert not dispatch(["exact", *words])
        return capsys.readouterr().out

    return run


def refused(words: str, sentence: str) -> None:
    with pytest.raises(LogpiError, match=sentence):
        dispatch(["exact", *words.split()])


def test_json_csv_and_the_table_tell_the_same(said):
    words = ("five-states", "--vary", "average", "--rows", "2")
    found = json.loads(said(*words, "--json"))
    table, lines = said(*words), said(*words, "--csv").splitlines()
    assert [x["estimator"] for x in found["estimators"]] == ["per_episode", "per_action", "per_sequence", "per_budget"]
    assert found["estimators"][1]["choice"]["average"] == "per_action" and len(found["truth"]["J"]) == 12
    for x in found["figures"]:
        if x["truth"] == "J":
            row = next(line for line in table.splitlines() if x["estimator"] in line)
            bias = x["relative_bias"]
            assert (f"{bias:.4f}" if bias > 1e-10 else " 0 ") in row and f"{x['variance']:.4f}" in row
    assert len(lines) == 1 + len(found["figures"]) and lines[0].startswith("factor,estimator,truth,batches,measured")


def test_every_method_is_judged_as_its_page_is(said):
    found = json.loads(said("sequences", "--vary", "method", "--rows", "2", "--json"))
    assert [x["estimator"] for x in found["estimators"]] == [*METHODS]
    told = {x["estimator"]: x for x in found["figures"] if x["truth"] == "J"}
    assert max(told[name]["relative_bias"] for name in ("reinforce", "rloo")) < 1e-10
    assert told["dr_grpo"]["cosine"] == pytest.approx(1) and told["dr_grpo"]["scale"] < 0.1  # a divisor of 128 actions
    assert min(told[name]["relative_bias"] for name in ("grpo", "dapo", "gspo", "cispo", "reinforce_pp")) > 0.01


def test_too_many_batches_are_drawn_and_the_intervals_shown(said):
    table = said("FrozenLake-v1", "--alone", "--samples", "60")
    assert "about 10^97 trajectories" in table and "drawn 60" in table and table.count("±") >= 4
    refused("FrozenLake-v1 --alone --samples 0", "about 10.97 trajectories: batches of 4 are too many to enumerate")


def test_an_estimator_and_a_problem_of_the_users(said, tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    line = said("./own.py:problem", "--estimator", "./own.py:right", "--rows", "2").splitlines()[4]
    assert line.split()[:4] == ["right", "0", "1.0000", "1.0000"]
    assert "RLOO" in said("sequences", "--estimator", "rloo", "--rows", "2")
    refused("./own.py:broken", r"own.py:broken raised KeyError: 'x'")
    refused("--estimator ppoo", "There is no estimator 'ppoo': it takes a method")


def test_it_draws_a_picture(said, tmp_path):
    pytest.importorskip("matplotlib")
    said("chain", "--vary", "average", "--samples", "40", "--plot", str(tmp_path / "new" / "picture.png"))
    said("sequences", "--vary", "kl", "--rows", "1", "--plot", str(tmp_path / "picture.svg"))
    assert all(x.stat().st_size > 5_000 for x in (tmp_path / "picture.svg", tmp_path / "new" / "picture.png"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--plot x.pdf", "The picture x.pdf must end in .png or .svg"),
        ("--json --csv", "give one of them"),
        ("--estimator ppo --clip 0.1", "--clip chooses among our factors"),
        ("--estimator ppo --vary psi", "--vary chooses among our factors"),
        ("--alone --vary psi", "--alone varies nothing"),
        ("--kl-weight 0.1", "--kl-weight is of an --estimator"),
        ("nix", "There is no problem 'nix'"),
        ("--alone --baseline group_leave_one_out --psi total --rows 1", "leave_one_out needs a group of 2 or more"),
        ("--samples 3", "samples is 3: draw 40 batches or more"),
    ],
)
def test_what_would_be_ignored_or_cannot_be_is_refused_at_once(words, sentence):
    refused(words, sentence)


def test_one_row_leaves_out_what_needs_others(said):
    table = said("--vary", "baseline", "--rows", "1")
    assert "group_mean" in table and "group_leave_one_out" not in table


def test_a_kl_in_the_reward_is_judged_by_the_kl_that_is_discounted_like_it(said):
    assert said("--alone", "--kl", "k1_reward", "--rows", "1").splitlines()[4].split()[10] == "0"


def test_without_matplotlib_the_sentence_says_what_to_install(said, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    refused("sequences --vary average --rows 1 --plot x.png", r'pip install "logpi\[plot\]"')


def test_the_whole_table_from_the_shell(tmp_path):
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "logpi", "exact"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.count("all 1,820") >= 40 and "group_standardised" in done.stdout
