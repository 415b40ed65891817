"""logpi eval RUN [RUN ...]"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from logpi.errors import LogpiError
from logpi.policy import Policy
from logpi.run import evaluate as room
from logpi.run.checkpoint import best_of
from logpi.run.flags import parse
from logpi.run.load import load


@dataclass
class Eval:
    """Fresh episodes with saved policies: deterministic actions, and sampled ones beside them.

    A language model answers so many prompts of its task's test.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]  # run folders, or checkpoints/step-* of them
    episodes: int = 100  # of each kind
    best: bool = False  # each run's best checkpoint, not its newest
    env: str | None = None  # another environment; else the run's own
    env_options: tuple[str, ...] = ()  # key=value, over the run's own
    task: str | None = None  # of a language model: another task; else the run's own
    reward: tuple[str, ...] = ()  # reward functions, where the run used some of yours
    wrap: tuple[str, ...] = ()  # wrappers, where the run used one of yours
    network: str | None = None  # ./file.py:build, where the run used one of yours
    seed: int = 10_000  # of the environments' starts
    allow_nonfinite: bool = False  # weights with NaN, too


def kinds_of(run: Path, policy: Policy, given: Eval) -> tuple[str, list[room.Evaluation]]:
    """(the environment, deterministic actions and sampled ones)."""
    env, construct, backend = room.environment_of(run, given.env, given.wrap, given.env_options)
    return env, [room.evaluate(policy, construct, given.episodes, d, given.seed, backend) for d in (True, False)]


def main(args: list[str]) -> None:
    given = parse(Eval, args, "logpi eval")
    if given.episodes < 1:
        raise LogpiError(f"--episodes is {given.episodes}: allowed is a whole number 1 or more.")
    if not given.runs:
        raise LogpiError("logpi eval needs at least one run folder.")
    for run in map(best_of, given.runs) if given.best else given.runs:
        policy = load(run, given.network, allow_nonfinite=given.allow_nonfinite)
        env, kinds = room.text_kinds(run, policy, given) if room.is_text(run) else kinds_of(run, policy, given)
        file = room.write(run, env, given.seed, kinds)
        if len(given.runs) > 1:
            print(run)
        for kind in kinds:
            print(kind)
        print(f"written to {file}")
