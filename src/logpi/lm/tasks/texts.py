"""Tasks about letters: copying and reversing."""

import random
from dataclasses import dataclass
from typing import Any

from logpi.lm.tasks.numbers import exact

ALPHABET = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Copy:
    """'hello=' -> 'hello': up to `length` letters."""

    length: int = 8
    letters = ALPHABET + "="
    limit = property(lambda self: self.length + 1)

    def example(self, chance: random.Random) -> dict[str, Any]:
        word = word_of(chance, self.length)
        return {"prompt": f"{word}=", "answer": word}

    def reward(self, prompts: list[str], completions: list[str], answer: list[str], **_: Any) -> list[float]:
        return exact(completions, answer)


@dataclass(frozen=True)
class ReverseText:
    """'hello=' -> 'olleh': up to `length` letters; the share of places that are right."""

    length: int = 8
    letters = ALPHABET + "="
    limit = property(lambda self: self.length + 1)

    def example(self, chance: random.Random) -> dict[str, Any]:
        word = word_of(chance, self.length)
        return {"prompt": f"{word}=", "answer": word[::-1]}

    def reward(self, prompts: list[str], completions: list[str], answer: list[str], **_: Any) -> list[float]:
        return [alike(said, right) for said, right in zip(completions, answer, strict=True)]


def word_of(chance: random.Random, longest: int) -> str:
    return "".join(chance.choice(ALPHABET) for _ in range(chance.randint(max(1, longest // 2), longest)))


def alike(said: str, right: str) -> float:
    """The share of places that agree, of the longer of the two."""
    return sum(a == b for a, b in zip(said, right, strict=False)) / max(len(said), len(right))
