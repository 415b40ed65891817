"""Tools: plain functions from text to text, which a turn of the model calls by ending with NAME(ARGUMENT)."""

import re
from collections.abc import Callable, Mapping

from logpi.errors import LogpiError, short

Tool = Callable[[str], str]


def call(said: str, tools: Mapping[str, Tool]) -> str | None:
    """What the tool says that a turn calls at its end; None where it calls none. For a task's `reply`."""
    found = re.search(rf"\b({'|'.join(map(re.escape, tools))})\((.*)\)\s*$", said, re.DOTALL)
    if found is None:
        return None
    name, argument = found.groups()
    try:
        return tools[name](argument)
    except Exception as wrong:  # the user's code
        raise LogpiError(
            f"The tool {name} raised {type(wrong).__name__} ({short(str(wrong))}) for {short(repr(argument))}: it must return a"
            " text for whatever the model writes."
        ) from wrong
