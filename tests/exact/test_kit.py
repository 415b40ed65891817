"""The test kit holds as it stands, and what it is made of can fail."""

import pytest
import torch

from logpi import psi
from logpi.exact.kit import CHECKS, failures
from logpi.exact.kit.holds import agree, apart, check, claim


@pytest.mark.parametrize("name", CHECKS)
def test_it_holds(name):
    CHECKS[name]()


def test_there_is_a_check_for_every_factor():
    rooms = {f.__module__.rpartition(".")[2] for f in CHECKS.values()}
    assert rooms == {"average", "baseline", "credit", "expected", "kl", "natural", "objective", "step"}
    assert len(CHECKS) >= 60


def test_failures_says_which_and_by_how_much_and_a_crash_is_a_failure(monkeypatch):
    plain = psi.td
    monkeypatch.setattr(psi, "td", lambda *given: plain(*given) + 0.25)
    monkeypatch.setitem(CHECKS, "one that crashes", lambda: 1 / 0)
    found = failures()
    assert "off by 0.25" in found["n-step credit is n rewards and then V, less V"]
    assert found["one that crashes"] == "ZeroDivisionError: division by zero"
    assert "conjugate gradient is the dense solve" not in found
    monkeypatch.undo()
    assert failures() == {}


@pytest.mark.parametrize("found", [1.0 + 1e-9, torch.nan, torch.inf, torch.tensor([1.0, 1.0, 0.9])])
def test_numbers_that_are_off_do_not_agree(found):
    with pytest.raises(AssertionError, match="the name: .*not 1"):
        agree(found, 1.0, "the name")


def test_agreement_is_relative_to_large_numbers_and_absolute_to_small_ones():
    agree(1e6 + 1e-5, 1e6)
    agree(1e-11, 0.0)
    with pytest.raises(AssertionError):
        agree(1e6 + 1e-3, 1e6)
    with pytest.raises(AssertionError):
        agree(1e-9, 0.0)


def test_a_comparison_that_could_not_fail_is_refused():
    with pytest.raises(AssertionError, match="no difference"):
        apart(torch.ones(3), torch.ones(3), "two")
    with pytest.raises(AssertionError, match="said so"):
        claim(torch.tensor(False), "said so")


def test_two_checks_cannot_have_one_name():
    with pytest.raises(ValueError, match="dense solve"):
        check("conjugate gradient is the dense solve")(lambda: None)
