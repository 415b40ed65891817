"""Rows of different lengths go through a network in parts that are cut to their longest: few slots are padding."""

from hypothesis import given
from hypothesis import strategies as st

from logpi.batch import FULL, MOST, WORTH, alike


@given(st.lists(st.integers(1, 300), min_size=1, max_size=200), st.integers(1, 20_000))
def test_every_row_is_in_one_part_which_holds_no_more_than_asked_and_little_padding(lengths, budget):
    lengths = sorted(lengths, reverse=True)
    parts = [lengths[here] for here in alike(lengths, budget)[0]]
    assert [n for part in parts for n in part] == lengths
    for part in parts:
        assert len(part) == 1 or len(part) * part[0] <= budget
        assert all(n >= FULL * part[0] for n in part[WORTH // part[0] + 1 :])


def test_a_prompt_that_rows_share_counts_once_but_not_for_ever():
    lengths, prompts = [832] * 16, [(k // 8, 800) for k in range(16)]
    assert alike(lengths, 2346, prompts) == ([slice(0, 16)], 2 * 800 + 16 * 32)
    assert len(alike(lengths, 2346)[0]) == 8
    apart = [(k, 800) for k in range(16)]
    assert alike(lengths, 2346, apart) == alike(lengths, 2346)
    many = alike([832] * 64, 2346, [(0, 800)] * 64)[0]  # keys and values are those of every row
    assert all((part.stop - part.start) * 832 <= MOST * 2346 for part in many) and len(many) > 1
