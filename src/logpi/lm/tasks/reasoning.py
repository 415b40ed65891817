"""reasoning-gym (Stojanovski et al. 2025): a hundred generators of puzzles, each with a score of its own."""

import dataclasses
import random
from string import printable
from typing import Any

import numpy as np

from logpi import chance as generators
from logpi.errors import LogpiError, nearest

PREFIX = "reasoning-gym/"


class Reasoning:
    """'reasoning-gym/leg_counting' -> a question of that data set; level: of all that its curriculum turns, from 1.

    The entry is a column as text, from which its own scorer, in a process apart, has it again.
    """

    letters = printable[:95] + "\n"  # of a new model; some data sets have others
    limit = None
    judged_by = "reasoning-gym"

    def __init__(self, name: str, level: int | None = None) -> None:
        self.name = name
        with generators.untouched():  # the import draws
            self.kind, self.config = found(name, level)

    def example(self, chance: random.Random) -> dict[str, Any]:
        with generators.untouched():
            entry = self.kind(dataclasses.replace(self.config, seed=chance.randrange(2**31), size=1))[0]
        return {
            "prompt": entry["question"],
            "answer": entry["answer"],  # None where there are many
            "dataset": self.name,
            "entry": repr(plain(entry)),
        }


def found(name: str, level: int | None) -> tuple[Any, Any]:
    """(the data set's class, its configuration): its own defaults, or that level of its curriculum."""
    from reasoning_gym.factory import DATASETS, create_curriculum

    if name not in DATASETS:
        raise LogpiError(f"There is no task {PREFIX}{name}.{nearest(name, DATASETS)}")
    kind, config = DATASETS[name]
    try:
        if level is None:
            made = config()
        else:
            curriculum = create_curriculum(name)
            curriculum.set_global_level(level - 1)
            made = curriculum.generate_configuration()
        made.validate()
    except Exception as wrong:
        at = "" if level is None else f" at level {level}"
        raise LogpiError(f"{PREFIX}{name}{at} cannot be made ({wrong}): choose another.") from wrong
    return kind, made


def plain(x: Any) -> Any:
    """What ast.literal_eval reads again: no types of NumPy's; tuples stay tuples, which JSON would not let them."""
    if isinstance(x, np.generic):
        return x.item()
    if isinstance(x, dict):
        return {plain(k): plain(v) for k, v in x.items()}
    return type(x)(plain(v) for v in x) if isinstance(x, list | tuple | set) else x
