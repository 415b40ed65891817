"""The command `logpi`. Nothing heavy is imported before a subcommand is known."""

import contextlib
import dataclasses
import io
import re
import sys
import typing
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any

from logpi.errors import LogpiError, nearest

HELP = """\
logpi: every policy-gradient method, in one tested definition

  logpi train METHOD [flags]     train on an environment; METHOD is a name or ./file.py:MyMethod
  logpi eval RUN                 play fresh episodes with a saved policy
  logpi plot RUN [RUN ...]       learning curves as PNG or SVG
  logpi methods                  the table of methods
  logpi show METHOD              a method's page, and the source of exactly the functions it calls

logpi COMMAND --help tells the flags of a command (logpi train ppo --help: those of a method, too).
--debug anywhere shows a full traceback instead of one sentence. logpi --version
"""


def main() -> None:
    """Exit code 0: done. 2: something asked for cannot be done, in one sentence. 130: interrupted."""
    args = sys.argv[1:]
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]
    try:
        sys.exit(dispatch(args))
    except (LogpiError, OSError) as wrong:
        if debug:
            raise
        print(f"logpi: {' '.join(str(wrong).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        if debug:
            raise
        print("logpi: interrupted; what was saved is in the run folder.", file=sys.stderr)
        sys.exit(130)


def dispatch(args: list[str]) -> int:
    commands = {"train": train, "eval": evaluate, "plot": plot, "methods": methods, "show": show}
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if args[0] == "--version":
        from logpi import __version__

        print(f"logpi {__version__}")
        return 0
    if args[0] not in commands:
        raise LogpiError(f"There is no command {args[0]!r}.{nearest(args[0], commands)}")
    commands[args[0]](args[1:])
    return 0


def parse(kind: Any, args: list[str], prog: str, description: str = "") -> Any:
    """tyro on a dataclass, its complaints made one sentence."""
    import tyro

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            found, unknown = tyro.cli(kind, args=args, prog=prog, description=description, return_unknown_args=True)
    except SystemExit as end:
        if end.code:
            raise LogpiError(_sentence(said.getvalue(), prog)) from end
        raise
    if unknown:
        flags = [w for line in _flags(kind) for w in line]
        first = next((u for u in unknown if u.startswith("--")), unknown[0])
        raise LogpiError(f"{prog} has no flag {first}.{nearest(first.split('=')[0].replace('_', '-'), flags)}")
    return found


def _flags(kind: Any) -> list[list[str]]:
    """Every flag of a record, of its nested records too."""
    out = []
    record = typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind
    for name, hint in typing.get_type_hints(record).items():
        flag = name.replace("_", "-")
        out.append([f"--{flag}", f"--no-{flag}"] if hint is bool else [f"--{flag}"])
        if dataclasses.is_dataclass(hint):
            out += _flags(hint)
    return out


def _sentence(box: str, prog: str) -> str:
    """The heart of what tyro printed in a frame: under the title, above the help text."""
    box = re.sub(r"^[|+]|[|+]$|-{3,}", " ", box, flags=re.MULTILINE)  # frames of ASCII, where there is no UTF-8
    lines = [line.strip("│╭╮╰╯─ ") for line in box.strip().splitlines()[1:]]
    body = re.split(r"Argument helptext|For full helptext", " ".join(line for line in lines if line))[0]
    body = re.sub(r"^Error parsing (method|run|options): (\w+)", lambda m: f"--{m[2].replace('_', '-')}", body).strip()
    return f"{body.rstrip('.')}. See {prog} --help."


def train(args: list[str]) -> None:
    if not args or args[0] in ("-h", "--help"):
        from logpi.methods import METHODS

        print(f"usage: logpi train METHOD [flags]\n\nMETHOD is one of {', '.join(METHODS)}, or ./file.py:MyMethod.")
        print("logpi train METHOD --help tells all its flags; logpi methods says what each is.")
        return
    name, rest = args[0], args[1:]
    if name.startswith("-"):
        raise LogpiError(
            "The method comes first: logpi train METHOD [flags], for example logpi train ppo --env CartPole-v1."
        )
    import tyro

    from logpi.run.setup import Settings, find_method
    from logpi.run.train import Options
    from logpi.run.train import train as run

    method = find_method(name)
    taken = {f.name for f in dataclasses.fields(Options)} & {f.name for f in dataclasses.fields(method)}
    if taken:
        raise LogpiError(f"{name} has a field {min(taken)}, which is a flag of logpi train: give it another name.")
    groups = [("method", type(method), method), ("run", Settings, Settings()), ("options", Options, Options())]
    kind: Any = tyro.conf.OmitArgPrefixes[make_dataclass("Train", groups)]  # type: ignore[misc]
    given = parse(kind, rest, f"logpi train {name}", type(method).__doc__ or "")
    run(name, given.method, given.run, given.options)


def evaluate(args: list[str]) -> None:
    import tyro

    from logpi.run import evaluate as room
    from logpi.run.load import load
    from logpi.run.paths import is_path, load_object

    @dataclass
    class Eval:
        """Fresh episodes with saved policies: deterministic actions, and sampled ones beside them."""

        runs: tyro.conf.Positional[tuple[Path, ...]]  # run folders, or checkpoints/step-* of them
        episodes: int = 100  # of each kind
        env: str | None = None  # another environment; else the run's own
        network: str | None = None  # ./file.py:build, where the run used one of yours
        seed: int = 10_000  # of the environments' starts

    given = parse(Eval, args, "logpi eval")
    if given.episodes < 1:
        raise LogpiError(f"--episodes is {given.episodes}: allowed is a whole number 1 or more.")
    if not given.runs:
        raise LogpiError("logpi eval needs at least one run folder.")
    for run in given.runs:
        policy = load(run, given.network)
        env = given.env or room.environment_of(run)
        if is_path(env) and given.env is None:
            raise LogpiError(f"This run used an environment of yours ({env}): pass it again, --env {env}.")
        construct = load_object(env) if is_path(env) else env
        kinds = [room.evaluate(policy, construct, given.episodes, d, given.seed) for d in (True, False)]
        file = room.write(run, env, given.seed, kinds)
        if len(given.runs) > 1:
            print(run)
        for kind in kinds:
            print(kind)
        print(f"written to {file}")


def plot(args: list[str]) -> None:
    import tyro

    from logpi.run.plot import plot as draw

    @dataclass
    class Plot:
        """Learning curves of runs in one picture."""

        runs: tyro.conf.Positional[tuple[Path, ...]]  # run folders
        out: Path = Path("curves.png")  # .png or .svg
        x: str = "steps"  # steps, seconds or iteration
        y: str = "return"  # any name in metrics.jsonl

    given = parse(Plot, args, "logpi plot")
    if not given.runs:
        raise LogpiError("logpi plot needs at least one run folder.")
    print(draw(list(given.runs), given.out, given.x, given.y))


def methods(args: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    from logpi.run.show import methods_table

    parse(
        dataclass(type("Methods", (), {"__doc__": "The table of methods, read from their pages."})),
        args,
        "logpi methods",
    )
    table = Table("method", "psi", "objective", "average", "step", box=None, header_style="bold")
    for row in methods_table():
        table.add_row(*row)
    Console(highlight=False).print(table)


def show(args: list[str]) -> None:
    if not args or args[0] in ("-h", "--help"):
        print(
            "usage: logpi show METHOD\n\nThe method's page, then the source of exactly the functions it calls, then the loop."
        )
        return
    from rich.console import Console
    from rich.syntax import Syntax

    from logpi.run.setup import find_method
    from logpi.run.show import page_source

    if args[1:]:
        raise LogpiError(f"logpi show takes one method, not {args[1]!r} too: logpi show {args[0]}.")
    text = page_source(type(find_method(args[0])))
    console = Console()
    shown = Syntax(text, "python", background_color="default") if console.is_terminal else text
    console.print(shown, markup=False, highlight=False, soft_wrap=True)
