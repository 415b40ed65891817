"""logpi lab"""

from dataclasses import dataclass
from pathlib import Path

from logpi.run.flags import parse


@dataclass
class Lab:
    """A web laboratory on this machine: how policy gradients work, step by step, and your runs, live. Ends with Ctrl-C."""

    port: int = 0  # 0: any free one
    runs: Path = Path("runs")  # the folder whose runs are shown
    open: bool = False  # in a browser, at once
    host: str = "127.0.0.1"  # another address needs --allow-remote
    allow_remote: bool = False  # other machines may reach it: anyone who learns the token sees all runs


def main(args: list[str]) -> None:
    given = parse(Lab, args, "logpi lab")
    from logpi.lab.serve import serve

    serve(given.runs, given.port, given.host, given.allow_remote, given.open)
