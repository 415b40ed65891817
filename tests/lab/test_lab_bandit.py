"""Probabilities follow reward, exactly as the policy gradient says."""

import json
import math

import pytest
import torch

from logpi.errors import LogpiError
from logpi.lab.demos import DEMOS, answer, describe


def bandit(seed=0, **params):
    return answer("bandit", params, seed)


def test_an_action_becomes_likelier_exactly_when_its_psi_is_positive():
    found = bandit(moves="0123ssss" * 4, noise=1.0)
    for before, after, action, psi in zip(found["pi"], found["pi"][1:], found["actions"], found["psi"], strict=False):
        assert math.copysign(1, after[action] - before[action]) == math.copysign(1, psi)


def test_the_first_move_is_the_policy_gradient():
    found = bandit(moves="2", lr=0.5, reveal=True)
    uniform = torch.full((4,), 0.25, dtype=torch.float64)
    logits = 0.5 * found["rewards"][0] * (torch.eye(4, dtype=torch.float64)[2] - uniform)
    torch.testing.assert_close(torch.tensor(found["pi"][1], dtype=torch.float64), logits.softmax(0), rtol=0, atol=1e-14)


def test_one_move_more_changes_none_before_it():
    short, long = bandit(moves="s1s"), bandit(moves="s1s0ss")
    assert long["pi"][:4] == short["pi"] and long["rewards"][:3] == short["rewards"]


def test_the_baseline_is_the_mean_of_earlier_rewards():
    found = bandit(moves="0123", baseline="mean")
    r, psi = found["rewards"], found["psi"]
    assert psi == pytest.approx([r[0], r[1] - r[0], r[2] - (r[0] + r[1]) / 2, r[3] - sum(r[:3]) / 3], abs=1e-14)


def test_what_is_hidden_is_not_sent():
    assert "means" not in bandit(moves="ss") and "expected" not in bandit(moves="ss")
    assert len(bandit(reveal=True)["means"]) == 4


@pytest.mark.parametrize(
    ("params", "seed", "sentence"),
    [
        ({"moves": "04"}, 0, "moves are at most 200"),
        ({"moves": "s" * 201}, 0, "moves are at most 200"),
        ({"lr": 3}, 0, "lr is 3: allowed is a number from 0.01 to 2"),
        ({"speed": 3}, 0, "has no parameter 'speed'"),
        ({}, -1, "seed is -1: allowed is a whole number from 0 to"),
        ({}, True, "seed is True"),
    ],
)
def test_what_is_out_of_range_is_refused_in_one_sentence(params, seed, sentence):
    with pytest.raises(LogpiError, match=sentence):
        answer("bandit", params, seed)


def test_a_demonstration_that_is_not_there_is_named():
    with pytest.raises(LogpiError, match="no demonstration 'bandits'. Did you mean bandit"):
        answer("bandits", {}, 0)


@pytest.mark.parametrize("name", DEMOS)
def test_what_stands_beside_a_picture_is_whole(name):
    told = describe(name)
    json.dumps(told, allow_nan=False)
    assert all(x["help"] for x in told["params"]) and told["shown"] and 1 <= len(told["idea"]) <= 3
    assert told["formula"].startswith("<math") and "logpi." in told["shown"][0]["module"]


def test_a_field_becomes_a_control_with_its_range_and_comment():
    lr, *_, moves = describe("bandit")["params"]
    assert lr == {
        "name": "lr",
        "label": "lr",
        "default": 0.3,
        "help": "how far one reward moves the logits",
        "kind": "float",
        "low": 0.01,
        "high": 2,
    }
    assert moves["kind"] == "text" and moves["default"] is None
