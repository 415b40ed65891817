"""The two worlds of a run, environments and language models: which one is asked for, and what means nothing in it."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from logpi.errors import LogpiError
from logpi.run.language import Text


def kind_of(asked: Iterable[str]) -> Any:
    """Whose these keywords are: Settings, of a run in environments, or Text, of one on a language model."""
    from logpi.run.setup import Settings

    return Text if {"task", "data"} & {*asked} else Settings


def must_be_one(asked: Iterable[str], method: Any, kind: Any, mark: str = "") -> None:
    """Refuse keywords of the other world, whose name follows `mark` in the sentence; kind: Settings or Text."""
    from logpi.run.setup import Settings

    asked = {*asked}
    if {"env", "task"} <= asked or {"env", "data"} <= asked:
        raise LogpiError(
            f"{mark}env is an environment, {mark}task and {mark}data are for language models: give one of them."
        )
    if {"task", "data"} <= asked:
        raise LogpiError(f"{mark}data stands in the place of {mark}task: give one of them.")
    page, settings, text = ({f.name for f in dataclasses.fields(x)} for x in (method, Settings, Text))
    named = lambda x: mark + (x.replace("_", "-") if mark else x)  # noqa: E731
    for name in sorted(asked):
        if kind is Text and name in settings - text - page:
            raise LogpiError(f"{named(name)} is for environments, and this is a language model: leave it away.")
        if kind is not Text and name in text - settings - page:
            raise LogpiError(f"{named(name)} is for language models: give {mark}task or {mark}data with it.")
    if kind is Text and "length" in asked & page:
        raise LogpiError(
            f"{mark}length is of environments, and an answer ends by itself: {named('max_tokens')} is how long it may be."
        )
