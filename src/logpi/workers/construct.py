"""How an environment is made, in this process or in another: frozen, so that it can be sent there."""

import ast
import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import NormalizeObservation, NormalizeReward

from logpi.errors import LogpiError, short
from logpi.run.paths import load_object
from logpi.workers.game import Game, is_atari
from logpi.workers.shown import MaskShown

LOADED: dict[str, Any] = {}  # by path, in this process


@dataclass(frozen=True)
class Registered:
    """Of Gymnasium's registry: the entry itself, since another process may not have registered it."""

    spec: EnvSpec

    def __call__(self, **options: Any) -> gymnasium.Env:
        return gymnasium.make(self.spec, disable_env_checker=True, **options)


def registered(spec: EnvSpec, options: Mapping[str, Any]) -> Registered | Game:
    """What makes an environment of this entry: of the literature's pictures where it is an Atari game."""
    return Game(spec) if is_atari(spec, options) else Registered(spec)


@dataclass(frozen=True)
class ByPath:
    """'/a/file.py:Name' or 'package.module:Name'; the file is run once in each process."""

    path: str

    def __str__(self) -> str:
        return self.path

    @classmethod
    def of(cls, text: str) -> "ByPath":
        """The constructor that an import path names, loaded now; LogpiError if there is none."""
        where, _, name = text.rpartition(":")
        file = Path(where).expanduser()
        found = cls(f"{file.resolve()}:{name}" if where.endswith(".py") and file.is_file() else text)
        LOADED[found.path] = load_object(found.path)
        return found

    def load(self) -> Any:
        if self.path not in LOADED:
            LOADED[self.path] = load_object(self.path)
        return LOADED[self.path]

    def __call__(self, **options: Any) -> gymnasium.Env:
        return self.load()(**options)


@dataclass(frozen=True)
class Around:
    """A wrapper and its keywords: 'gymnasium.wrappers:TimeLimit(max_episode_steps=200)', whose values are Python literals."""

    path: ByPath
    options: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, text: str) -> "Around":
        call = re.fullmatch(r"(.*?:\w+)(\(.*\))", text, re.DOTALL)
        found = cls(ByPath.of(call[1]), keywords(call[2])) if call else cls(ByPath.of(text))
        for own, cure in ((NormalizeObservation, "--normalise-obs"), (NormalizeReward, "--normalise-reward")):
            if found.path.load() is own:
                raise LogpiError(
                    f"{own.__name__} has statistics that no policy.act and no evaluation knows: use {cure}."
                )
        return found

    def __call__(self, env: gymnasium.Env) -> gymnasium.Env:
        return self.path.load()(env, **dict(self.options))


def keywords(text: str) -> tuple[tuple[str, Any], ...]:
    """Of '(key=value, ...)'; nothing in it is run."""
    try:
        call = ast.parse(f"f{text}", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError(text)
        if call.args or not all(x.arg for x in call.keywords):
            raise ValueError(text)
        return tuple((str(x.arg), ast.literal_eval(x.value)) for x in call.keywords)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as wrong:
        raise LogpiError(
            f"--wrap takes PATH:Name(key=value), not {short(text)}: values are numbers, texts or lists."
        ) from wrong


@dataclass(frozen=True)
class Built:
    """An environment with options of its constructor, in wrappers, the first innermost; `masks`: see `MaskShown`."""

    base: Any  # an id, Registered, Game, ByPath, or a constructor
    options: tuple[tuple[str, Any], ...] = ()
    wrappers: tuple[Around, ...] = ()
    masks: bool = False

    @property
    def alone(self) -> bool:
        """Is nothing around it?"""
        return not self.wrappers and not self.masks

    def __str__(self) -> str:
        """Of the environment alone."""
        return self.base if isinstance(self.base, str) else getattr(self.base, "__name__", str(self.base))

    def __call__(self, **more: Any) -> gymnasium.Env:
        env = self.base(**dict(self.options) | more)
        for wrapper in self.wrappers:
            env = wrapper(env)
        return MaskShown(env) if self.masks else env


def takes(construct: Any, name: str) -> bool:
    """Whether an environment's constructor has this keyword."""
    if isinstance(construct, Registered | Game):
        return True
    inner = (
        construct.base
        if isinstance(construct, Built)
        else construct.load()
        if isinstance(construct, ByPath)
        else construct
    )
    if inner is not construct:
        return takes(inner, name)
    try:
        known = inspect.signature(construct).parameters
    except (TypeError, ValueError):
        return False
    return name in known or any(p.kind is p.VAR_KEYWORD for p in known.values())


def option(text: str) -> tuple[str, Any]:
    """'key=value', the value as JSON where it is some, else as text."""
    key, given, value = text.partition("=")
    if not (key.isidentifier() and given):
        raise LogpiError(f"--env-options takes key=value, not {text!r}: --env-options is_slippery=false map_name=8x8")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value
