"""Flags: tyro on a record, its complaints made one sentence."""

import argparse
import contextlib
import dataclasses
import io
import re
import typing
from typing import Any

from logpi.errors import LogpiError, nearest
from logpi.page import PLAIN

UNREAD = re.compile(
    r"^Error parsing (--[\w-]+): .*?(INT|FLOAT|int\b|float\b).*?('.*?')"
)  # a word where a number belongs


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
    if unknown and not any(u.startswith("-") for u in unknown):
        raise LogpiError(f"{prog} does not take {unknown[0]!r} too: one is enough. See {prog} --help.")
    if unknown:
        flags = [w for line in _flags(kind) for w in line]
        first = next((u for u in unknown if u.startswith("--")), unknown[0])
        raise LogpiError(f"{prog} has no flag {first}.{nearest(first.split('=')[0].replace('_', '-'), flags)}")
    return found


def together(groups: list[tuple[str, Any, Any]]) -> Any:
    """(name, type, default) of records -> one record whose flags are all of theirs."""
    import tyro

    return tyro.conf.OmitArgPrefixes[dataclasses.make_dataclass("Together", groups)]  # type: ignore[misc]


def peek(args: list[str], names: tuple[str, ...]) -> dict[str, str]:
    """The flags among these that were given, before the defaults of the others are known; mistakes are for `parse`."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in names:
        parser.add_argument(f"--{name}")
    try:
        found, _ = parser.parse_known_args(args)
    except argparse.ArgumentError:
        return {}
    return {name: value for name, value in vars(found).items() if value not in (None, "None")}


def _flags(kind: Any) -> list[list[str]]:
    """Every flag of a record, of its nested records too."""
    out = []
    record = typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind
    for name, hint in typing.get_type_hints(record).items():
        flag = name.replace("_", "-")
        if dataclasses.is_dataclass(hint):  # a record among records is no flag itself
            out += _flags(hint)
        else:
            out.append([f"--{flag}", f"--no-{flag}"] if hint is bool else [f"--{flag}"])
    return out


def _sentence(box: str, prog: str) -> str:
    """The heart of what tyro printed in a frame: under the title, above the help text."""
    box = re.sub(r"^[|+]|[|+]$|-{3,}", " ", box, flags=re.MULTILINE)  # frames of ASCII, where there is no UTF-8
    lines = [line.strip("│╭╮╰╯─ ") for line in box.strip().splitlines()[1:]]
    body = re.split(r"Argument helptext|For full helptext", " ".join(line for line in lines if line))[0]
    body = re.sub(r"^Error parsing \w+: (\w+)(?= is )", lambda m: f"--{m[1].replace('_', '-')}", body).strip()
    if unread := UNREAD.search(body):
        flag, kind, value = unread.groups()
        body = f"{flag} is {value}: allowed is {PLAIN[int if kind.lower() == 'int' else float]}"
    return f"{body.rstrip('.')}. See {prog} --help."
