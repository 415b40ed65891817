"""The user's own code by import path: './file.py:Name' or 'package.module:Name'."""

import importlib
import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from logpi.errors import LogpiError, nearest

HARMLESS = re.compile(r"gymnasium\.wrappers:(?!RecordVideo)")  # wrappers that write no file


def is_path(text: str) -> bool:
    """Whether text is an import path; Gymnasium's own 'module:Name-v0' is an environment's id."""
    return ":" in text and re.search(r"-v\d+$", text) is None


def load_object(text: str) -> Any:
    """The object that an import path names. This runs the user's file: only ever a path that was typed."""
    where, _, name = text.rpartition(":")
    if where.endswith(".py"):
        file = Path(where).expanduser().resolve()
        if not file.is_file():
            raise LogpiError(f"There is no file {where}: an import path is ./file.py:Name.")
        name_in_modules = f"{file.stem} in {file.parent}"  # never the name of another module
        spec = importlib.util.spec_from_file_location(name_in_modules, file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name_in_modules] = module  # dataclasses and inspect look there
        spec.loader.exec_module(module)
    elif "/" in where or where.startswith("."):
        raise LogpiError(
            f"{text} does not name a Python file: an import path is ./file.py:Name or package.module:Name."
        )
    else:
        try:
            module = importlib.import_module(where)
        except (ImportError, ValueError, TypeError) as missing:
            raise LogpiError(
                f"{text}: {missing}; an import path is ./file.py:Name or package.module:Name."
            ) from missing
    if not hasattr(module, name):
        raise LogpiError(f"{where} has no {name!r}.{nearest(name, [x for x in vars(module) if not x.startswith('_')])}")
    return getattr(module, name)


def wrappers(saved: Sequence[str], given: Sequence[str], where: str) -> Sequence[str]:
    """Wrappers as given, else as a file names them; but no file makes code run: what is not Gymnasium's is given again."""
    own = [path for path in saved if not HARMLESS.match(path)]
    if own and not given:
        raise LogpiError(f"{where} names a wrapper of yours ({own[0]}): pass it again, --wrap {' '.join(saved)}.")
    if given and [*map(_named, given)] != [*map(_named, saved)]:
        cure = f"pass --wrap {' '.join(saved)}" if saved else "leave --wrap away"
        raise LogpiError(f"{where} has other wrappers ({' '.join(saved) or 'none'}) than {' '.join(given)}: {cure}.")
    return given or saved


def rewards(saved: Sequence[str], given: Sequence[str], where: str) -> Sequence[str]:
    """Rewards as given, else as a file names them; where one of them is code of the user's all are given again."""
    if any(map(is_path, saved)) and [*map(_named, given)] != [*map(_named, saved)]:
        raise LogpiError(f"{where} names rewards of yours: pass them again, --reward {' '.join(saved)}.")
    return given or saved


def _named(path: str) -> str:
    """The name in an import path, whose file may lie elsewhere by now."""
    return path if HARMLESS.match(path) or not is_path(path) else path.partition(":")[2]
