"""Recipes: settings tuned for one method on one environment, files in logpi/recipes/<environment>/<method>.toml."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from logpi.errors import LogpiError, nearest
from logpi.run import config
from logpi.run.folder import safe

NOT = ("env", "task", "steps", "seed", "network", "engine", "reference")  # what a run is, not how it is tuned


def names() -> list[str]:
    """environment/method of every recipe that logpi brings along."""
    folders = sorted(x for x in _home().iterdir() if x.is_dir())
    return [f"{x.name}/{file.stem}" for x in folders for file in sorted(x.glob("*.toml"))]


def choose(word: str, method: str, env: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """(name, sections) of a recipe: 'auto' (the one of this method and environment), 'none', a name, or a file."""
    if word == "none":
        return "none", {}
    if word.endswith(".toml"):
        return word, _read(Path(word), method)
    if word == "auto":
        word = f"{safe(env)}/{method}"
        return (word, _read(_home() / f"{word}.toml", method)) if word in names() else ("none", {})
    if word not in names():
        known = nearest(word, ["auto", "none", *names()])
        raise LogpiError(f"There is no recipe {word!r}.{known} A file of yours ends in .toml.")
    return word, _read(_home() / f"{word}.toml", method)


def without_warmup(sections: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What they set but for the model and its warm-up, for a model that is not new."""
    run = {k: v for k, v in sections.get("run", {}).items() if k != "model" and not k.startswith("warmup")}
    return sections | {"run": run}


def like(library: str, method: str) -> str:
    """The name of the recipe that has another library's details."""
    known = [name.removeprefix("like-") for name in names() if name.startswith("like-")]
    if f"{library}/{method}" not in known:
        there = ", ".join("--like {} for {}".format(*name.split("/")) for name in known)
        raise LogpiError(f"There is no --like {library} for {method}: there is {there}.")
    return f"like-{library}/{method}"


def recipe(method: str, env: str = "CartPole-v1") -> dict[str, Any]:
    """Keywords for `learn`, {} where nothing better than the defaults is known: learn("trpo", env, **recipe("trpo", env))."""
    from logpi.methods import METHODS

    if method not in METHODS:
        raise LogpiError(f"There is no method {method!r}.{nearest(method, METHODS)}")
    _, sections = choose("auto", method, env)
    return {key: value for fields in sections.values() for key, value in fields.items()}


def _home() -> Path:
    return Path(str(files("logpi"))) / "recipes"


def _read(file: Path, method: str) -> dict[str, dict[str, Any]]:
    sections = config.read(file)
    config.must_be(sections, method, file)
    wrong = next((key for key in NOT if key in sections.get("run", {})), None)
    if wrong or "train" in sections:
        what = f"sets {wrong}" if wrong else "has a section [train]"
        raise LogpiError(f"The recipe {file} {what}: that is for a --config, or a flag.")
    return sections
