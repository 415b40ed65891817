"""Rows of different lengths go through a network in parts that are cut to their longest: few slots are padding."""

from hypothesis import given
from hypothesis import strategies as st

from logpi.batch import FULL, WORTH, alike


@given(st.lists(st.integers(1, 300), min_size=1, max_size=200), st.integers(1, 20_000))
def test_every_row_is_in_one_part_which_holds_no_more_than_asked_and_little_padding(lengths, budget):
    lengths = sorted(lengths, reverse=True)
    parts = [lengths[here] for here in alike(lengths, budget)]
    assert [n for part in parts for n in part] == lengths
    for part in parts:
        assert len(part) == 1 or len(part) * part[0] <= budget
        assert all(n >= FULL * part[0] for n in part[WORTH // part[0] + 1 :])
