"""`logpi variance`: the textbook's order on a real environment, exact moments on a small one, and what the command prints."""

import csv
import io
import json
import sys
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from enumerate_mdp import episodes, layered, tabular_policy, trajectories

from logpi import noise, psi
from logpi.errors import LogpiError
from logpi.exact.estimators import Choice, Estimator
from logpi.loop import credited
from logpi.now import row_scores
from logpi.rollout.control import Control
from logpi.run import variance as room
from logpi.run.commands.train import main as train
from logpi.run.commands.variance import cell, main, percent
from logpi.run.own_page import own
from logpi.run.variance import LESSON, UNBIASED, collect, compare, crossed, estimators, frozen, trained

TINY = ["--episodes", "16", "--batch", "2", "--after", "64"]


@dataclass(frozen=True)
class WrongSign:
    """A planted bug: the baseline is added."""

    right: Estimator

    def psi(self, b: Any, state: dict) -> Any:
        return self.right.psi(b.with_(value=-b.value), state)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.right, name)


def test_total_to_go_baseline_advantage_is_the_order_on_cartpole_and_a_wrong_sign_breaks_it():
    policy = frozen(trained("ppo", "CartPole-v1", 10_000, 0))
    batches = collect(policy, "CartPole-v1", 24, 16, 1.0, 0, q=False)
    pages = estimators([("total", "none"), ("to_go", "none"), ("to_go", "value"), ("gae", "none")])
    pages["twin"] = WrongSign(pages["to_go - value"])
    lines = {x.estimator: x for x in compare(pages, policy, batches, estimators(UNBIASED))[0]}

    def ordered(*names: str) -> bool:
        """Each variance is clearly above the next."""
        found = [lines[name].variance.value for name in names]
        return all(a > 1.3 * b for a, b in zip(found, found[1:], strict=False))

    assert ordered("total", "to_go", "to_go - value", "gae")
    assert not ordered("total", "to_go", "twin", "gae")
    assert lines["to_go"].ratio.high < 1 and lines["to_go - value"].ratio.high < lines["to_go"].ratio.low
    assert lines["gae"].cosine.value > lines["to_go"].cosine.value > lines["total"].cosine.value
    assert lines["to_go"].ess.value > lines["total"].ess.value


def test_credit_is_made_in_batches_of_the_size_that_would_be_used():
    table = layered()
    policy = tabular_policy(table)
    pair = [episodes(table, policy, trajectories(table)[i : i + 2]) for i in range(0, 6, 2)]
    page = Estimator(Choice(psi="to_go", baseline="leave_one_out"))
    lines = compare({"a": page, "b": page}, policy, pair, {"r": page})[0]
    alone = torch.stack([row_scores(policy, b, credited(page, b, {}).psi).mean(0) for b in pair])
    assert lines[0].variance.value == pytest.approx(2 * float(alone.var(0).sum()), rel=1e-9)
    assert lines[1].ratio.value == lines[1].ratio.low == lines[1].ratio.high == 1.0


def test_a_baseline_stands_with_returns_only_and_the_total_return_never_gets_gamma_twice():
    found = crossed(("to_go", "gae"), ("none", "mean"))
    assert found == [("to_go", "none"), ("to_go", "mean"), ("gae", "none")]
    pages = estimators([*LESSON, ("q", "mean")], gamma=0.9)
    table = layered()
    b = episodes(table, tabular_policy(table), trajectories(table))
    assert torch.equal(pages["total"].psi(b, {})[0], psi.total_return(b.reward, b.ended, 0.9))
    assert pages["to_go - mean"].choice.from_start and "q - mean" in pages


def test_a_frozen_policy_stays_as_it_is(tmp_path):
    policy = trained("ppo", "CartPole-v1", 0, 3)
    before = {k: v.clone() for k, v in policy.state_dict().items()}
    batches = collect(frozen(policy), "CartPole-v1", 4, 2, 0.9, 0, q=True)
    again = collect(frozen(policy), "CartPole-v1", 4, 2, 0.9, 0, q=True)
    assert all(torch.equal(v, before[k]) for k, v in policy.state_dict().items())
    assert all(torch.equal(a.value, b.value) and torch.equal(a.q, b.q) for a, b in zip(batches, again, strict=True))
    assert [len(b) for b in batches] == [2] * 4 and bool((batches[0].reward[batches[0].mask] == 1).all())


def test_the_command_tells_the_same_in_three_ways_and_draws(capsys, tmp_path):
    line = [
        "--env",
        "CartPole-v1",
        *TINY,
        *["--psi", "total", "to_go", "advantage", "--baseline", "none", "time", "--gamma", "0.9"],
    ]
    main([*line, "--plot", str(tmp_path / "v.png")])
    shown = capsys.readouterr().out
    main([*line, "--json"])
    told = json.loads(capsys.readouterr().out)
    main([*line, "--csv"])
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    names = ["total", "total - time", "to_go", "to_go - time", "advantage"]
    assert [x["estimator"] for x in told["estimators"]] == names == [x["estimator"] for x in table]
    assert told["episodes"] == 12 and told["batch"] == 2 and told["gamma"] == 0.9 and told["unit"] == "episode"
    assert all(name in shown for name in names) and "ppo after 64 steps on CartPole-v1" in shown
    assert float(table[2]["variance_low"]) == told["estimators"][2]["variance"]["low"]
    assert (tmp_path / "v.png").stat().st_size > 10_000


def test_a_run_is_measured_at_its_newest_checkpoint(capsys, tmp_path):
    line = "reinforce --env Pendulum-v1 --backend sync --normalise-obs --episodes 2 --hidden 8 --steps 400 --evaluate 0"
    train([*line.split(), "--quiet", "--no-plot", "--recipe", "none", "--out", str(tmp_path)])
    run = next(tmp_path.glob("*/*/*"))
    capsys.readouterr()
    main([str(run), "--psi", "to_go", "gae", "--episodes", "8", "--batch", "2", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["policy"] == f"{run} on Pendulum-v1" and told["actions"] == 6 * 200 and told["return"] < -500


@pytest.mark.parametrize(("episodes", "batch"), [(128, 16), (37, 4), (100, 3), (280, 70), (301, 16)])
def test_no_more_episodes_are_played_than_asked_for_and_a_quarter_fits_v(monkeypatch, capsys, episodes, batch):
    played = []

    def call(self, policy, critic):
        b = plain_call(self, policy, critic)
        played.append((critic is not None, len(b)))
        return b

    plain_call = Control.__call__
    monkeypatch.setattr("logpi.run.variance.Control.__call__", call)
    line = f"--env CartPole-v1 --method reinforce --after 0 --psi to_go td --episodes {episodes} --batch {batch} --json"
    main(line.split())
    told = json.loads(capsys.readouterr().out)
    for_v, measured = (sum(n for valued, n in played if valued is kind) for kind in (False, True))
    assert for_v + measured == episodes and measured == told["episodes"] and for_v == told["episodes_for_v"]
    assert 0 <= for_v - episodes // 4 < batch and measured % batch == 0


def trained_run(tmp_path, capsys, line):
    train([*line.split(), "--env", "CartPole-v1", *QUIET, "--out", str(tmp_path)])
    capsys.readouterr()
    return next(tmp_path.glob("*/*/*"))


QUIET = [
    "--hidden",
    "8",
    "--steps",
    "300",
    "--evaluate",
    "0",
    "--quiet",
    "--no-plot",
    "--recipe",
    "none",
    "--backend",
    "native",
]
FEW = ["--psi", "to_go", "td", "--episodes", "32", "--batch", "4"]


def test_a_runs_own_page_is_a_row_and_its_settings_are_the_defaults(capsys, tmp_path):
    run = trained_run(tmp_path, capsys, "ppo --gamma 0.9 --lam 0.5 --envs 2")
    main([str(run), *FEW, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["gamma"], told["lam"], told["average"], told["from_start"]) == (0.9, 0.5, "per_action", True)
    assert [x["estimator"] for x in told["estimators"]] == ["to_go", "td", "ppo (the run's page)"]
    assert [x["own_scale"] for x in told["estimators"]] == [False, False, True]
    main([str(run), *FEW, "--gamma", "0.8", "--average", "per_episode", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["gamma"], told["lam"], told["average"]) == (0.8, 0.5, "per_episode")
    main([str(run), *FEW, "--plot", str(tmp_path / "own.svg")])
    shown = capsys.readouterr().out
    assert "ppo (the run's page) *" in shown and "* standardised: variance, ratio and ESS" in shown
    assert "it leaves gamma^t out" in shown and "entropy bonus" in shown and max(map(len, table_of(shown))) <= 120
    with pytest.raises(LogpiError, match="trains a policy, and .* has one: leave --method away"):
        main([str(run), "--method", "ppo"])
    with pytest.raises(LogpiError, match="trains a policy, and .* has one: leave --after away"):
        main([str(run), "--after", "10"])


def table_of(shown):
    return shown.split("\n\n")[1].splitlines()


def test_the_runs_page_has_its_own_credit(tmp_path, capsys):
    """REINFORCE without baseline, gamma 1, per episode: to_go itself, number for number."""
    run = trained_run(tmp_path, capsys, "baseline --baseline none --gamma 1 --episodes 4")
    main([str(run), *FEW, "--json"])
    to_go, _, own = json.loads(capsys.readouterr().out)["estimators"]
    for column in ("variance", "snr", "cosine", "ess"):
        assert own[column] == pytest.approx(to_go[column], rel=1e-4)
    assert own["estimator"] == "baseline (the run's page)" and own["ratio"]["value"] == pytest.approx(1.0)


MINE = """
from dataclasses import dataclass, replace
from logpi.methods import Reinforce
@dataclass(frozen=True)
class Mine(Reinforce):
    odd: bool = {odd}
    def psi(self, b, state):
        return super().psi(b, state) if not self.odd else (b.nothing, None)
"""


LEFT_OUT = {
    "grpo --starts 1 --group 2": "it compares groups from one start",
    "actor_critic --credit q --envs 2": "it needs its Q critic",
    "grpo --starts 1 --group 2 --kl 0.1": "it needs a reference policy",
}


@pytest.mark.parametrize("line", LEFT_OUT)
def test_a_page_that_whole_episodes_cannot_tell_is_left_out_in_a_line(capsys, tmp_path, line):
    run = trained_run(tmp_path, capsys, line)
    main([str(run), *FEW])
    assert f"is not among the rows: {LEFT_OUT[line]}" in capsys.readouterr().out


def test_a_page_of_the_users_is_given_again_and_may_fail(capsys, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MINE.format(odd=False))
    run = trained_run(tmp_path / "runs", capsys, f"{file}:Mine --episodes 4")
    main([str(run), *FEW])
    assert f"it is yours, and is loaded with --method {file}:Mine" in capsys.readouterr().out
    main([str(run), *FEW, "--method", f"{file}:Mine"])
    assert "Mine (the run's page)" in capsys.readouterr().out
    config = next(run.glob("checkpoints/step-*"))
    page = own(config, f"{file}:Mine").page
    policy = trained("reinforce", "CartPole-v1", 0, 0)
    batches = collect(frozen(policy), "CartPole-v1", 3, 2, 1.0, 0, q=False)
    assert room.refusal(page, frozen(policy), batches[0], {}) == ""
    assert "AttributeError" in room.refusal(replace(page, odd=True), frozen(policy), batches[0], {})


def test_the_table_fits_and_no_share_exceeds_one(capsys):
    main(["--env", "CartPole-v1", "--method", "reinforce", "--after", "0", "--episodes", "32", "--batch", "4"])
    shown = capsys.readouterr().out
    assert max(map(len, table_of(shown))) <= 120 and max(map(len, shown.splitlines())) <= 120
    policy = trained("reinforce", "CartPole-v1", 0, 0)
    batches = collect(frozen(policy), "CartPole-v1", 3, 2, 1.0, 0, q=False)
    for x in compare(estimators(LESSON), frozen(policy), batches, estimators(UNBIASED))[0]:
        assert 0 <= x.ess.low <= x.ess.value <= x.ess.high <= 1
    assert (
        cell(room.Measured(0.351, 0.329, 0.373)) == "0.351 ± 0.022"
        and cell(room.Measured(0.949, 0.89, 1.0)) == "0.949 [0.89, 1]"
    )
    assert percent(room.Measured(8e4, 7.2e4, 9e4)) == "80,000 ±11%" and percent(room.Measured(1.0, 1.0, 1.0)) == "1"
    b = batches[0]
    found = {
        k: room.standardises(p, policy, b, {}) for k, p in estimators([*LESSON, ("to_go", "standardised")]).items()
    }
    assert [k for k, apart in found.items() if apart] == ["to_go - standardised"]


def test_what_was_measured_is_printed_before_the_picture_fails(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        main(["--env", "CartPole-v1", *TINY, "--psi", "to_go", "td", "--plot", str(tmp_path / "file" / "v.png")])
    assert "to_go" in capsys.readouterr().out


REFUSED = {
    "--psi to_go": "give a run folder, or --env ID --method M",
    "--env CartPole-v1 --episodes 3 --batch 1": "too few for batches of 1: give 4 or more",
    "--env CartPole-v1 --gamma 0.9 --no-from-start": "The total return holds gamma",
    "--env CartPole-v1 --plot v.jpg": "must end in .png or .svg",
    "--env CartPole-v1 --psi to_go --baseline group_mean": "needs groups from one start",
    "--env CartPole-v1 --method nothing": "There is no method 'nothing'",
    "--env CartPole-v1 --gamma 2": "gamma is 2.0: allowed is",
    "nowhere": "has no checkpoint",
    "--env CartPole-v1 --baseline group_mean": "needs groups from one start",
    "--env CartPole-v1 --baseline time": "name some, --psi total to_go q",
    "--env CartPole-v1 --psi gae td --baseline time": "name some, --psi total to_go q",
    "--env CartPole-v1 --json --csv": "give one of them",
    "--env CartPole-v1 --network ./a.py:build": "--network belongs to a run",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_cannot_be_measured_is_told_in_one_sentence(line):
    with pytest.raises(LogpiError) as told:
        main(line.split())
    assert REFUSED[line] in str(told.value) and "\n" not in str(told.value)


def test_neither_a_missing_picture_maker_nor_a_network_too_large_is_a_surprise(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(LogpiError, match="Plots need matplotlib"):
        main(["--env", "CartPole-v1", *TINY, "--psi", "to_go", "--plot", str(tmp_path / "v.png")])
    table = layered()
    policy = tabular_policy(table)
    monkeypatch.setattr(noise, "LIMIT", 20)
    with pytest.raises(LogpiError, match="give fewer --episodes"):
        compare({}, policy, [episodes(table, policy, trajectories(table)[:2])] * 3, {})
