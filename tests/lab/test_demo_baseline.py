"""What a baseline does: the same expected gradient, less variance, exact and measured."""

import itertools

import pytest
import torch

from logpi.exact.trajectories import drawn
from logpi.lab.demos.baseline import ARMS, Params, arms, demo
from logpi.noise import student

KINDS = ("value", "leave_one_out")


def by_hand(kind: str, level: float, pulls: int) -> tuple[torch.Tensor, float]:
    """(mean, variance) of the gradient at equal logits: every batch of so many pulls, one after another."""
    r, gradients = torch.tensor(ARMS, dtype=torch.float64) + level, []
    for pulled in itertools.product(range(4), repeat=pulls):
        a = torch.tensor(pulled)
        others = (r[a].sum() - r[a]) / (pulls - 1)
        b = {"value": r.mean(), "leave_one_out": others, "none": 0.0}[kind]
        gradients.append(((r[a] - b)[:, None] * (torch.eye(4, dtype=torch.float64)[a] - 0.25)).mean(0))
    g = torch.stack(gradients)
    return g.mean(0), float(g.var(0, correction=0).sum())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("level", "pulls"), [(2.0, 3), (0.5, 4)])
def test_the_gradient_is_the_same_on_average_and_its_variance_is_exact(kind: str, level: float, pulls: int) -> None:
    found = demo(Params(baseline=kind, level=level, pulls=pulls, updates=1, learners=2), 0)["gradient"]
    for name, baseline in (("without", "none"), ("with", kind)):
        mean, variance = by_hand(baseline, level, pulls)
        assert found[name]["mean"] == pytest.approx(mean.tolist(), abs=1e-12)
        assert found[name]["variance"] == pytest.approx(variance, rel=1e-10)
        assert found[name]["measured"] == pytest.approx(variance, rel=0.25)
    assert found["with"]["mean"] == pytest.approx(found["without"]["mean"], abs=1e-12)
    assert found["with"]["variance"] < 0.5 * found["without"]["variance"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_level_of_all_rewards_is_nothing_to_a_learner_with_a_baseline(kind: str) -> None:
    low, high = (demo(Params(baseline=kind, level=level, updates=8, learners=4), 2) for level in (0.0, 5.0))
    for name, same in (("with", True), ("without", False)):
        each = [torch.tensor(x["curves"][name]["each"], dtype=torch.float64) for x in (low, high)]
        assert torch.allclose(*each, atol=1e-9) == same
    assert high["gradient"]["with"]["variance"] == pytest.approx(low["gradient"]["with"]["variance"], rel=1e-9)
    assert high["gradient"]["without"]["variance"] > 10 * low["gradient"]["without"]["variance"]


def test_a_curve_is_the_mean_of_the_learners_with_its_t_interval() -> None:
    curve = demo(Params(learners=5, updates=4), 1)["curves"]["with"]
    each = torch.tensor(curve["each"], dtype=torch.float64)
    assert each.shape == (5, 5) and curve["mean"] == pytest.approx(each.mean(0).tolist())
    assert curve["half"] == pytest.approx((student(4) * each.std(0) / 5**0.5).tolist(), abs=1e-12)
    assert curve["mean"][0] == pytest.approx(sum(ARMS) / 4)


@pytest.mark.parametrize("kind", [*KINDS, "none"])
def test_a_learner_moves_by_the_mean_over_its_own_pulls_alone(kind: str) -> None:
    """All learners are updated at once, and none may hear of another's rewards."""
    params = Params(baseline="value" if kind == "none" else kind, learners=3, pulls=4, updates=1, lr=0.7)
    problem, r = arms(3, params.level), torch.tensor(ARMS, dtype=torch.float64)
    start = torch.arange(3).repeat_interleave(4)
    pulled = drawn(problem.table, problem.pi, start, torch.Generator().manual_seed(6)).action.view(3, 4)
    each = demo(params, 6)["curves"]["without" if kind == "none" else "with"]["each"]
    for a, curve in zip(pulled, each, strict=True):
        paid = r[a] + params.level
        b = {"value": r.mean() + params.level, "leave_one_out": (paid.sum() - paid) / 3, "none": 0.0}[kind]
        g = ((paid - b)[:, None] * (torch.eye(4, dtype=torch.float64)[a] - 0.25)).mean(0)
        assert curve[1] == pytest.approx(float((0.7 * g).softmax(0) @ r), abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_learners_with_a_baseline_end_higher_and_nearer_together(seed: int) -> None:
    curves = demo(Params(), seed)["curves"]
    assert curves["with"]["mean"][-1] - curves["with"]["half"][-1] > curves["without"]["mean"][-1]
    assert curves["with"]["half"][-1] < 0.5 * curves["without"]["half"][-1]
