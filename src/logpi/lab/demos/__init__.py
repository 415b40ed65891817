"""The demonstrations, in the order in which they are told. A demonstration is a module: its docstring is the idea, `Params`
what can be turned, `FORMULA` the formula in MathML, `SHOWN` the library's functions that ran, `demo(params, seed)` the picture's numbers.

`demo` is pure: the same parameters and seed give the same JSON. Its page, `static/demos/NAME.js`, only draws.
"""

import inspect
import re
import typing
from dataclasses import dataclass, fields
from importlib import import_module
from typing import Annotated, Any, Literal

from logpi.errors import LogpiError, nearest
from logpi.page import NONE, Between, check, options_of

SEEDS = Between(0, 2**31 - 1)


@dataclass(frozen=True)
class Demo:
    """A demonstration by name; its module is imported when it is asked for."""

    title: str
    module: str

    def load(self) -> Any:
        return import_module(f"logpi.lab.demos.{self.module}")


DEMOS = {
    "why": Demo("Why a policy", "why"),
    "bandit": Demo("Probabilities follow reward", "bandit"),
    "reinforce": Demo("REINFORCE, step by step", "reinforce"),
    "scatter": Demo("One episode is a noisy gradient", "scatter"),
    "baseline": Demo("What a baseline does", "baseline"),
    "advantage": Demo("Return against advantage", "advantage"),
    "gae": Demo("One number between bias and variance", "gae"),
    "methods": Demo("One batch, every method", "methods"),
    "regions": Demo("Trust regions", "regions"),
    "tokens": Demo("Tokens are actions", "tokens"),
}


def find(name: str) -> Demo:
    if name not in DEMOS:
        raise LogpiError(f"There is no demonstration {name!r}.{nearest(name, DEMOS)}")
    return DEMOS[name]


def answer(name: str, params: dict[str, Any], seed: int) -> dict[str, Any]:
    """The numbers of a picture; what is out of range, or no parameter at all, is refused by one sentence."""
    module = find(name).load()
    if not isinstance(seed, int) or isinstance(seed, bool) or seed not in SEEDS:
        raise LogpiError(f"seed is {seed!r}: allowed is a whole number {SEEDS}.")
    known = {f.name for f in fields(module.Params)}
    for key in params:
        if key not in known:
            raise LogpiError(f"The demonstration {name} has no parameter {key!r}.{nearest(key, known)}")
    return module.demo(module.Params(**params), seed)


def describe(name: str) -> dict[str, Any]:
    """What stands beside the picture: title, idea, formula, parameters, and the source of the functions that ran."""
    demo = find(name)
    module = demo.load()
    idea = [" ".join(text.split()) for text in (inspect.getdoc(module) or "").split("\n\n")]
    told = {"name": name, "title": demo.title, "idea": idea, "formula": module.FORMULA}
    return told | {"params": controls(module.Params), "shown": [source(f) for f in module.SHOWN]}


def source(function: Any) -> dict[str, str]:
    function = inspect.unwrap(function)
    text = re.sub(r"^@(twinned\(.*\)|fusable)\n", "", inspect.getsource(function), flags=re.MULTILINE)
    return {"name": function.__qualname__, "module": function.__module__, "text": text}


def controls(params: type) -> list[dict[str, Any]]:
    """A record's fields as the page's controls: kind, range, default, and the comment on the field's line."""
    check(params())
    said = dict(re.findall(r"^    (\w+): .*?  # (.*)$", inspect.getsource(params), re.MULTILINE))
    hints = typing.get_type_hints(params, include_extras=True)
    return [
        {"name": f.name, "label": f.name.replace("_", " "), "default": f.default, "help": said.get(f.name, "")}
        | _control(hints[f.name])
        for f in fields(params)
    ]


def _control(hint: Any) -> dict[str, Any]:
    """choice, flag, int, float or text (a text is not a control: the picture itself writes it). X | None: also empty."""
    kinds = [x for x in options_of(hint) if x is not NONE]
    kind, ranges = kinds[0], []
    if typing.get_origin(kind) is Annotated:
        kind, *ranges = typing.get_args(kind)
    if typing.get_origin(kind) is Literal:
        return {"kind": "choice", "choices": [*typing.get_args(kind)]}
    told: dict[str, Any] = {"kind": {bool: "flag", int: "int", float: "float"}.get(kind, "text")}
    for x in ranges:
        told |= {"low": _bound(x.low), "high": _bound(x.high)}
    return told


def _bound(x: float) -> float | None:
    return None if x in (float("inf"), -float("inf")) else x
