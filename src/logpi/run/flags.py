"""Flags: tyro on a record, its complaints made one sentence."""

import argparse
import contextlib
import dataclasses
import io
import re
import typing
from collections.abc import Iterator
from typing import Any

from logpi.errors import LogpiError, nearest
from logpi.page import allowed

UNREAD = re.compile(
    r"^Error parsing (--[\w-]+): .*?(?:INT|FLOAT|int\b|float\b).*?('.*?')"
)  # a word in a number's place


def parse(kind: Any, args: list[str], prog: str, description: str = "") -> Any:
    """tyro on a dataclass, its complaints made one sentence."""
    import tyro

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            found, unknown = tyro.cli(kind, args=args, prog=prog, description=description, return_unknown_args=True)
    except SystemExit as end:
        if end.code:
            raise LogpiError(_sentence(said.getvalue(), prog, kind)) from end
        raise
    if unknown and not any(u.startswith("-") for u in unknown):
        too = " too: one is enough" if any(_is_place(x) for x in _fields(kind).values()) else ""
        raise LogpiError(f"{prog} does not take {unknown[0]!r}{too}. See {prog} --help.")
    if unknown:
        first = next((u for u in unknown if u.startswith("--")), unknown[0])
        name = first.partition("=")[0].replace("_", "-")
        if _is_place(_fields(kind).get(name)):
            raise LogpiError(f"{prog} takes its {name[2:]} without a flag: {prog} {name[2:].upper()}.")
        raise LogpiError(f"{prog} has no flag {first}.{nearest(name, _flags(kind))}")
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


def typed(args: list[str]) -> Iterator[str]:
    """The names of the flags among these, as fields."""
    for word in args:
        if word.startswith("--"):
            name = word[2:].partition("=")[0].replace("-", "_")
            yield name
            yield name.removeprefix("no_")


def _fields(kind: Any) -> dict[str, Any]:
    """Every field of a record as a flag, and its type; of its nested records too."""
    out: dict[str, Any] = {}
    record = typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind
    for name, hint in typing.get_type_hints(record, include_extras=True).items():
        if dataclasses.is_dataclass(hint):  # a record among records is no flag itself
            out |= _fields(hint)
        else:
            out[f"--{name.replace('_', '-')}"] = hint
    return out


def _is_place(hint: Any) -> bool:
    """Is it given by its place, without a flag?"""
    import tyro

    return typing.get_args(tyro.conf.Positional[int])[1] in getattr(hint, "__metadata__", ())


def _flags(kind: Any) -> list[str]:
    """All that can be typed."""
    fields = {flag: hint for flag, hint in _fields(kind).items() if not _is_place(hint)}
    return [*fields, *(f"--no-{flag[2:]}" for flag, hint in fields.items() if hint is bool)]


def _sentence(box: str, prog: str, kind: Any) -> str:
    """The heart of what tyro printed in a frame: under the title, above the help text."""
    box = re.sub(r"^[|+]|[|+]$|-{3,}", " ", box, flags=re.MULTILINE)  # frames of ASCII, where there is no UTF-8
    lines = [line.strip("│╭╮╰╯─ ") for line in box.strip().splitlines()[1:]]
    body = re.split(r"Argument helptext|For full helptext", " ".join(line for line in lines if line))[0]
    body = re.sub(r"^Error parsing \w+: (\w+)(?= is )", lambda m: f"--{m[1].replace('_', '-')}", body).strip()
    if unread := UNREAD.search(body):
        flag, value = unread.groups()
        body = f"{flag} is {value}: allowed is {allowed(_fields(kind)[flag])}"
    return f"{body.rstrip('.')}. See {prog} --help."
