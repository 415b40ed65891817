"""The command `logpi`. Nothing heavy is imported before a command is known."""

import sys
from importlib import import_module

from logpi.errors import LogpiError, nearest

HELP = """\
logpi: every policy-gradient method, in one tested definition

  logpi train METHOD [flags]     train on an environment; METHOD is a name or ./file.py:MyMethod
  logpi eval RUN                 play fresh episodes with a saved policy
  logpi plot RUN [RUN ...]       learning curves as PNG or SVG
  logpi methods                  the table of methods
  logpi show METHOD              a method's page, and the source of exactly the functions it calls

logpi COMMAND --help tells the flags of a command (logpi train ppo --help: those of a method, too).
--debug anywhere shows a full traceback instead of one sentence. logpi --version
"""


COMMANDS = ("train", "resume", "eval", "play", "runs", "plot", "compare", "track", "methods", "show", "completion")


def main() -> None:
    """Exit code 0: done. 2: something asked for cannot be done, in one sentence. 130: interrupted."""
    args = sys.argv[1:]
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]
    try:
        sys.exit(dispatch(args))
    except (LogpiError, OSError) as wrong:
        if debug:
            raise
        print(f"logpi: {' '.join(str(wrong).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        if debug:
            raise
        print("logpi: interrupted; what was saved is in the run folder.", file=sys.stderr)
        sys.exit(130)


def dispatch(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if args[0] == "--version":
        from logpi import __version__

        print(f"logpi {__version__}")
        return 0
    if args[0] not in COMMANDS:
        raise LogpiError(f"There is no command {args[0]!r}.{nearest(args[0], COMMANDS)}")
    return import_module(f"logpi.run.commands.{args[0]}").main(args[1:]) or 0
