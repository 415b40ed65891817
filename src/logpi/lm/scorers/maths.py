"""Of the process that judges mathematics: has an answer the right value? By math-verify, of Hugging Face."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import FrameType
from typing import Any

from math_verify import parse, verify

SECONDS = 2.0  # for one answer: sympy may take forever
logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that no timer of its own runs


def math(prompts: list[Any], completions: list[str], answer: list[Any], **_: Any) -> list[float | Exception]:
    """1 where the value said last, in a box if there is one, is the answer's: 0.5 for \\frac{1}{2}."""
    return [same(said, str(right)) for said, right in zip(completions, answer, strict=True)]


def same(said: str, right: str) -> float | Exception:
    try:
        with alarm(SECONDS):
            return float(verify(value(right), parse(said, parsing_timeout=None), timeout_seconds=None))
    except TooLong:
        return TimeoutError(f"one answer took more than {SECONDS:g} s")


@lru_cache(1024)
def value(answer: str) -> Any:
    return parse(f"\\boxed{{{answer}}}", parsing_timeout=None)


class TooLong(BaseException):
    """No Exception: sympy and math-verify take those for their own. Their own timer counts a timeout as a wrong answer."""


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """TooLong after so many seconds. A judge's process has its main thread alone, which signals reach."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TooLong

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
