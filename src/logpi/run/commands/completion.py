"""logpi completion SHELL"""

from dataclasses import dataclass
from typing import Literal

import tyro

from logpi.run.flags import parse

HOW = """\
usage: logpi completion {bash,zsh,fish}

  bash    logpi completion bash > ~/.local/share/bash-completion/completions/logpi
  zsh     logpi completion zsh > ~/.zfunc/_logpi      (with fpath+=~/.zfunc before compinit in ~/.zshrc)
  fish    logpi completion fish > ~/.config/fish/completions/logpi.fish"""


@dataclass
class Completion:
    """What a shell needs to complete commands, methods, flags, their choices, environments and run folders."""

    shell: tyro.conf.Positional[Literal["bash", "zsh", "fish"]]  # which


def main(args: list[str]) -> None:
    if not args or args[0] in ("-h", "--help"):
        print(HOW)
        return
    given = parse(Completion, args, "logpi completion")
    from logpi.run.completion import script

    print(script(given.shell))
