"""A toy world for learning from preferences: what is said of a thing may be friendly, unfriendly or neither."""

import math
import random
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

FRIENDLY = ("good", "fine", "warm", "kind")  # no two words begin alike: one letter decides
NEITHER = ("new", "long", "plain", "usual")
UNFRIENDLY = ("bad", "cold", "dull", "sour")
VALUE = {word: v for v, words in ((1, FRIENDLY), (0, NEITHER), (-1, UNFRIENDLY)) for word in words}

MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
THINGS = ["soup", "song", "film", "room", "book", "play", "tea", "view", "game", "talk", "walk", "ride"]
PLACES = ["rome", "paris", "oslo", "lima", "cairo", "delhi", "kyoto", "quito", "tunis", "accra", "minsk", "perth"]
STEEP = 6.0  # how sure a preference is: of answers one word apart out of three, 88 % are for the better


@dataclass(frozen=True)
class SentimentToy:
    """'in may the soup in rome was ' -> 'warm new dull': `words` words, and how friendly they are, -1 to 1.

    A demonstration in `answer` is as often unfriendly as friendly. A word counts once, and what is no word of this world, or
    is one too many, counts as unfriendly: so the best answers are distinct friendly words, and not one over and over.
    """

    words: int = 3
    letters = ascii_lowercase + " "
    limit = property(lambda self: 6 * self.words + 1)

    def example(self, chance: random.Random) -> dict[str, Any]:
        return {"prompt": prompt(chance), "answer": self.said(chance)}

    def preference(self, chance: random.Random) -> dict[str, Any]:
        """Two demonstrations of different worth; P(chosen) = sigma( 6 (its worth - the other's) )."""
        asked, one, other = prompt(chance), self.said(chance), self.said(chance)
        while (apart := self.worth(one) - self.worth(other)) == 0:
            one, other = self.said(chance), self.said(chance)
        if chance.random() > 1 / (1 + math.exp(-STEEP * apart)):
            one, other = other, one
        return {"prompt": asked, "chosen": one, "rejected": other}

    def reward(self, prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        return [self.worth(said) for said in completions]

    def said(self, chance: random.Random) -> str:
        """Words of this world, each friendly, unfriendly or neither alike often."""
        return " ".join(chance.choices([*VALUE], k=self.words))

    def worth(self, said: str) -> float:
        """The mean value of the words; 0 for none at all."""
        words = said.split(" ") if said else []
        values = [VALUE[w] * (w not in words[:k]) if w in VALUE else -1 for k, w in enumerate(words)]
        return (sum(values[: self.words]) - len(values[self.words :])) / self.words


def prompt(chance: random.Random) -> str:
    return f"in {chance.choice(MONTHS)} the {chance.choice(THINGS)} in {chance.choice(PLACES)} was "
