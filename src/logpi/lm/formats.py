"""Rows of mathematics in words, as GSM8K and MATH have them."""

from pathlib import Path
from typing import Any

from logpi.errors import LogpiError

FORMATS = {("question", "answer"): "####", ("problem", "solution"): "\\boxed{"}  # columns, and what marks the answer


def mathematics(row: dict[str, Any]) -> tuple[str, str] | None:
    """The columns asked and told of a row of GSM8K (Cobbe et al. 2021) or MATH (Hendrycks et al. 2021); None of any other."""
    if "prompt" in row:
        return None
    return next((k for k, mark in FORMATS.items() if {*k} <= {*row} and mark in str(row[k[1]])), None)


def with_prompts(rows: list[dict[str, Any]], columns: tuple[str, str], file: Path) -> list[dict[str, Any]]:
    """prompt, completion (all that is told) and answer (what it comes to), and the columns that are none of these."""
    asked, told = columns
    for number, row in enumerate(rows, 1):
        if mathematics(row) != columns:
            raise LogpiError(
                f"Row {number} of {file} is no {asked} with {FORMATS[columns]} in its {told}, as the first is: mend it."
            )
    last = after_hashes if told == "answer" else boxed
    return [
        {k: v for k, v in row.items() if k not in columns}
        | {"prompt": row[asked], "completion": row[told], "answer": last(row[told])}
        for row in rows
    ]


def after_hashes(text: str) -> str:
    """'... #### 1,234' -> '1,234'"""
    return text.rpartition("####")[2].strip()


def boxed(text: str) -> str:
    """What the last \\boxed{...} holds, braces in it included."""
    inside, depth = text.rpartition("\\boxed{")[2], 1
    for k, letter in enumerate(inside):
        depth += (letter == "{") - (letter == "}")
        if not depth:
            return inside[:k].strip()
    return inside.strip()
