"""Rewards by name, or by the path of a function of the user's: each judges in a process that can be killed."""

from typing import Any

from logpi.errors import LogpiError
from logpi.lm.extras import must_have
from logpi.lm.judges import Judge
from logpi.lm.rewards import Scorer
from logpi.lm.scorers.programs import Programs, must_have_tests
from logpi.run.paths import is_path

JUDGES = {  # the function, and what it needs
    "math": ("logpi.lm.scorers.maths:math", "math-verify"),
    "reasoning-gym": ("logpi.lm.scorers.reasoning:puzzles", "reasoning-gym"),
}
NAMES = (*JUDGES, "code")
__all__ = ["NAMES", "must_have_tests", "own", "scorer"]


def scorer(name: str, limit: float = 10.0, memory: int = 0, failed: float = 0.0) -> Scorer:
    """What judges by this name or path; limit: seconds of a call, memory: MiB, failed: what stands for no number."""
    if is_path(name):
        return Judge(name, limit, memory, failed)
    if name == "code":
        return Programs(limit, memory, failed)
    if name not in JUDGES:
        raise LogpiError(f"There is no reward {name!r}: there is {', '.join(NAMES)}, and ./file.py:f of yours.")
    path, needed = JUDGES[name]
    must_have(needed, f"The reward {name}")
    return Judge(path, limit, memory, failed, name)


def own(task: Any, *how: Any) -> list[Scorer]:
    """The task's own, where it is to judge in a process."""
    return [scorer(task.judged_by, *how)] if getattr(task, "judged_by", None) else []
