"""Tasks of several turns: guessing a number, and a product with a calculator at hand."""

import random
from dataclasses import dataclass
from typing import Any

from logpi.lm.tasks.numbers import value_of
from logpi.lm.tools import call


@dataclass(frozen=True)
class GuessNumber:
    """'412-426?' -> '419', told '<' -> '415', told '>' -> '417': which of `numbers` numbers is meant, told after each guess whether
    it is less (<) or more (>).

    As many guesses as halving needs. 1 for the number, else half of how near the last guess came; 0 for what is none of them.
    """

    numbers: int = 15
    letters = "0123456789-?<>"
    limit = property(lambda self: self.width + 1)
    width = property(lambda self: max(3, len(str(2 * self.numbers))))
    guesses = property(lambda self: self.numbers.bit_length())

    def example(self, chance: random.Random) -> dict[str, Any]:
        low = chance.randrange(10**self.width - self.numbers + 1)
        high, number = low + self.numbers - 1, low + chance.randrange(self.numbers)
        asked = f"{self.written(low)}-{self.written(high)}?"
        return {"prompt": asked, "low": low, "number": number, "answer": self.halving(low, high, number)}

    def reply(self, said: list[str], low: int, number: int, **_: Any) -> str | None:
        guess = self.read(said[-1], low)
        if guess is None or guess == number or len(said) == self.guesses:
            return None
        return "<" if number < guess else ">"

    def reward(
        self,
        prompts: list[str],
        completions: list[str],
        turns: list[list[str]],
        low: list[int],
        number: list[int],
        **_: Any,
    ) -> list[float]:
        return [self.worth(self.read(said[-1], a), n) for said, a, n in zip(turns, low, number, strict=True)]

    def worth(self, guess: int | None, number: int) -> float:
        if guess is None or guess == number:
            return float(guess is not None)
        return 0.5 * (1 - abs(guess - number) / self.numbers)

    def read(self, said: str, low: int) -> int | None:
        """The number that was said, if it is one of those that may be meant."""
        right = len(said) == self.width and said.isascii() and said.isdigit()
        return int(said) if right and low <= int(said) < low + self.numbers else None

    def halving(self, low: int, high: int, number: int) -> list[str]:
        """The guesses of one who always asks for the middle."""
        said = list[str]()
        while not said or int(said[-1]) != number:
            middle = (low + high) // 2
            said.append(self.written(middle))
            low, high = (low, middle - 1) if number < middle else (middle + 1, high)
        return said

    def written(self, number: int) -> str:
        return f"{number:0{self.width}}"


@dataclass(frozen=True)
class Calculator:
    """'37*48=' -> 'c(37*48)', told '1776=' -> '1776': a product of two numbers of `digits` digits, and c(...) works one out.

    1 for the product in the last turn. One call; what is no sum or product of numbers is answered '?'.
    """

    digits: int = 2
    letters = "0123456789+-*=()c?"
    limit = property(lambda self: 2 * self.digits + 5)

    def example(self, chance: random.Random) -> dict[str, Any]:
        a, b = (chance.randrange(10 ** (self.digits - 1), 10**self.digits) for _ in range(2))
        return {"prompt": f"{a}*{b}=", "product": a * b, "answer": [f"c({a}*{b})", f"{a * b}"]}

    def reply(self, said: list[str], **_: Any) -> str | None:
        return call(said[0], {"c": calculated}) if len(said) == 1 else None

    def reward(
        self, prompts: list[str], completions: list[str], turns: list[list[str]], product: list[int], **_: Any
    ) -> list[float]:
        return [float(said[-1] == str(right)) for said, right in zip(turns, product, strict=True)]


def calculated(expression: str) -> str:
    """The value of an expression of whole numbers, and =; ? where it has none that is whole."""
    value = value_of(expression)
    return f"{value}=" if value is not None and value.denominator == 1 else "?"
