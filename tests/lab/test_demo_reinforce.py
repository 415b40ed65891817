"""REINFORCE step by step: the returns are those of the rewards, and the update is the sum of the terms shown."""

import math
from typing import Any

import pytest
import torch

from logpi.lab.demos.reinforce import Params, demo


def rewards(found: dict[str, Any]) -> list[float]:
    return [step["reward"] for step in found["steps"]]


@pytest.mark.parametrize("gamma", [0.5, 1.0])
def test_an_action_is_credited_with_what_followed_it_or_with_all(gamma: float) -> None:
    found = demo(Params(gamma=gamma), 2)
    credit = [step["credit"] for step in found["steps"]]
    for t, r in enumerate(rewards(found)):
        assert credit[t] == pytest.approx(r + gamma * (credit[t + 1] if t + 1 < len(credit) else 0.0), abs=1e-14)
    total = demo(Params(gamma=gamma, credit="total"), 2)
    assert {*rewards(total)} and [s["action"] for s in total["steps"]] == [s["action"] for s in found["steps"]]
    whole = sum(gamma**k * r for k, r in enumerate(rewards(total)))
    assert [s["credit"] for s in total["steps"]] == pytest.approx([whole] * len(total["steps"]), abs=1e-14)


@pytest.mark.parametrize("params", [Params(), Params(updates=5, credit="total", lr=0.7, gamma=0.8)])
def test_the_update_is_the_sum_of_the_terms(params: Params) -> None:
    found = demo(params, 3)
    before, after = (torch.tensor(found["policy"][x], dtype=torch.float64) for x in ("before", "after"))
    logits = before.log()
    for step in found["steps"]:
        logits[step["state"]] += torch.tensor(step["term"], dtype=torch.float64)
    assert len(found["steps"]) > 1
    torch.testing.assert_close(logits.softmax(-1), after, rtol=0, atol=1e-13)


def test_a_term_is_the_rate_times_the_credit_times_the_score() -> None:
    found = demo(Params(lr=0.5, updates=3), 1)
    for step in found["steps"]:
        score = [float(i == step["action"]) - p for i, p in enumerate(step["before"])]
        assert step["term"] == pytest.approx([0.5 * step["credit"] * x for x in score], abs=1e-14)
        a = step["action"]
        assert math.copysign(1, step["after"][a] - step["before"][a]) == math.copysign(1, step["credit"])


def test_an_episode_goes_from_cell_to_cell_until_it_arrives() -> None:
    found = demo(Params(size=2, updates=10), 0)
    steps = found["steps"]
    assert [s["next"] for s in steps[:-1]] == [s["state"] for s in steps[1:]] and steps[0]["state"] == 0
    assert found["arrived"] and steps[-1]["next"] == 3 and steps[-1]["reward"] == pytest.approx(0.96)


@pytest.mark.parametrize("updates", [0, 10])
def test_the_returns_spread_around_the_exact_one(updates: int) -> None:
    found = demo(Params(updates=updates, episodes=500), 4)
    told = found["returns"]
    each = torch.tensor(told["each"], dtype=torch.float64)
    assert told["mean"] == pytest.approx(float(each.mean())) and told["std"] == pytest.approx(
        float(each.std(correction=0))
    )
    assert told["std"] > 0 and abs(told["mean"] - found["J"]["before"]) < 4 * told["std"] / math.sqrt(500)


def test_updates_that_came_before_have_raised_the_return() -> None:
    worth = [demo(Params(updates=n), 0)["J"]["before"] for n in (0, 6, 12)]
    assert worth == sorted(worth) and worth[2] > worth[0] + 0.3
