"""How an environment is made, in this process or in another: frozen, so that it can be sent there."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from logpi.run.paths import load_object

LOADED: dict[str, Any] = {}  # by path, in this process


@dataclass(frozen=True)
class Registered:
    """Of Gymnasium's registry: the entry itself, since another process may not have registered it."""

    spec: EnvSpec

    def __call__(self) -> gymnasium.Env:
        return gymnasium.make(self.spec, disable_env_checker=True)


@dataclass(frozen=True)
class ByPath:
    """'/a/file.py:Name' or 'package.module:Name'; the file is run once in each process."""

    path: str

    @classmethod
    def of(cls, text: str) -> "ByPath":
        """The constructor that an import path names, loaded now; LogpiError if there is none."""
        where, _, name = text.rpartition(":")
        file = Path(where).expanduser()
        found = cls(f"{file.resolve()}:{name}" if where.endswith(".py") and file.is_file() else text)
        LOADED[found.path] = load_object(found.path)
        return found

    def __call__(self) -> gymnasium.Env:
        if self.path not in LOADED:
            LOADED[self.path] = load_object(self.path)
        return LOADED[self.path]()
