"""Tasks about numbers: addition, sorting, countdown."""

import ast
import operator
import random
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from typing import Any


def exact(completions: list[str], answer: list[str]) -> list[float]:
    """1 for the answer to the letter, else 0."""
    return [float(said == right) for said, right in zip(completions, answer, strict=True)]


@dataclass(frozen=True)
class Addition:
    """'34+57=' -> '91': two numbers of `digits` digits."""

    digits: int = 2
    letters = "0123456789+="
    limit = property(lambda self: self.digits + 2)

    def example(self, chance: random.Random) -> dict[str, Any]:
        a, b = (chance.randrange(10**self.digits) for _ in range(2))
        return {"prompt": f"{a:0{self.digits}}+{b:0{self.digits}}=", "answer": f"{a + b:0{self.digits + 1}}"}

    def reward(self, prompts: list[str], completions: list[str], answer: list[str], **_: Any) -> list[float]:
        return exact(completions, answer)


@dataclass(frozen=True)
class SortDigits:
    """'52714830=' -> '01234578': `length` digits in order."""

    length: int = 8
    letters = "0123456789="
    limit = property(lambda self: self.length + 1)

    def example(self, chance: random.Random) -> dict[str, Any]:
        digits = [str(chance.randrange(10)) for _ in range(self.length)]
        return {"prompt": "".join(digits) + "=", "answer": "".join(sorted(digits))}

    def reward(self, prompts: list[str], completions: list[str], answer: list[str], **_: Any) -> list[float]:
        return exact(completions, answer)


@dataclass(frozen=True)
class Countdown:
    """'2 7 3=20;' -> '(7+3)*2': an expression of all the numbers, each once, that has this value."""

    numbers: int = 3
    letters = "0123456789 +-*/()=;"
    limit = property(lambda self: 6 * self.numbers)

    def example(self, chance: random.Random) -> dict[str, Any]:
        while True:
            given = [chance.randrange(1, 10) for _ in range(self.numbers)]
            words, value = str(given[0]), given[0]
            for n in given[1:]:
                sign = chance.choice("+-*")
                words = f"({words})" if sign == "*" and {*words} & {*"+-"} else words
                words, value = f"{words}{sign}{n}", {"+": value + n, "-": value - n, "*": value * n}[sign]
            if 0 <= value < 100:
                mixed = chance.sample(given, len(given))
                return {
                    "prompt": f"{' '.join(map(str, mixed))}={value};",
                    "answer": words,
                    "given": mixed,
                    "target": value,
                }

    def reward(
        self, prompts: list[str], completions: list[str], given: list[list[int]], target: list[int], **_: Any
    ) -> list[float]:
        return [float(solves(said, n, value)) for said, n, value in zip(completions, given, target, strict=True)]


SIGNS: dict[type, Any] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def solves(said: str, given: list[int], target: int) -> bool:
    """Is it an expression of these numbers, each once, with this value?"""
    used: list[int] = []
    return value_of(said, used) == target and Counter(used) == Counter(given)


def value_of(said: str, used: list[int] | None = None) -> Fraction | None:
    """What an expression of whole numbers is worth, which go into `used`; None where it is none. Parsed, never run by Python."""
    try:
        return _value(ast.parse(said.strip(), mode="eval").body, [] if used is None else used)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None


def _value(node: ast.AST, used: list[int]) -> Fraction:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        used.append(node.value)
        return Fraction(node.value)
    if isinstance(node, ast.BinOp) and type(node.op) in SIGNS:
        return SIGNS[type(node.op)](_value(node.left, used), _value(node.right, used))
    raise ValueError(node)
