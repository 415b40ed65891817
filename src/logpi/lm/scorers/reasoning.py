"""Of the process that judges puzzles of reasoning-gym: the data set's own score."""

import ast
from functools import cache
from typing import Any

from reasoning_gym.factory import get_score_answer_fn
from reasoning_gym.utils import extract_answer

scorer = cache(get_score_answer_fn)


def puzzles(
    prompts: list[Any], completions: list[str], dataset: list[str], entry: list[str], **_: Any
) -> list[float | Exception]:
    """The score of what stands in the last <answer> tags, or of all that was said; its exception where it has one."""
    return [score(*x) for x in zip(completions, dataset, entry, strict=True)]


def score(said: str, dataset: str, entry: str) -> float | Exception:
    answer = extract_answer(said)
    try:
        found: float = scorer(dataset)(said.strip() if answer is None else answer, ast.literal_eval(entry))
    except Exception as wrong:
        return wrong
    return found
