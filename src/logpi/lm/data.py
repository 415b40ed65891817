"""Data of the user's own: JSONL or Parquet with a `prompt` (text, or a chat) and any other columns for the reward."""

import json
import random
from functools import lru_cache
from pathlib import Path
from typing import Any

from logpi.errors import LogpiError, short
from logpi.lm.chat import PROMPT, is_prompt
from logpi.lm.formats import mathematics, with_prompts
from logpi.lm.tasks.task import Split, held_out, key


class Table:
    """A task of rows. One in ten prompts is held out, by the prompt itself; `data:test` files are not needed."""

    letters = ""  # its prompts need a tokenizer of their own
    limit = None
    judged_by: str | None = None

    def __init__(self, file: Path) -> None:
        self.file, rows = file, read(file)
        if columns := mathematics(rows[0]):
            rows, self.judged_by = with_prompts(rows, columns, file), "math"
        for number, row in enumerate(rows, 1):
            must_have_prompt(row, file, number)
        names = {*rows[0]}
        if odd := next((n for n, row in enumerate(rows, 1) if {*row} != names), None):
            raise LogpiError(f"Row {odd} of {file} has other columns than the first: give all rows the same.")
        self.prompts = [row["prompt"] for row in rows]
        held = [held_out(key(row["prompt"])) for row in rows]
        self.splits: dict[Split, list[dict[str, Any]]] = {
            "train": [row for row, out in zip(rows, held, strict=True) if not out],
            "test": [row for row, out in zip(rows, held, strict=True) if out],
        }
        if not self.splits["train"]:
            raise LogpiError(f"{file} has {len(rows)} rows, all held out for the test: give more.")
        if not self.splits["test"]:
            self.splits["test"] = self.splits["train"]  # whoever needs others calls `must_hold_out`
        self.order = lru_cache(4)(self._order)

    def must_hold_out(self) -> "Table":
        """Refuse what has no row for a test."""
        if self.splits["test"] is self.splits["train"]:
            raise LogpiError(
                f"{self.file} has {len(self.splits['train'])} rows, none held out for the test, as one in ten is: give more."
            )
        return self

    def must_fit(self, policy: Any, limit: int) -> None:
        """Refuse a row whose prompt has no tokens, or with an answer of `limit` tokens is longer than the context."""
        for number, length in enumerate(self._lengths(policy), 1):
            if policy.context is not None and length + limit > policy.context:
                raise LogpiError(
                    f"Row {number} of {self.file} has a prompt of {length} tokens, which with an answer of up to {limit} is"
                    f" longer than the model's context of {policy.context}: leave it away, or give a smaller --max-tokens."
                )

    def _lengths(self, policy: Any) -> list[int]:
        """Tokens of each prompt. All are asked about at once, and one by one where that fails, to name the row."""
        try:
            return [len(ids) for ids in policy.encode_all(self.prompts)]
        except LogpiError:
            for number, prompt in enumerate(self.prompts, 1):
                try:
                    policy.encode(prompt)
                except LogpiError as wrong:
                    raise LogpiError(f"Row {number} of {self.file}: {wrong}") from wrong
            raise

    def numbered(self, split: Split, seed: int | str, number: int) -> dict[str, Any]:
        """Every row of a split once in each pass, in an order of that pass."""
        rows = self.splits[split]
        again, place = divmod(number, len(rows))
        return rows[self.order(split, seed, again)[place]]

    def _order(self, split: Split, seed: int | str, again: int) -> list[int]:
        order = [*range(len(self.splits[split]))]
        random.Random(f"{seed}/{split}/{again}").shuffle(order)
        return order

    def reward(self, prompts: list[str], completions: list[str], **columns: list[Any]) -> list[float]:
        """Data say no reward: with an `answer` it is 1 for that answer to the letter, but for space around it."""
        if "answer" not in columns:
            raise LogpiError(f"{self.file} has no column answer: give a reward with --reward ./file.py:f.")
        return [
            float(said.strip() == str(right).strip())
            for said, right in zip(completions, columns["answer"], strict=True)
        ]


def read(file: Path) -> list[dict[str, Any]]:
    """The rows of a file, at least one."""
    if not file.is_file():
        raise LogpiError(f"There is no file {file}: --data takes a .jsonl or a .parquet file.")
    if file.suffix == ".parquet":
        try:
            import pyarrow.parquet
        except ImportError as missing:
            raise LogpiError('Parquet needs pyarrow: pip install "logpi[tasks]"') from missing
        try:
            rows = pyarrow.parquet.read_table(file).to_pylist()
        except (pyarrow.ArrowException, OSError) as wrong:
            raise LogpiError(f"{file} cannot be read as Parquet ({short(str(wrong))}): write it again.") from wrong
    else:
        rows = [_row(line, file, n) for n, line in enumerate(_text(file).split("\n"), 1) if line.strip()]
    if not rows:
        raise LogpiError(f"{file} is empty: give at least one row.")
    return rows


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except UnicodeDecodeError as wrong:
        raise LogpiError(f"{file} is not UTF-8 (byte {wrong.start}): save it as UTF-8.") from wrong


def _row(line: str, file: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError as wrong:
        raise LogpiError(f"Line {number} of {file} is not JSON ({wrong}): each line is one object.") from wrong
    if not isinstance(row, dict):
        raise LogpiError(f"Line {number} of {file} is a {type(row).__name__}: each line is one object.")
    return row


def must_have_prompt(row: dict[str, Any], file: Path, number: int) -> None:
    """A text that is not empty, or a chat."""
    prompt = row.get("prompt")
    if not prompt or not is_prompt(prompt):
        raise LogpiError(f"Row {number} of {file} has no prompt: {PROMPT}.")
