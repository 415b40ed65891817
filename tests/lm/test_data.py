"""Prompts from the user's files."""

import json

import pytest

from logpi import LogpiError
from logpi.lm.data import Table
from logpi.lm.tasks import draw
from logpi.lm.tasks.task import held_out


def table(tmp_path, *rows) -> Table:
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Table(file)


def test_every_row_comes_once_in_each_pass_and_none_is_in_both_splits(tmp_path):
    made = table(tmp_path, *({"prompt": f"p{k}", "answer": str(k)} for k in range(100)))
    n = len(made.splits["train"])
    assert 80 <= n < 100
    first, second = ([draw(made, "train", 0, k)["prompt"] for k in range(at, at + n)] for at in (0, n))
    assert sorted(first) == sorted(second) == sorted(x["prompt"] for x in made.splits["train"]) and first != second
    assert not {*first} & {draw(made, "test", 0, k)["prompt"] for k in range(50)}
    assert made.reward([], [" 7 ", "8"], answer=["7", "9"]) == [1.0, 0.0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("{\n", "Line 1 of .* is not JSON"),
        ("[1]\n", "is a list"),
        ('{"prompt": ""}\n', "Row 1 of .* has no prompt"),
        ('{"prompt": [{"role": "user"}]}\n', "Row 1 of .* has no prompt"),
        ('{"prompt": "a"}\n{"prompt": "b", "answer": 1}\n', "Row 2 of .* has other columns"),
    ],
)
def test_bad_files_are_refused_by_line(tmp_path, text, said):
    file = tmp_path / "bad.jsonl"
    file.write_text(text)
    with pytest.raises(LogpiError, match=said):
        Table(file)


def test_no_file_no_answer_and_nothing_left_to_train_on(tmp_path):
    with pytest.raises(LogpiError, match="There is no file"):
        Table(tmp_path / "none.jsonl")
    with pytest.raises(LogpiError, match="has no column answer"):
        table(tmp_path, *({"prompt": x} for x in "abcdefgh")).reward([], ["x"])
    held = next(f"q{k}" for k in range(1000) if held_out(f"q{k}"))
    with pytest.raises(LogpiError, match="all held out"):
        table(tmp_path, {"prompt": held})


def test_chats_are_prompts(tmp_path):
    made = table(tmp_path, *({"prompt": [{"role": "user", "content": f"{k}?"}]} for k in range(30)))
    assert draw(made, "train", 0, 0)["prompt"][0]["role"] == "user"
