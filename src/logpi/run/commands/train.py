"""logpi train METHOD [flags]"""

import dataclasses
from typing import Any

import tyro

from logpi.errors import LogpiError
from logpi.methods import METHODS
from logpi.run.flags import parse
from logpi.run.setup import Settings, find_method
from logpi.run.train import Options, train

USAGE = f"""\
usage: logpi train METHOD [flags]

METHOD is one of {", ".join(METHODS)}, or ./file.py:MyMethod.
logpi train METHOD --help tells all its flags; logpi methods says what each is."""


def main(args: list[str]) -> None:
    if not args or args[0] in ("-h", "--help"):
        print(USAGE)
        return
    name, rest = args[0], args[1:]
    if name.startswith("-"):
        raise LogpiError(
            "The method comes first: logpi train METHOD [flags], for example logpi train ppo --env CartPole-v1."
        )
    method = find_method(name)
    taken = {f.name for f in dataclasses.fields(Options)} & {f.name for f in dataclasses.fields(method)}
    if taken:
        raise LogpiError(f"{name} has a field {min(taken)}, which is a flag of logpi train: give it another name.")
    groups = [("method", type(method), method), ("run", Settings, Settings()), ("options", Options, Options())]
    kind: Any = tyro.conf.OmitArgPrefixes[dataclasses.make_dataclass("Train", groups)]  # type: ignore[misc]
    given = parse(kind, rest, f"logpi train {name}", type(method).__doc__ or "")
    train(name, given.method, given.run, given.options)
