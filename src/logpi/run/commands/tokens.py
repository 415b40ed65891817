"""logpi tokens RUN"""

from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from logpi.errors import LogpiError
from logpi.run import tokens as room
from logpi.run.checkpoint import run_of
from logpi.run.files import write_whole
from logpi.run.flags import parse
from logpi.run.tokens_page import heading, page, record, table


@dataclass
class Tokens:
    """A rollout of a language model's run, token by token: log π when it was drawn and after the update, ratio, Ψ and what it
    is made of, entropy, KL, and what was clipped or masked and why. The iteration is made again, to the bit."""

    run: tyro.conf.Positional[Path]  # a run folder, or checkpoints/step-* of one: then the iteration that follows it
    step: int | None = None  # the iteration; else the run's last
    rows: int = 8  # how many completions, those with a signal first
    html: bool = True  # tokens/iteration-N.html in the run folder, too, and .json for the lab
    out: Path | None = None  # another file
    method: str | None = None  # ./file.py:MyMethod, where the run used one of yours
    task: str | None = None  # ./file.py:MyTask, the same
    engine: str | None = None  # ./file.py:MyEngine, the same
    reward: tuple[str, ...] = ()  # ./file.py:f, the same


def main(args: list[str]) -> None:
    given = parse(Tokens, args, "logpi tokens")
    for name in ("step", "rows"):
        value = getattr(given, name)
        if value is not None and value < 1:
            raise LogpiError(f"--{name} is {value}: allowed is a whole number 1 or more.")
    own = {"method": given.method, "task": given.task, "engine": given.engine, "reward": given.reward}
    shown = room.tell(given.run, given.step, given.rows, own)
    console = Console(highlight=False)
    console.print(f"{shown.title}: {shown.origin}", markup=False, soft_wrap=True)
    for row in shown.rows:
        console.print(f"\n{heading(row)}", markup=False, soft_wrap=True)
        console.print(table(shown, row, console.width))
    if given.html or given.out is not None:
        file = given.out or run_of(given.run) / "tokens" / f"iteration-{shown.iteration}.html"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, page(shown))
        if given.out is None:
            write_whole(file.with_suffix(".json"), record(shown))
        console.print(f"written to {file}", markup=False, soft_wrap=True)
