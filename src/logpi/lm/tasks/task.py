"""What a task is, and how its examples are numbered."""

import json
import random
from hashlib import sha256
from typing import Any, Literal, Protocol

from logpi.errors import LogpiError, short
from logpi.lm.chat import PROMPT, is_prompt

Split = Literal["train", "test"]
HELD_OUT = 10  # of so many prompts one is for the test


class Task(Protocol):
    """Prompts without end, drawn one by one, and what an answer is worth."""

    letters: str  # all that prompts and answers are written with
    limit: int | None  # letters of an answer, at most

    def example(self, chance: random.Random) -> dict[str, Any]:
        """{'prompt': ..., and columns for the reward}; 'answer' where a supervised warm-up is to be possible."""
        ...

    def reward(self, prompts: list[str], completions: list[str], **columns: list[Any]) -> list[float]:
        """One number for each completion; TRL's signature."""
        ...


class Replying(Task, Protocol):
    """A task of several turns. Its reward gets the model's turns of each episode in the column `turns`."""

    def reply(self, said: list[str], **columns: Any) -> str | None:
        """What the world says to the model's turns so far, of one example; None: the episode is over.

        A function of its arguments alone, so that an episode can be made again. 'answer' is a list of turns here.
        """
        ...


def key(prompt: str | list[dict[str, Any]]) -> str:
    """A prompt as one text, for its sum."""
    return prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True)


def held_out(prompt: str) -> bool:
    """Is it a prompt of the test? By its own sum: whatever is drawn, no prompt is in both."""
    return int.from_bytes(sha256(prompt.encode()).digest()[:4], "big") % HELD_OUT == 0


def draw(
    task: Task, split: Split, seed: int | str, number: int, kind: Literal["example", "preference"] = "example"
) -> dict[str, Any]:
    """Example `number` of a split: always the same, whatever was drawn before."""
    if hasattr(task, "numbered"):  # data: rows that there are
        return task.numbered(split, seed, number)
    if not hasattr(task, kind):
        raise LogpiError(
            f"{type(task).__name__} has no preferences: give --data with prompt, chosen and rejected, or sentiment-toy."
        )
    chance = random.Random(f"{seed}/{split}/{number}")
    for _ in range(10_000):
        found = made(task, kind, chance)
        if held_out(key(found["prompt"])) == (split == "test"):
            return found
    raise LogpiError(f"The task has no example for its {split} among 10,000: give it more prompts.")


def made(task: Task, kind: str, chance: random.Random) -> dict[str, Any]:
    """What a task makes of chance; errors where that is no dict with a prompt."""
    name = f"The {kind} of {type(task).__name__}"
    try:
        found: dict[str, Any] = getattr(task, kind)(chance)
    except LogpiError:
        raise
    except Exception as wrong:  # the user's code
        raise LogpiError(
            f"{name} raised {type(wrong).__name__} ({short(str(wrong))}): it must make one of any chance."
        ) from wrong
    if not isinstance(found, dict) or not is_prompt(found.get("prompt")):
        raise LogpiError(f"{name} is {short(repr(found))}: return a dict whose prompt is {PROMPT}.")
    return found
