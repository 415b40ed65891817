"""The map of the methods and their steps from one batch: every number is that of the pages, and true by enumeration."""

from typing import Any

import pytest
import torch

from logpi.exact import mdp
from logpi.exact.problem import Problem
from logpi.lab.demos.methods import PARENT, Params, demo
from logpi.lab.problems import machine
from logpi.methods import METHODS


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return demo(Params(lr=0.5, well=-0.3, worn=0.4), 1)


OLD = machine(-0.3, 0.4)


def after(found: dict[str, Any], name: str) -> Problem:
    return machine(*found["steps"][name]["theta"])


def enumerated(problem: Problem) -> float:
    """J as the sum over all episodes of probability times return."""
    x = problem.every
    return float(problem.probability @ problem.table.R[x.state, x.action].sum(-1))


def test_the_map_has_every_page_and_leads_back_to_reinforce(found: dict[str, Any]) -> None:
    assert list(found["nodes"]) == list(found["steps"]) == list(METHODS)
    for name in METHODS:
        while name != "reinforce":
            assert found["nodes"][name]["changed"]
            name = found["nodes"][name]["parent"]
    assert {*PARENT} == {*METHODS} - {"reinforce"}


def test_an_edge_says_what_changed(found: dict[str, Any]) -> None:
    changed = {name: node["changed"] for name, node in found["nodes"].items()}
    assert changed["baseline"] == ["psi"] and changed["trpo"] == ["step"] and changed["mdpo"] == ["objective", "step"]
    assert found["nodes"]["npg"]["words"]["step"] == "natural step" and "F^-1" in found["nodes"]["npg"]["formula"]


@pytest.mark.parametrize("name", METHODS)
def test_the_kl_of_a_step_is_the_exact_one(found: dict[str, Any], name: str) -> None:
    seen = torch.bincount(torch.tensor(found["episodes"]["states"]).flatten(), minlength=2).double()
    exact = mdp.kl(OLD.pi, after(found, name).pi, seen / seen.sum())
    assert found["steps"][name]["kl"] == pytest.approx(float(exact), rel=1e-9, abs=1e-15) and exact > 0


@pytest.mark.parametrize("name", METHODS)
def test_the_gains_are_those_of_all_episodes(found: dict[str, Any], name: str) -> None:
    new, step = after(found, name), found["steps"][name]
    assert step["gain"] == pytest.approx(enumerated(new) - enumerated(OLD), abs=1e-12)
    d, (_, Q) = mdp.visits(OLD.table, OLD.pi, 1.0, 4), mdp.values(OLD.table, OLD.pi, 1.0, 4)
    assert step["surrogate"] == pytest.approx(float((d[..., None] * (new.pi - OLD.pi) * Q).sum()), abs=1e-12)


def test_reinforce_takes_one_step_along_the_mean_of_its_estimates(found: dict[str, Any]) -> None:
    states, actions, rewards = (torch.tensor(found["episodes"][x]) for x in ("states", "actions", "rewards"))
    to_go = rewards.double().flip(1).cumsum(1).flip(1)
    score = actions - OLD.pi[states, 1]  # of the log-odds
    g = [float((to_go * score * (states == s)).sum(1).mean()) for s in (0, 1)]
    assert found["steps"]["reinforce"]["theta"] == pytest.approx([-0.3 + 0.5 * g[0], 0.4 + 0.5 * g[1]], abs=1e-12)


@pytest.mark.parametrize("delta", [0.001, 0.05])
def test_a_trust_region_holds_whatever_the_learning_rate_and_npg_reaches_its_border(delta: float) -> None:
    steps = demo(Params(lr=2.0, delta=delta), 0)["steps"]
    assert 0.5 * delta < steps["trpo"]["kl"] <= delta
    assert steps["npg"]["kl"] == pytest.approx(delta, rel=0.25) and steps["trpo"]["surrogate"] > 0


def test_to_first_order_the_surrogate_is_the_gain() -> None:
    for lr in (0.1, 0.001):
        step = demo(Params(lr=lr), 0)["steps"]["baseline"]
        assert step["gain"] == pytest.approx(step["surrogate"], rel=lr)
