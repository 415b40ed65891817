"""Tasks: prompts and a reward. Those that logpi brings along need no data and no hub."""

from typing import Any

from logpi.errors import LogpiError, nearest, short
from logpi.lm.extras import must_have
from logpi.lm.tasks.numbers import Addition, Countdown, SortDigits
from logpi.lm.tasks.reasoning import PREFIX, Reasoning
from logpi.lm.tasks.sentiment import SentimentToy
from logpi.lm.tasks.task import Task, draw
from logpi.lm.tasks.texts import Copy, ReverseText
from logpi.lm.tasks.turns import Calculator, GuessNumber

TASKS: dict[str, Any] = {
    "addition": Addition,
    "calculator": Calculator,
    "copy": Copy,
    "countdown": Countdown,
    "guess-number": GuessNumber,
    "reverse-text": ReverseText,
    "sentiment-toy": SentimentToy,
    "sort-digits": SortDigits,
}

__all__ = ["TASKS", "Task", "draw", "find"]


def find(name: str, level: int | None = None) -> Any:
    """A shipped task by name, one of reasoning-gym, or one of the user's by path; level: its difficulty dial."""
    from logpi.run.paths import is_path, load_object

    if name.startswith(PREFIX):
        must_have("reasoning-gym", f"The task {name}")
        return Reasoning(name.removeprefix(PREFIX), level)
    if name.startswith("reasoning-gym:"):
        raise LogpiError(f"{name} is spelt with a slash: {name.replace(':', '/', 1)}.")
    if name.endswith(".py"):
        raise LogpiError(f"{name} is a file: name the task in it, too, {name}:MyTask.")
    if not is_path(name) and name not in TASKS:
        raise LogpiError(f"There is no task {name!r}.{nearest(name, TASKS)}")
    made = load_object(name) if is_path(name) else TASKS[name]
    missing = [x for x in ("letters", "limit", "example", "reward") if not hasattr(made, x)]
    if missing:
        raise LogpiError(f"{name} is not a task: it has no {missing[0]}.")
    task = begun(made, name, level) if isinstance(made, type) else made
    if task.limit is not None and (type(task.limit) is not int or task.limit < 1):
        raise LogpiError(f"{name} is not a task: its limit is {task.limit!r}, not a whole number above 0, or None.")
    return task


def begun(made: type, name: str, level: int | None) -> Any:
    """A task of a class, at its difficulty."""
    try:
        return made() if level is None else made(level)
    except LogpiError:
        raise
    except Exception as wrong:  # the user's code
        at = "" if level is None else f" at level {level}"
        raise LogpiError(
            f"The task {name} cannot be made{at}: its __init__ raised {type(wrong).__name__} ({short(str(wrong))})."
        ) from wrong
