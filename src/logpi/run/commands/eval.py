"""logpi eval RUN [RUN ...]"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro

from logpi.errors import LogpiError
from logpi.page import Between, Count, Positive, page
from logpi.policy import Policy
from logpi.run import evaluate as room
from logpi.run import passing
from logpi.run.checkpoint import best_of
from logpi.run.flags import parse
from logpi.run.load import load, must_be_there

ENVIRONMENTS = ("env", "env_options", "wrap", "network")  # flags of runs in them, and those of runs on language models
NO_PASS = "no pass@k: rewards are other numbers than 0 and 1, of which the mean is told"
TEXTS = ("task", "data", "level", "max_tokens", "reward", "samples", "temperature", "top_k", "top_p")


@page
class Eval:
    """Fresh episodes with saved policies: deterministic actions, and sampled ones beside them.

    A language model, of a run or of a model folder, answers so many prompts of its task's test, greedily and by sampling. With
    several samples of each, and rewards of 0 and 1, pass@k is told: how often one of k answers is right.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]  # run folders, checkpoints/step-* of them, or model folders
    episodes: Count = 100  # of each kind; of a language model: prompts
    best: bool = False  # each run's best checkpoint, not its newest
    env: str | None = None  # another environment; else the run's own
    env_options: tuple[str, ...] = ()  # key=value, over the run's own
    task: str | None = None  # of a language model: another task; else the run's own
    data: str | None = None  # a .jsonl or .parquet file instead
    level: Count | None = None  # the task's difficulty, where it is not the run's
    max_tokens: Count | None = None  # of an answer; else what the run or the task says
    reward: tuple[str, ...] = ()  # reward functions, where the run used some of yours
    samples: Count = 1  # of a language model: sampled answers to each prompt
    temperature: Positive | None = None  # of their sampling; else the run's own
    top_k: Annotated[int, Between(0)] = 0  # only so many of the likeliest tokens; 0: all
    top_p: Annotated[float, Between(0, 1, open_low=True)] = 1.0  # the likeliest that together have this probability
    wrap: tuple[str, ...] = ()  # wrappers, where the run used one of yours
    network: str | None = None  # ./file.py:build, where the run used one of yours
    seed: int = 10_000  # of the environments' starts
    allow_nonfinite: bool = False  # weights with NaN, too


def kinds_of(run: Path, policy: Policy, given: Eval) -> tuple[str, list[room.Evaluation], dict[str, Any], str]:
    """(the environment, deterministic actions and sampled ones, its options and wrappers, the file's mark)."""
    asked = given.env, given.wrap, given.env_options
    env, construct, backend = room.environment_of(run, *asked)
    kinds = [room.evaluate(policy, construct, given.episodes, d, given.seed, backend) for d in (True, False)]
    own, more = room.surroundings(run, *asked)
    return env, kinds, more, room.otherwise(own, more)


def must_be_for(run: Path, given: Eval, text: bool) -> None:
    """Refuse flags that mean nothing for this kind of run."""
    others, whose, is_it = (
        (ENVIRONMENTS, "environments", "a language model")
        if text
        else (TEXTS, "language models", "a policy in an environment")
    )
    for field in dataclasses.fields(given):
        if field.name in others and getattr(given, field.name) != field.default:
            raise LogpiError(f"--{field.name.replace('_', '-')} is for {whose}, and {run} is {is_it}: leave it away.")


def mark_of(given: Eval) -> str:
    """How answers were sampled, where it was asked for, as a part of a file's name."""
    parts = {"x": given.samples, "t": given.temperature, "k": given.top_k, "p": given.top_p}
    usual = {"x": 1, "t": None, "k": 0, "p": 1.0}
    return "".join(f"-{k}{v:g}" for k, v in parts.items() if v != usual[k])


def main(args: list[str]) -> None:
    given = parse(Eval, args, "logpi eval")
    if not given.runs:
        raise LogpiError("logpi eval needs at least one run folder or model folder.")
    for run in map(best_of, given.runs) if given.best else given.runs:
        must_be_there(run, "eval")
        text = room.is_text(run)
        must_be_for(run, given, text)
        policy = load(run, given.network, allow_nonfinite=given.allow_nonfinite)
        env, kinds, more, mark = (room.text_kinds if text else kinds_of)(run, policy, given)
        file = room.write(run, env, given.seed, kinds, more, mark_of(given) + mark)
        if len(given.runs) > 1:
            print(run)
        for kind in kinds:
            print(kind)
        if given.samples > 1:
            told = passing.lines(more["pass_at"], len(kinds[1].returns)) if "pass_at" in more else [NO_PASS]
            print("\n".join(told))
        print(f"written to {file}")
