"""Prompts from the user's files."""

import json

import pytest

from logpi import LogpiError
from logpi.lm.data import Table, read
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
        ('{"prompt": 5}\n', "has no prompt: a text, or a list of messages with role and content"),
        ('{"prompt": [{"role": "user"}]}\n', "Row 1 of .* has no prompt"),
        ('{"prompt": "a"}\n{"prompt": "b", "answer": 1}\n', "Row 2 of .* has other columns"),
    ],
)
def test_bad_files_are_refused_by_line(tmp_path, text, said):
    file = tmp_path / "bad.jsonl"
    file.write_text(text)
    with pytest.raises(LogpiError, match=said):
        Table(file)


def test_lines_end_with_a_line_feed_alone_and_may_begin_with_a_mark(tmp_path):
    rows = [{"prompt": f"{k}\u2028\x85\x0c"} for k in range(30)]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    file = tmp_path / "mine.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    assert read(file) == rows


def test_files_of_another_kind_than_they_say(tmp_path):
    (tmp_path / "latin.jsonl").write_bytes('{"prompt": "\xe9"}'.encode("latin-1"))
    with pytest.raises(LogpiError, match=r"latin.jsonl is not UTF-8 .byte 12.: save it as UTF-8"):
        read(tmp_path / "latin.jsonl")
    pytest.importorskip("pyarrow")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(LogpiError, match=r"torn.parquet cannot be read as Parquet .*: write it again"):
        read(tmp_path / "torn.parquet")


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
