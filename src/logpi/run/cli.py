"""The command `logpi`. Nothing heavy is imported before a command is known."""

import atexit
import gc
import os
import signal
import sys
import warnings
from importlib import import_module

from logpi.errors import LogpiError, nearest
from logpi.fast import warm

HELP = """\
logpi: every policy-gradient method, in one tested definition

  logpi train METHOD [flags]     train in an environment, or a language model on a task; METHOD: a name or ./file.py:MyMethod
  logpi resume RUN               go on with a run that was stopped, killed or has failed, bit for bit
  logpi eval RUN [RUN ...]       fresh episodes of a saved policy; answers of a language model, also of a model folder
  logpi play RUN                 watch it: a window, --video out.mp4, or --record for the lab
  logpi runs [FOLDER]            the table of runs
  logpi plot RUN [RUN ...]       learning curves as PNG or SVG
  logpi compare RUN RUN          what differs in settings and in results
  logpi track RUN --to VIEW      TensorBoard, W&B or trackio from metrics.jsonl
  logpi export RUN               its policy as ONNX or torch.export, for a machine without logpi
  logpi tokens RUN               a rollout of a language model token by token, as a table, as HTML and for the lab
  logpi lab                      a web laboratory: how policy gradients work, and your runs, live; export DIR: as files
  logpi doctor RUN               is something wrong with it, and what to do
  logpi bench [METHOD]           what limits training: each part's share, and its floor
  logpi exact                    bias and variance of every estimator, or of your own loss, against the true gradient
  logpi variance RUN             how noisy the gradient is, for any credit and baseline, on the same trajectories
  logpi sft                      fit a language model to a task's answers, or to yours
  logpi reward-model             a reward for language models, learned from preferences
  logpi generate RUN             what a language model says, to your prompts or to its task's
  logpi methods                  the table of methods
  logpi show METHOD              a method's page, and the source of exactly the functions it calls
  logpi completion SHELL         what bash, zsh or fish needs to complete all this

logpi COMMAND --help tells the flags of a command (logpi train ppo --help: those of a method, too).
Anywhere: --debug shows a full traceback instead of one sentence, --import MODULE imports a module that registers
environments. logpi --version
"""


COMMANDS = (
    *("train", "resume", "eval", "play", "runs", "plot", "compare", "track", "export"),
    *("tokens", "lab", "doctor", "bench", "exact", "variance"),
    *("sft", "reward-model", "generate", "methods", "show", "completion"),
)


def main() -> None:
    """Exit code 0: done. 1: what was examined is wrong. 2: what was asked for cannot be done, in one sentence. 130, 143: a signal."""
    args = sys.argv[1:]
    debug = "--debug" in args
    args = [a for a in args if a != "--debug"]
    os.environ.setdefault(
        "OMP_WAIT_POLICY", "PASSIVE"
    )  # torch's threads leave the cores to environments between two calls
    warnings.showwarning = _in_one_line
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as an exception, it takes child processes along
    atexit.register(gc.freeze)  # a last look for garbage among all that torch holds takes half a second
    try:
        args = _imports(args)
        sys.exit(dispatch(args))
    except SystemExit as end:
        if isinstance(end.code, int) and end.code > 128:  # a signal: all is saved, and torch takes a second to leave
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(end.code)
        raise
    except BrokenPipeError:  # whoever read has seen enough: logpi runs | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(141)
    except (LogpiError, OSError) as wrong:
        if debug:
            raise
        print(f"logpi: {' '.join(str(wrong).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        if debug:
            raise
        print("logpi: interrupted; what a run had saved is in its folder.", file=sys.stderr)
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(130)  # waits for no child process: workers end with their parent


def _in_one_line(message: Warning | str, *_: object, **__: object) -> None:
    print(f"logpi: {' '.join(str(message).split())}", file=sys.stderr)


def _imports(args: list[str]) -> list[str]:
    """The arguments without --import MODULE; the modules, which register environments, are imported."""
    rest: list[str] = []
    words = iter(args)
    for word in words:
        name = next(words, "") if word == "--import" else word.removeprefix("--import=")
        if word != "--import" and name == word:
            rest.append(word)
            continue
        try:
            import_module(name)
        except (ImportError, ValueError) as missing:
            raise LogpiError(f"--import {name}: {missing or 'it takes the name of a module'}.") from missing
    return rest


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
    if args[0] in ("train", "resume") and not {"-h", "--help", "off"} & {*args} and len(args) > 1:
        warm.begin()
    return import_module(f"logpi.run.commands.{args[0].replace('-', '_')}").main(args[1:]) or 0
