"""logpi train METHOD [flags]"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from logpi.errors import LogpiError
from logpi.lm.pretrained import SIZES
from logpi.methods import METHODS
from logpi.run import config, recipes, seeds
from logpi.run.flags import parse, peek, together, typed
from logpi.run.language import Text
from logpi.run.paths import rewards, wrappers
from logpi.run.setup import Settings, find_method
from logpi.run.train import Options, train
from logpi.run.worlds import kind_of, must_be_one, must_mean_something, named

USAGE = f"""\
usage: logpi train METHOD [flags]

METHOD is one of {", ".join(METHODS)}, or ./file.py:MyMethod.
logpi train METHOD --help tells all its flags; logpi methods says what each is.
Language models: logpi train METHOD --task NAME --help."""

INHERITED = (  # with weights
    *(
        "env",
        "env_options",
        "wrap",
        "masks",
        "head",
        "log_std",
        "log_std_init",
        "hidden",
        "pictures",
        "memory",
        "network",
        "shared",
    ),
    *("normalise_obs", "normalise_reward", "dtype"),
    *("task", "level", "model", "temperature", "max_tokens", "lora", "lora_alpha"),
)
CODE = ("env", "network", "task", "engine")  # settings that may name code


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
    taken = {"name", *(f.name for f in dataclasses.fields(Options))} & {f.name for f in dataclasses.fields(method)}
    if taken:
        raise LogpiError(f"{name} has a field {min(taken)}, which logpi train uses itself: give it another name.")
    (start, settings, options), recipe, tuned = defaults(
        name,
        method,
        peek(rest, (*CODE, "data", "model", "wrap", "reward", "config", "recipe", "like", "init")),
        typed(rest),
    )
    must_have(name, typed(rest), (start, settings, options))
    groups = [("method", type(method), start), ("run", type(settings), settings), ("options", Options, options)]
    other = "" if isinstance(settings, Text) else f"\n\nLanguage models: logpi train {name} --task NAME --help"
    given = parse(together(groups), rest, f"logpi train {name}", (type(method).__doc__ or "") + other)
    options = dataclasses.replace(given.options, config=None, recipe=recipe)  # the run's config.toml has all they said
    in_force = [line for record in (given.method, given.run) for line in _told(record, tuned)]
    if in_force and not options.quiet:
        way_out = "of --like" if options.like else "--recipe none leaves it"
        print(f"recipe {options.recipe}: {', '.join(in_force)} ({way_out})", flush=True)
    must_mean_something(typed(rest), given.method, given.run, "--")
    if options.seeds > 1:
        seeds.train(name, given.method, given.run, options)
    else:
        train(name, given.method, given.run, options)


def must_have(name: str, asked: Iterable[str], records: Iterable[Any]) -> None:
    """Refuse flags that are fields of other methods; what no method has is for `parse`."""
    here = {f.name for x in records for f in dataclasses.fields(x)}
    for flag in sorted({*asked} - here):
        if owners := [m for m, page in METHODS.items() if any(f.name == flag for f in dataclasses.fields(page))]:
            raise LogpiError(f"logpi train {name} has no flag {named(flag, '--')}, which is of {', '.join(owners)}.")


def defaults(
    name: str, page: Any, told: dict[str, str], flags: Iterable[str] = ()
) -> tuple[tuple[Any, Settings | Text, Options], str, dict[str, Any]]:
    """What the flags start from: the page's own < recipe < what --init was trained in < --config; the recipe, what it set.

    told: flags that matter for it, with their values; flags: the names of all that were typed.

    A file that names every field, as a run's config.toml does, leaves nothing to a recipe.
    """
    file = Path(told["config"]) if "config" in told else None
    asked = config.read(file) if file else {}
    where = str(file)
    config.must_be(asked, name, file or Path())
    if "config" in asked.get("train", {}):
        raise LogpiError(f"{where}: [train] config names another file, which only --config may.")
    options = config.fill(Options(), asked.get("train", {}), where)
    init = told.get("init", options.init)
    inherited = _typed(_inherited(Path(init)), told, init) if init else {}
    given = _typed(asked.get("run", {}), told, where)
    kind = kind_of(told | inherited | given)
    must_be_one({*told, *flags}, page, kind, "--")
    named = {k: v for k, v in told.items() if k in ("env", "task", "data")}
    world = config.fill(config.fill(kind(), inherited, f"{init}"), given | named, where).where
    if "like" in told and "recipe" in told:
        raise LogpiError("--like stands in the place of a recipe: leave --recipe away.")
    if "recipe" in told:
        options = dataclasses.replace(options, like=None)  # over that of a --config
    elif library := told.get("like", options.like):
        if kind is Text:
            raise LogpiError(
                "--like has the details of a library for environments: leave it away with a language model."
            )
        told = told | {"recipe": recipes.like(library, name)}
    every = {f.name for f in dataclasses.fields(page) if f.default is not None}
    tuned: dict[str, Any]
    if every <= asked.get("method", {}).keys() and "recipe" not in told:
        found, tuned = options.recipe, {}
    else:
        found, tuned = recipes.choose(told.get("recipe", options.recipe), name, world)
        if (inherited | given | told).get("model") not in (None, *SIZES):
            tuned = recipes.without_warmup(tuned)
    title = f"the recipe {found}"
    start, settings = (config.fill(r, tuned.get(t, {}), title) for r, t in ((page, "method"), (kind(), "run")))
    tuned = {key: getattr(start if t == "method" else settings, key) for t, fields in tuned.items() for key in fields}
    settings = config.fill(config.fill(settings, inherited, f"{init}"), given, where)
    start = config.fill(start, asked.get("method", {}), where)
    return (start, settings, options), found, tuned


def _inherited(run: Path) -> dict[str, Any]:
    """The settings that weights of a run, or of one of its checkpoints, need."""
    for folder in (run, run.parent.parent):
        if (folder / "config.toml").is_file():
            return {k: v for k, v in config.read(folder / "config.toml").get("run", {}).items() if k in INHERITED}
    raise LogpiError(f"{run} has no config.toml: --init takes the folder of a run.")


def _typed(given: dict[str, Any], told: dict[str, str], where: str) -> dict[str, Any]:
    """Settings of a file, which never makes code run by itself: what names code is to be typed as a flag."""
    for key in CODE:
        value = given.get(key)
        if isinstance(value, str) and (key == "network" or ":" in value) and key not in told:
            raise LogpiError(f"{where}: {key} is code of yours ({value}): pass it again, --{key} {value}.")
    if "wrap" not in told:
        wrappers(given.get("wrap", []), (), where)
    if "reward" not in told:
        rewards(given.get("reward", []), (), where)
    return {key: value for key, value in given.items() if key not in told}


def _told(record: Any, tuned: dict[str, Any]) -> list[str]:
    """'field value' of what a recipe set and nothing changed since."""
    return [f"{key} {config.text(value)}" for key, value in tuned.items() if getattr(record, key, ...) == value]
