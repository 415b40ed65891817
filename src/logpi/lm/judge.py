"""The process in which a reward function of the user's runs: python -m logpi.lm.judge FUNCTION MEMORY

Requests and answers are lines of JSON; what the function prints goes to stderr.
"""

import asyncio
import inspect
import json
import os
import resource
import sys
import traceback
from typing import Any

from logpi.run.paths import load_object


def main(path: str, memory: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    if int(memory):
        resource.setrlimit(resource.RLIMIT_AS, (int(memory) * 2**20,) * 2)
    reward = load_object(path)
    for line in sys.stdin:
        answers.write(json.dumps(answer(reward, json.loads(line))) + "\n")
        answers.flush()


def answer(reward: Any, request: dict[str, Any]) -> dict[str, Any]:
    """{'rewards': ...}, or {'error': ...} with the function's own traceback in 'details'."""
    try:
        found = reward(prompts=request["prompts"], completions=request["completions"], **request["columns"])
        found = asyncio.run(found) if inspect.iscoroutine(found) else found
        return {"rewards": [None if x is None else float(x) for x in found]}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}", "details": traceback.format_exc()}


if __name__ == "__main__":
    main(*sys.argv[1:])
