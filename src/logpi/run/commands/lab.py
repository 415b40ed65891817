"""logpi lab, and logpi lab export DIR"""

from dataclasses import dataclass
from inspect import getdoc
from pathlib import Path

import tyro

from logpi.run.flags import parse


@dataclass
class Lab:
    """A web laboratory on this machine: how policy gradients work, step by step, and your runs, live. Ends with Ctrl-C.

    logpi lab export DIR writes it as files for any file server.
    """

    port: int = 0  # 0: any free one
    runs: Path = Path("runs")  # the folder whose runs are shown
    open: bool = False  # in a browser, at once
    host: str = "127.0.0.1"  # another address needs --allow-remote
    allow_remote: bool = False  # other machines may reach it: anyone who learns the token sees all runs


@dataclass
class Export:
    """The lab as files: every demonstration with answers to some values of each control, and curves of runs as they are now.

    python -m http.server --directory DIR shows it. It takes some minutes.
    """

    dir: tyro.conf.Positional[Path]  # a new folder
    runs: Path | None = None  # the folder whose runs are in it; else none


def main(args: list[str]) -> None:
    from logpi.lab import serve

    if args[:1] == ["export"]:
        given = parse(Export, args[1:], "logpi lab export", getdoc(Export) or "")
        serve.must_be_installed()
        from logpi.lab.export import export

        print(f"written to {given.dir}: {export(given.dir, given.runs)}")
        return
    given = parse(Lab, args, "logpi lab", getdoc(Lab) or "")
    serve.serve(given.runs, given.port, given.host, given.allow_remote, given.open)
