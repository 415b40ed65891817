"""Shell completion: tyro's own scripts for one record of every command, method and flag, and files where runs belong."""

import contextlib
import dataclasses
import functools
import io
import operator
import typing
from importlib import import_module
from typing import Annotated, Any, Literal

import gymnasium
import tyro

from logpi.envs import NATIVE
from logpi.exact import PROBLEMS, Choice
from logpi.methods import METHODS
from logpi.run.cli import COMMANDS
from logpi.run.commands.exact import Exact
from logpi.run.recipes import names

SHELLS = ("bash", "zsh", "fish")
CHOSEN = (
    "train",
    "bench",
    "show",
    "completion",
)  # commands whose first word is one of a list; the others' are run folders

FLAGS = ("methods", "exact", "lab", "sft", "reward-model")  # commands that take flags alone

# tyro completes flags and choices only: where a command takes run folders and no flag was begun, files come instead.
FILES = {
    "bash": """
_logpi() {
  local cur="${COMP_WORDS[COMP_CWORD]}" IFS=$'\\n' flags_only=1 word
  _tyro_logpi "$@"
  for word in "${COMPREPLY[@]}"; do [[ -n $word && $word != -* ]] && flags_only=; done
  case "${COMP_WORDS[1]}" in
    FOLDERS) [[ $COMP_CWORD -gt 1 && $cur != -* && -n $flags_only ]] && COMPREPLY=($(compgen -f -- "$cur")) ;;
  esac
}
complete -o filenames -F _logpi logpi
""",
    "zsh": """
_logpi() {
  if (( CURRENT > 2 )) && [[ ${words[2]} == (FOLDERS) && ${words[CURRENT]} != -* && ${words[CURRENT-1]} != -* ]]; then
    _files
  else
    _tyro_logpi "$@"
  fi
}
_logpi "$@"
""",
    "fish": """
complete --command logpi --condition '__fish_seen_subcommand_from FOLDERS' --force-files
""",
}


def script(shell: str) -> str:
    """What the shell is to read, with the environments that are registered now."""
    folders = [name for name in COMMANDS if name not in (*CHOSEN, *FLAGS)]
    chosen = {command: {name: _trained(name, options) for name in METHODS} for command, options in training().items()}
    chosen |= {
        "show": dict.fromkeys(METHODS, _record("Nothing")),
        "completion": dict.fromkeys(SHELLS, _record("Nothing")),
    }
    records = {name: _choice(words) for name, words in chosen.items()}
    for name in (*folders, *FLAGS):
        records[name] = _record(name.replace("-", "_"), *_fields(own(name)))
    records["exact"] = _record("exact", *_fields(Exact), *_fields(Choice))
    whole = tyro.conf.OmitSubcommandPrefixes[_union(records)]  # type: ignore[misc, valid-type]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        tyro.cli(whole, prog="logpi", args=["--tyro-print-completion", shell])
    pattern = (" " if shell == "fish" else "|").join(folders)
    found = said.getvalue().rstrip().removesuffix('\n_tyro_logpi "$@"')  # in zsh ours calls it
    return f"{found}\n" + FILES[shell].replace("FOLDERS", pattern)


def own(command: str) -> Any:
    """The record of a command's flags: Eval of eval, RewardModel of reward-model."""
    name = "".join(word.capitalize() for word in command.split("-"))
    return getattr(import_module(f"logpi.run.commands.{command.replace('-', '_')}"), name)


def training() -> dict[str, type]:
    """The commands that take a method, its fields and the settings of a run; what each takes beside them."""
    from logpi.run.commands.bench import Bench
    from logpi.run.train import Options

    return {"train": Options, "bench": Bench}


def _trained(method: str, options: type) -> type:
    from logpi.run.setup import Settings

    return _record(method, *(field for record in (METHODS[method], Settings, options) for field in _fields(record)))


def _fields(record: Any) -> list[Any]:
    """A record's fields; plain texts that name an environment or a recipe are choices of these."""
    known = {"env": (*NATIVE, *gymnasium.registry), "recipe": ("auto", "none", *names()), "problem": tuple(PROBLEMS)}
    hints = typing.get_type_hints(record, include_extras=True)
    made = []
    for f in dataclasses.fields(record):
        hint = hints[f.name]
        if f.name in known:
            choice: Any = Literal[known[f.name]]
            hint = choice | None if f.default is None else choice
        made.append((f.name, hint, dataclasses.field(default=f.default)))
    return made


def _record(name: str, *fields: Any) -> type:
    return dataclasses.make_dataclass(name, fields)


def _choice(words: dict[str, type]) -> type:
    return _record("Choice", ("word", _union(words)))


def _union(records: dict[str, type]) -> Any:
    """One record or another, told apart by a word."""
    kinds = [Annotated[kind, tyro.conf.subcommand(word, prefix_name=False)] for word, kind in records.items()]
    return functools.reduce(operator.or_, kinds)
