"""`logpi variance`: the textbook's order on a real environment, exact moments on a small one, and what the command prints."""

import csv
import io
import json
import sys
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from enumerate_mdp import episodes, layered, solve, tabular_policy, trajectories

from logpi import noise
from logpi.errors import LogpiError
from logpi.exact.estimators import Choice, Estimator
from logpi.loop import credited
from logpi.now import row_scores
from logpi.run.commands.train import main as train
from logpi.run.commands.variance import main
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


def test_variances_are_those_of_all_trajectories():
    """The exact trace of the covariance of one episode's gradient lies in the interval that drawn episodes give."""
    table = layered()
    policy = tabular_policy(table)
    every, pi = trajectories(table), policy.network.weight.T.softmax(-1).detach()
    V = solve(table, pi, 1.0)[0]
    chance = torch.stack([x.probability(pi) for x in every])
    drawn = torch.multinomial(chance, 2400, replacement=True, generator=torch.Generator().manual_seed(1)).tolist()
    batches = [episodes(table, policy, [every[i] for i in drawn[k : k + 16]], V) for k in range(0, 2400, 16)]
    pages = estimators([("total", "none"), ("to_go", "none"), ("to_go", "value"), ("td", "none"), ("gae", "none")])
    lines, reference, certainty = compare(pages, policy, batches, estimators(UNBIASED))
    assert reference == "to_go - value" and certainty > 0.95
    whole = episodes(table, policy, every, V)
    for x, page in zip(lines, pages.values(), strict=True):
        each = row_scores(policy, whole, credited(page, whole, {}).psi)
        signal = (chance @ each).square().sum()
        variance = chance @ each.square().sum(1) - signal
        assert x.variance.low < variance < x.variance.high and x.variance.high / x.variance.low < 1.6
        assert x.snr.low < 16 * signal / variance < x.snr.high
        assert x.noise_scale.low < variance / signal < x.noise_scale.high


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
    assert not pages["total"].choice.from_start and pages["to_go - mean"].choice.from_start and "q - mean" in pages


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
        "--psi",
        "total",
        "to_go",
        "advantage",
        "--baseline",
        "none",
        "time",
        "--gamma",
        "0.9",
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


REFUSED = {
    "--psi to_go": "give a run folder, or --env ID --method M",
    "--env CartPole-v1 --episodes 3 --batch 1": "too few for batches of 1: give 4 or more",
    "--env CartPole-v1 --gamma 0.9 --no-from-start": "The total return holds gamma",
    "--env CartPole-v1 --plot v.jpg": "must end in .png or .svg",
    "--env CartPole-v1 --psi to_go --baseline group_mean": "needs groups from one start",
    "--env CartPole-v1 --method nothing": "There is no method 'nothing'",
    "--env CartPole-v1 --gamma 2": "gamma is 2.0: allowed is",
    "nowhere": "has no checkpoint",
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
