"""Tools: plain functions from text to text, which a turn of the model calls by ending with NAME(ARGUMENT)."""

import re
from collections.abc import Callable, Mapping
from itertools import accumulate

from logpi.errors import LogpiError, short

Tool = Callable[[str], str]


def call(said: str, tools: Mapping[str, Tool]) -> str | None:
    """What the tool says that a turn calls at its end; None where it calls none. For a task's `reply`.

    Of several NAME( the first is meant whose bracket is not closed before the end; else the last.
    """
    said = said.rstrip()
    begun = re.finditer(rf"\b({'|'.join(map(re.escape, tools))})\(", said) if said.endswith(")") else ()
    calls = [(x[1], said[x.end() : -1]) for x in begun]
    if not calls:
        return None
    name, argument = next((x for x in calls if open_to_the_end(x[1])), calls[-1])
    try:
        return tools[name](argument)
    except Exception as wrong:  # the user's code
        raise LogpiError(
            f"The tool {name} raised {type(wrong).__name__} ({short(str(wrong))}) for {short(repr(argument))}: it must return a"
            " text for whatever the model writes."
        ) from wrong


def open_to_the_end(argument: str) -> bool:
    """Does no bracket in it close one from before?"""
    return min(accumulate((x == "(") - (x == ")") for x in argument), default=0) >= 0
