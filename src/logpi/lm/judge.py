"""The process in which a reward of the user's runs: python -m logpi.lm.judge FUNCTION MEMORY, or TASK MEMORY LEVEL

It says {} once the function is there, then answers: requests and answers are lines of JSON; what the function prints goes to
stderr.
"""

import asyncio
import inspect
import json
import math
import os
import resource
import sys
import traceback
from typing import Any

from logpi.errors import LogpiError
from logpi.run.paths import load_object


def main(path: str, memory: str, *level: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if int(memory):
        resource.setrlimit(resource.RLIMIT_AS, (int(memory) * 2**20,) * 2)

    def say(what: dict[str, Any]) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    try:
        reward = reward_of_task(path, json.loads(level[0])) if level else load_object(path)
    except Exception as error:
        say({"error": reason(error)})
        return
    say({})
    for line in sys.stdin:
        say(answer(reward, json.loads(line)))


def reward_of_task(path: str, level: int | None) -> Any:
    from logpi.lm.tasks import find  # numpy, which a function need not wait for

    return find(path, level).reward


def answer(reward: Any, request: dict[str, Any]) -> dict[str, Any]:
    """{'rewards': numbers, or words where one is none}; {'shape': what came that is no list of so many}; or {'error': ...} with
    the function's own traceback in 'details'."""
    try:
        found = reward(prompts=request["prompts"], completions=request["completions"], **request["columns"])
        found = asyncio.run(found) if inspect.iscoroutine(found) else found
        if not hasattr(found, "__len__") or isinstance(found, str | bytes | dict):
            return {"shape": f"it returned a {type(found).__name__}, not a list of numbers"}
        if len(found) != (asked := len(request["completions"])):
            return {"shape": f"it returned {len(found)} numbers for {asked} completions"}
        return {"rewards": [number(x) for x in found]}
    except Exception as error:
        return {"error": reason(error), "details": traceback.format_exc()}


def number(x: Any) -> float | str:
    """A finite number, or why it is none: an exception in its place says so itself."""
    if isinstance(x, Exception):
        return reason(x)
    if hasattr(x, "item"):  # of numpy or torch
        x = x.item() if math.prod(x.shape) == 1 else x.tolist()
    if not hasattr(x, "__float__"):
        return f"it returned a {type(x).__name__}, which is no number"
    return float(x) if math.isfinite(x) else f"it returned {float(x)}, which is no finite number"


def reason(error: Exception) -> str:
    """An exception in one line; a sentence of ours as it is."""
    words = str(error) if isinstance(error, LogpiError) else f"{type(error).__name__}: {error}"
    return " ".join(words.split()).rstrip(".")


if __name__ == "__main__":
    main(*sys.argv[1:])
