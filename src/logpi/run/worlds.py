"""The two worlds of a run, environments and language models: which is asked for, and what means nothing in it or alone."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from logpi.errors import LogpiError
from logpi.run.language import Text

NEEDS = {  # these mean nothing where that is 0 or not given
    "engine": ("correction", "correction_over", "correction_limit"),
    "warmup": ("warmup_lr", "warmup_rows", "warmup_until"),
    "kl": ("kl_in", "kl_estimate", "kl_live", "kl_target"),
    "kl_target": ("kl_horizon",),
    "value_coef": ("value_model",),
}


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
    for name in sorted(asked):
        if kind is Text and name in settings - text - page:
            raise LogpiError(f"{named(name, mark)} is for environments, and this is a language model: leave it away.")
        if kind is not Text and name in text - settings - page:
            raise LogpiError(f"{named(name, mark)} is for language models: give {mark}task or {mark}data with it.")
    if kind is Text and "length" in asked & page:
        raise LogpiError(
            f"{mark}length is of environments, and an answer ends by itself: {named('max_tokens', mark)} is how long it may be."
        )


def must_mean_something(asked: Iterable[str], method: Any, settings: Any, mark: str = "") -> None:
    """Refuse keywords that were asked for, and mean nothing beside the values of others."""
    asked, values = {*asked}, {f.name: getattr(x, f.name) for x in (settings, method) for f in dataclasses.fields(x)}
    for needed, names in NEEDS.items():
        for name in names:
            if name in asked & {*values} and not values.get(needed, True):
                raise LogpiError(
                    f"{named(name, mark)} means nothing without {named(needed, mark)}: give both, or neither."
                )
    if "level" in asked and values.get("data"):
        raise LogpiError(f"{mark}level is of tasks, and {mark}data has rows of its own: leave it away.")


def named(keyword: str, mark: str) -> str:
    """As it is typed where it was asked for."""
    return mark + (keyword.replace("_", "-") if mark else keyword)
