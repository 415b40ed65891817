"""pass@k against counting: every subset, every outcome."""

from itertools import combinations, product
from math import isclose
from statistics import fmean

import numpy as np
import pytest

from logpi.run.evaluate import Evaluation
from logpi.run.passing import interval, lines, pass_at, table


@pytest.mark.parametrize("n", range(1, 8))
def test_it_is_the_share_of_subsets_with_a_right_one(n):
    for right, k in product(range(n + 1), range(1, n + 1)):
        answers = [True] * right + [False] * (n - right)
        brute = fmean(any(x) for x in combinations(answers, k))
        assert isclose(pass_at(k, n, right), brute, rel_tol=0, abs_tol=1e-15)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.97, 1.0])
def test_it_is_unbiased_for_one_of_k_being_right(p):
    n = 6
    for k in range(1, n + 1):
        expected = sum(
            pass_at(k, n, sum(said)) * p ** sum(said) * (1 - p) ** (n - sum(said)) for said in product((0, 1), repeat=n)
        )
        assert isclose(expected, 1 - (1 - p) ** k, rel_tol=0, abs_tol=1e-14)


def test_large_numbers_do_not_overflow():
    assert pass_at(100, 10_000, 1) == pytest.approx(0.01, abs=1e-12) and pass_at(1000, 2000, 1500) == 1.0


def test_a_table_has_powers_of_two_and_all_of_them():
    right = [[True, False, False, False, False, False]] * 2 + [[True] * 6, [False] * 6]
    found = table(right)
    assert [*found] == ["1", "2", "4", "6"] and found["6"]["mean"] == 0.75
    assert found["1"]["mean"] == pytest.approx((1 / 6 + 1 / 6 + 1 + 0) / 4)
    assert all(x["low"] <= x["mean"] <= x["high"] for x in found.values())
    assert [*table([[True]])] == ["1"] and [*table([[True] * 8])] == ["1", "2", "4", "8"]
    assert lines(found, 4)[-1].startswith("pass@6 0.750 [")


@pytest.mark.parametrize("p", [0.3, 0.9])
def test_intervals_hold_the_truth_as_often_as_they_say(p):
    chance, held = np.random.default_rng(0), 0
    for _ in range(150):
        low, high = interval((chance.random(60) < p).astype(float).tolist())
        held += low <= p <= high
    assert held / 150 > 0.88


def test_where_all_agree_the_bound_is_exact():
    """A mean of `low` gives n ones with probability 2.5 %; the mirror image for zeros."""
    for n in (1, 5, 100):
        low, high = interval([1.0] * n)
        assert high == 1.0 and isclose(low**n, 0.025)
        assert interval([0.0] * n) == (0.0, 1 - low)


@pytest.mark.parametrize("worth", [0.0, 1.0])
def test_answers_that_all_agree_have_the_exact_bound_and_not_no_width(worth):
    found = Evaluation([worth] * 100, [1] * 100, True, "prompts")
    low, high = interval([worth] * 100)
    assert found.interval == high - low > 0.03
    assert str(found) == f"{worth:.3f} ± 0.036 over 100 prompts (deterministic)"
    assert Evaluation([worth] * 100, [1] * 100, True).interval == 0, "returns of episodes have no such bound"
