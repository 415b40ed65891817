"""Trust regions: the map is exact at every point, and each path does what its page says."""

from typing import Any

import pytest
import torch

from logpi.exact import mdp
from logpi.exact.problem import Problem
from logpi.lab.demos.regions import PATHS, Params, demo
from logpi.lab.problems import machine, sample

START = machine(1.5, -2.0)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return demo(Params(episodes=64), 3)


def enumerated(problem: Problem) -> float:
    x = problem.every
    return float(problem.probability @ problem.table.R[x.state, x.action].sum(-1))


def far(new: Problem) -> float:
    """KL(start || new) over the states of all episodes of the start."""
    x = START.every
    visits = torch.stack([START.probability @ (x.state == s).double().sum(-1) for s in (0, 1)])
    return float(mdp.kl(START.pi, new.pi, visits / visits.sum()))


@pytest.mark.parametrize("cell", [(0, 0), (4, 29), (16, 16), (32, 7)])
def test_the_map_is_exact(found: dict[str, Any], cell: tuple[int, int]) -> None:
    worn, well = cell
    there = machine(found["axis"][well], found["axis"][worn])
    assert found["J"][worn][well] == pytest.approx(enumerated(there), abs=1e-12)
    assert found["kl"][worn][well] == pytest.approx(far(there), abs=1e-12)


@pytest.mark.parametrize("name", PATHS)
def test_a_path_starts_at_the_policy_and_tells_the_true_kl_and_return(found: dict[str, Any], name: str) -> None:
    path = found["paths"][name]
    assert path[0]["theta"] == [1.5, -2.0] and path[0]["kl"] == 0 and len(path) == 6
    for point in path:
        there = machine(*point["theta"])
        assert point["J"] == pytest.approx(enumerated(there), abs=1e-12)
        assert point["kl"] == pytest.approx(far(there), abs=1e-12)
    assert path[-1]["J"] > path[0]["J"] + 0.1


@pytest.mark.parametrize("delta", [0.002, 0.1])
def test_a_trust_region_holds_at_every_step_and_the_natural_step_aims_at_its_border(delta: float) -> None:
    paths = demo(Params(delta=delta, episodes=64), 0)["paths"]
    for trusted, blind in zip(paths["trust region"][1:], paths["natural"][1:], strict=True):
        assert 0 < trusted["step"] <= delta and blind["step"] == pytest.approx(delta, rel=0.5)


def test_the_plain_step_is_the_mean_of_advantage_times_score() -> None:
    x = sample(START, 64, 3000)
    V, _ = START.critic
    to_go = START.table.R[x.state, x.action].flip(1).cumsum(1).flip(1)
    term = (to_go - V[torch.arange(4), x.state]) * (x.action - START.pi[x.state, 1])
    expected = [at + 0.5 * float((term * (x.state == s)).mean()) for s, at in ((0, 1.5), (1, -2.0))]
    found = demo(Params(lr=0.5, episodes=64, iterations=1), 3)["paths"]["plain"]
    assert found[1]["theta"] == pytest.approx(expected, abs=1e-12)


def test_the_natural_step_is_as_long_where_the_policy_is_flat_and_the_plain_one_is_not() -> None:
    steep, flat = (demo(Params(well=well, iterations=1, episodes=128), 0)["paths"] for well in (0.0, 3.0))
    assert flat["plain"][1]["step"] < 0.1 * steep["plain"][1]["step"]
    assert flat["trust region"][1]["step"] > 0.3 * steep["trust region"][1]["step"]


@pytest.mark.parametrize(
    ("name", "field", "small", "large"), [("clip", "clip", 0.05, 0.9), ("mirror", "eta", 0.05, 5.0)]
)
def test_clip_and_price_hold_the_step(name: str, field: str, small: float, large: float) -> None:
    held, free = (
        demo(Params(**{field: x}, epochs=6, iterations=1), 0)["paths"][name][1]["step"] for x in (small, large)
    )
    assert held < 0.5 * free
