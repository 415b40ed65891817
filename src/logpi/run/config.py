"""config.toml: what is asked of a run, as text. Three sections: [method] (the page), [run] (Settings), [train] (Options)."""

import contextlib
import dataclasses
import json
import numbers
import re
import tomllib
import typing
from pathlib import Path
from typing import Annotated, Any

from logpi.errors import LogpiError, nearest
from logpi.page import check, options_of

SECTIONS = ("method", "run", "train")
FREE = (
    "steps",
    "workers",
    "step_timeout",
    "on_failure",
    "measure_gradient",
    "fast",
)  # a run may go on with these changed
LARGEST, LONGEST = 100_000, 5_000  # bytes of a file that is read, of one of its lines (tomllib's time is quadratic)


def dump(sections: dict[str, dict[str, Any]]) -> str:
    """TOML, which `read` takes back; what is None, or nothing that TOML has, is a comment."""
    whole = "\n".join(
        f"[{title}]\n" + "".join(_line(key, value) for key, value in fields.items())
        for title, fields in sections.items()
    )
    if any("\ud800" <= c <= "\udfff" for c in whole):
        raise LogpiError("A setting has bytes that are not UTF-8, which config.toml cannot hold: give another.")
    return whole


def read(file: Path) -> dict[str, dict[str, Any]]:
    """The sections of a TOML file; their keys and values are for `fill` to judge."""
    try:
        with Path(file).open("rb") as stream:
            data = stream.read(LARGEST + 1)
    except (OSError, ValueError) as wrong:
        why = wrong.strerror if isinstance(wrong, OSError) and wrong.strerror else str(wrong)
        raise LogpiError(f"{_shown(str(file))} cannot be read ({why}): give a TOML file.") from wrong
    if len(data) > LARGEST:
        raise LogpiError(f"{file} is larger than {LARGEST:,} bytes: no configuration is.")
    if len(max(data.splitlines(), key=len, default=b"")) > LONGEST:
        raise LogpiError(f"{file} has a line of more than {LONGEST:,} bytes: no configuration has.")
    try:
        found = tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as wrong:
        raise LogpiError(f"{file} is not UTF-8 (byte {wrong.start}): save it as UTF-8 text.") from wrong
    except RecursionError as wrong:
        raise LogpiError(f"{file} is nested too deeply: values are numbers, texts and lists of them.") from wrong
    except ValueError as wrong:  # tomllib's own error, and int()'s of 5,000 digits
        raise LogpiError(f"{file} is not TOML: {wrong}.") from wrong
    for title, fields in found.items():
        if title not in SECTIONS and isinstance(fields, dict):
            raise LogpiError(f"{file} has a section {title!a}.{nearest(title, SECTIONS)}")
        if title not in SECTIONS or not isinstance(fields, dict):
            raise LogpiError(f"{file}: {title!a} stands outside the sections [method], [run] and [train].")
    return found


def must_be(sections: dict[str, dict[str, Any]], method: str, file: Path) -> None:
    """Take the method's name out of its section; raise where it is another than was asked for."""
    name = sections.get("method", {}).pop("name", method)
    if not isinstance(name, str) or name.rpartition(":")[2] != method.rpartition(":")[2]:
        raise LogpiError(f"{file} is of the method {name!r}, and {method} was asked for: take one or the other.")


def fill(record: Any, given: dict[str, Any], where: str) -> Any:
    """The record with these fields instead, checked as at its construction; `where` names their source in an error."""
    hints = typing.get_type_hints(type(record), include_extras=True)
    known = [f.name for f in dataclasses.fields(record) if f.init]
    for key in given:
        if key not in known:
            raise LogpiError(f"{where} has no {_shown(key)}.{nearest(key, known)}")
    try:
        made = dataclasses.replace(record, **{key: _as(value, hints[key]) for key, value in given.items()})
        check(made)
    except LogpiError as wrong:
        raise LogpiError(f"{where}: {wrong}") from wrong
    return made


def _as(value: Any, hint: Any) -> Any:
    """A value of TOML as the type that the flag would make: lists are tuples, whole numbers may be floats."""
    for option in options_of(hint):
        option = typing.get_args(option)[0] if typing.get_origin(option) is Annotated else option
        if isinstance(value, list) and typing.get_origin(option) is tuple:
            inner = typing.get_args(option)
            inner = inner[:1] * len(value) if inner[-1:] == (...,) else inner
            return tuple(_as(x, of) for x, of in zip(value, inner, strict=True)) if len(inner) == len(value) else value
        if option is float and isinstance(value, int) and not isinstance(value, bool):
            with contextlib.suppress(OverflowError):
                return float(value)
    return value


def _line(key: str, value: Any) -> str:
    name = key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _quoted(key)
    if value is None:
        return f"# {name} is not set\n"
    try:
        return f"{name} = {text(value)}\n"
    except TypeError:
        return f"# {name} is {' '.join(repr(value).split())}\n"


def text(value: Any) -> str:
    """A value as TOML; TypeError for what it does not have."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, numbers.Integral):
        return str(int(value))
    if isinstance(value, numbers.Real):
        return repr(float(value))
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(text, value))}]"
    raise TypeError


def _quoted(value: str) -> str:
    """A basic string: JSON's, but for DEL, which TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _shown(word: str) -> str:
    """Quoted, look-alike letters spelt out, and no longer than a line."""
    return ascii(word if len(word) <= 60 else word[:60] + "...")


def _paths(x: Any) -> bool:
    """Is it an import path, or a list of them?"""
    parts = x if isinstance(x, list) else [x]
    return bool(parts) and all(isinstance(part, str) and ":" in part for part in parts)


def must_agree(ours: dict[str, Any], saved: dict[str, Any], folder: Path) -> None:
    """Settings are those of the checkpoint, but for the horizon and for the user's own code, which is given by path."""
    ours = tomllib.loads(dump(ours))
    for section in ("method", "run"):
        for key in sorted({*ours[section], *saved[section]}):
            here, there = (x[section].get(key) for x in (ours, saved))
            by_path = _paths(here) and _paths(there)
            if here != there and not by_path and key not in (FREE if section == "run" else ()):
                raise LogpiError(
                    f"{folder} was saved with {key} {there}, not {here}: "
                    "to train on with other settings start a new run from its weights with --init."
                )
