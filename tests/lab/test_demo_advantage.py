"""Return against advantage: one update on average, and another push for every sample."""

import pytest
import torch

from logpi.lab.demos.advantage import Params, demo

OTHER = Params(a=0.5, b=9.0, c=2.0, d=4.0, prefer=-1.5, lr=0.4)


@pytest.mark.parametrize("params", [Params(), OTHER])
def test_both_add_up_to_the_same_update_which_is_the_gradient(params: Params) -> None:
    found = demo(params, 0)
    logits = torch.tensor([params.prefer, 0.0, 0.0, 0.0], dtype=torch.float64, requires_grad=True)
    J = logits.softmax(0) @ torch.tensor([params.a, params.b, params.c, params.d], dtype=torch.float64)
    g = torch.autograd.grad(J, logits)[0].tolist()
    for told in found["credits"].values():
        assert told["mean"] == pytest.approx(g, abs=1e-13)
        added = [sum(p * row[i] for p, row in zip(found["pi"], told["terms"], strict=True)) for i in range(4)]
        assert added == pytest.approx(g, abs=1e-13)
    assert found["value"] == pytest.approx(float(J.detach()))


@pytest.mark.parametrize("params", [Params(), OTHER])
def test_a_return_pushes_up_whatever_was_done_and_an_advantage_what_was_better_than_expected(params: Params) -> None:
    found = demo(params, 0)
    for a, paid in enumerate(found["returns"]):
        assert found["credits"]["return"]["change"][a][a] > 0
        told = found["credits"]["advantage"]
        assert told["psi"][a] == pytest.approx(paid - found["value"], abs=1e-13)
        assert (told["change"][a][a] > 0) == (paid > found["value"])
    psi = found["credits"]["advantage"]["psi"]
    assert sum(p * x for p, x in zip(found["pi"], psi, strict=True)) == pytest.approx(0, abs=1e-13)


def test_a_row_is_the_credit_times_the_score_and_its_change_that_of_one_step() -> None:
    found = demo(OTHER, 0)
    pi = torch.tensor(found["pi"], dtype=torch.float64)
    for told in found["credits"].values():
        psi = torch.tensor(told["psi"], dtype=torch.float64)
        terms = psi[:, None] * (torch.eye(4, dtype=torch.float64) - pi)
        torch.testing.assert_close(torch.tensor(told["terms"], dtype=torch.float64), terms, rtol=0, atol=1e-13)
        change = (pi.log() + 0.4 * terms).softmax(-1) - pi
        torch.testing.assert_close(torch.tensor(told["change"], dtype=torch.float64), change, rtol=0, atol=1e-13)
        spread = (pi[:, None] * (terms - pi @ terms).square()).sum()
        assert told["variance"] == pytest.approx(float(spread), rel=1e-10)


def test_the_advantage_is_the_quieter_one() -> None:
    credits = demo(Params(), 0)["credits"]
    assert credits["advantage"]["variance"] < 0.1 * credits["return"]["variance"]
