"""logpi generate RUN"""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from logpi.errors import LogpiError
from logpi.page import Between, Count, Positive, page
from logpi.run.flags import parse, typed

BESIDE = {"prompts": ("level", "data", "examples"), "greedy": ("n",)}  # what means nothing beside these
LIMIT = 64  # tokens of an answer, where nothing else says how many


@page
class Generate:
    """What a language model says, of a run or of a model folder: to prompts of yours, or to those of its task's test.

    Before an answer to a task stands what the task's own reward makes of it; ... is the end of one that was cut.
    """

    run: tyro.conf.Positional[Path]  # a run folder, checkpoints/step-* of one, or a model folder
    prompts: tuple[str, ...] = ()  # texts to go on from; else examples of the test
    n: Count = 4  # answers to each
    examples: Count = 4  # prompts of the test
    task: str | None = None  # whose test; else the run's own
    data: str | None = None  # a .jsonl or .parquet file instead
    level: Count | None = None  # the task's difficulty, where it is not the run's
    greedy: bool = False  # always the likeliest token, and so one answer
    temperature: Positive | None = None  # of sampling; else the run's own, or 1
    top_k: Annotated[int, Between(0)] = 0  # only so many of the likeliest tokens; 0: all
    top_p: Annotated[float, Between(0, 1, open_low=True)] = 1.0  # the likeliest that together have this probability
    max_tokens: Count | None = None  # of an answer; else what the run or the task says, or 64
    seed: int = 0  # of the prompts and of sampling


def must_mean_something(given: Generate, asked: Sequence[str]) -> None:
    for flag, names in BESIDE.items():
        for name in names:
            if getattr(given, flag) and name in asked:
                raise LogpiError(f"--{name} means nothing beside --{flag}: leave one of them away.")


def speaker(run: Path) -> Any:
    """The policy, which has to say something."""
    from logpi.policy.tokens import Tokens
    from logpi.run.load import load, must_be_there

    must_be_there(run, "generate")
    policy = load(run)
    if not isinstance(policy, Tokens):
        raise LogpiError(f"{run} acts in an environment and says nothing: logpi play {run} shows it.")
    return policy


def settings_of(given: Generate) -> Any:
    """What the run or the flags say; None where a model folder goes on from prompts of the user's."""
    from logpi.run.evaluate import text_settings
    from logpi.run.policies import is_model

    alone = given.prompts and given.task is None and given.data is None
    return None if alone and is_model(given.run) else text_settings(given.run, given)


def task_for(given: Generate, settings: Any) -> Any:
    """Whose prompts are taken; with prompts of the user's only what is at hand, for its limit."""
    from logpi.run.evaluate import must_be_typed
    from logpi.run.language import task_of
    from logpi.run.paths import is_path

    if given.prompts and (settings is None or settings.data or is_path(settings.task)):
        return None
    must_be_typed(settings, given.task)
    return task_of(settings)


def asked(given: Generate, task: Any) -> list[dict[str, Any]]:
    """The prompts, each with what its reward needs."""
    from logpi.lm.tasks import draw

    if given.prompts:
        return [{"prompt": x} for x in given.prompts]
    return [draw(task, "test", given.seed, k) for k in range(given.examples)]


def worth(task: Any, settings: Any, examples: list[dict[str, Any]], said: list[str]) -> list[str]:
    """The task's own reward of each, in letters; nothing for prompts that are the user's, or data without an answer."""
    from logpi.run.language import rewards_of

    if examples[0].keys() == {"prompt"} or (hasattr(task, "splits") and "answer" not in examples[0]):
        return [""] * len(said)
    own = dataclasses.replace(settings, reward=(), reward_model=None, reward_weights=())
    with contextlib.closing(rewards_of(own)) as rewards:
        return [f"{x:6.2f}  " for x in rewards(examples, said).tolist()]


def main(args: list[str]) -> None:
    given = parse(Generate, args, "logpi generate")
    must_mean_something(given, [*typed(args)])
    policy, settings = speaker(given.run), settings_of(given)
    import torch

    from logpi.lm.draws import seeds_for
    from logpi.lm.engine import Own
    from logpi.lm.episodes import play
    from logpi.lm.generate import Sampling
    from logpi.lm.tasks.task import key

    task = task_for(given, settings)
    examples, copies = asked(given, task), 1 if given.greedy else given.n
    limit = (settings.max_tokens if settings else given.max_tokens) or getattr(task, "limit", None) or LIMIT
    policy.head.temperature = given.temperature or policy.head.temperature
    seeds = seeds_for(len(examples) * copies, torch.Generator().manual_seed(given.seed))
    how = Sampling(given.greedy, given.top_k, given.top_p)
    engine = Own()
    engine.sync(policy, 0)
    found = play(engine, policy, None if given.prompts else task, examples, seeds, limit, copies, how)
    marks = worth(task, settings, found.examples, found.texts)
    for k, (mark, text, over) in enumerate(zip(marks, found.texts, found.said.ended.tolist(), strict=True)):
        if k % copies == 0:
            print(key(examples[k // copies]["prompt"]))
        print(f"  {mark}{text}{'' if over else ' ...'}")
