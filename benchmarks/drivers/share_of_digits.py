"""The reward of both libraries: the share of an answer's digits that stand in their places."""

from typing import Any


def share(prompts: list[str], completions: list[str], answer: list[str], **_: Any) -> list[float]:
    return [
        sum(a == b for a, b in zip(said, right, strict=False)) / len(right)
        for said, right in zip(completions, answer, strict=True)
    ]
