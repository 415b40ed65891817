"""logpi resume RUN"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from logpi.errors import LogpiError
from logpi.run.flags import parse
from logpi.run.resume import go_on


@dataclass
class Resume:
    """Go on with a run that was stopped, killed or has failed, as if nothing had been."""

    run: tyro.conf.Positional[Path]  # its folder
    steps: int | None = None  # another horizon; what that does to schedules is said
    workers: int | None = None  # another number of processes (--backend async)
    step_timeout: float | None = None  # another one, after a step that hung
    on_failure: Literal["fail", "restart"] | None = None  # another answer to an environment that breaks
    measure_gradient: int | None = None  # iterations between measurements of the gradient's noise; 0: none
    until: float | Literal["none"] | None = None  # another target return
    method: str | None = None  # ./file.py:MyMethod, where the run used one of yours
    env: str | None = None  # ./file.py:MyEnv, the same
    network: str | None = None  # ./file.py:build, the same
    task: str | None = None  # ./file.py:MyTask, the same
    engine: str | None = None  # ./file.py:MyEngine, the same
    wrap: tuple[str, ...] = ()  # ./file.py:MyWrapper, the same
    reward: tuple[str, ...] = ()  # ./file.py:f, the same
    evaluate: int | None = None  # episodes at the end
    quiet: bool = False  # no display


def main(args: list[str]) -> None:
    given = parse(Resume, args, "logpi resume")
    if given.steps is not None and given.steps < 1:
        raise LogpiError(f"--steps is {given.steps}: allowed is a whole number 1 or more.")
    changes = {k: getattr(given, k) for k in ("until", "evaluate") if getattr(given, k) is not None}
    changes |= {"quiet": True} if given.quiet else {}
    if changes.get("until") == "none":
        changes["until"] = None
    names = ("steps", "workers", "step_timeout", "on_failure", "measure_gradient")
    typed = {k: getattr(given, k) for k in names if getattr(given, k) is not None}
    go_on(
        given.run,
        typed,
        changes,
        {k: getattr(given, k) for k in ("method", "env", "network", "task", "engine", "wrap", "reward")},
    )
