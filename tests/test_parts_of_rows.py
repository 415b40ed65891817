"""Rows of different lengths go through a network in parts: few slots are padding, and what rows begin with counts once."""

from hypothesis import given
from hypothesis import strategies as st

from logpi.packing import FULL, MOST, WORTH, alike, in_line, shared


@given(st.lists(st.integers(1, 300), min_size=1, max_size=200), st.integers(1, 20_000))
def test_every_row_is_in_one_part_which_holds_no_more_than_asked_and_little_padding(lengths, budget):
    lengths = sorted(lengths, reverse=True)
    parts = [lengths[here] for here in alike(lengths, budget)]
    assert [n for part in parts for n in part] == lengths
    for part in parts:
        assert len(part) == 1 or len(part) * part[0] <= budget
        assert all(n >= FULL * part[0] for n in part[WORTH // part[0] + 1 :])


ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 200)), min_size=1, max_size=80)  # (prompt, tokens after it)


@given(ROWS, st.integers(1, 5_000))
def test_every_row_is_in_one_part_of_tokens_that_are_no_more_than_asked(rows, budget):
    rows = sorted(rows, key=lambda x: -x[1] - 10 * x[0] - 1)
    prompts = [(kind, 10 * kind + 1) for kind, _ in rows]
    lengths = [asked + more for (_, asked), (_, more) in zip(prompts, rows, strict=True)]
    parts = shared(lengths, prompts, budget)
    assert sorted(k for part in parts for k in part) == [*range(len(rows))]
    for part in parts:
        read = sum(dict(prompts[k] for k in part).values()) + sum(rows[k][1] for k in part)
        assert len(part) == 1 or read - prompts[part[0]][1] <= budget
    first_come = in_line(lengths, prompts, budget)[0]
    assert len(parts) <= len(first_come) or len(prompts) > len({*prompts})


def test_no_part_is_left_with_a_little():
    parts = shared([10] * 21, [(k, 5) for k in range(21)], 100)
    assert [len(x) for x in parts] == [7, 7, 7]


def test_rows_of_a_prompt_that_is_longer_than_a_part_go_together():
    assert shared([832] * 16, [(k % 2, 800) for k in range(16)], 300) == [[*range(0, 16, 2)], [*range(1, 16, 2)]]


def test_a_prompt_that_rows_share_counts_once_but_not_for_ever():
    lengths, prompts = [832] * 16, [(k % 2, 800) for k in range(16)]
    assert in_line(lengths, prompts, 2346) == ([slice(0, 16)], 2 * 800 + 16 * 32)
    assert shared(lengths, prompts, 1100) == [[*range(0, 16, 2)], [*range(1, 16, 2)]]  # by prompt
    apart = [(k, 800) for k in range(16)]
    assert len(in_line(lengths, apart, 2346)[0]) == 6 and len(alike(lengths, 2346)) == 8
    many = in_line([832] * 64, [(0, 800)] * 64, 2346)[0]  # keys and values are those of every row
    assert all((part.stop - part.start) * 832 <= MOST * 2346 for part in many) and len(many) > 1
