"""What a language model answers to prompts of a task's test."""

from typing import NamedTuple

import torch

from logpi.lm.draws import seeds_for
from logpi.lm.engine import Own
from logpi.lm.episodes import play
from logpi.lm.generate import TRAINING, Sampling
from logpi.lm.rewards import Rewards
from logpi.lm.tasks.task import draw
from logpi.policy.tokens import Tokens

TOGETHER = 256  # answers side by side, at least those to one prompt


class Answers(NamedTuple):
    """Of each prompt, of each answer to it: [P, n]."""

    rewards: list[list[float]]
    lengths: list[list[int]]


def answers(
    policy: Tokens, rewards: Rewards, prompts: int, limit: int, seed: int, how: Sampling = TRAINING, copies: int = 1
) -> Answers:
    """`copies` answers to each of the first `prompts` of the test that this seed gives; of data, to each row once at most."""
    generator, found = torch.Generator().manual_seed(seed), Answers([], [])
    rows = getattr(rewards.task, "splits", None)
    prompts, size = min(prompts, len(rows["test"]) if rows else prompts), max(1, TOGETHER // copies)
    engine = Own()
    engine.sync(policy, 0)
    for at in range(0, prompts, size):
        examples = [draw(rewards.task, "test", seed, k) for k in range(at, min(at + size, prompts))]
        seeds = seeds_for(len(examples) * copies, generator)
        said = play(engine, policy, rewards.task, examples, seeds, limit, copies, how)
        found.rewards.extend(rewards(said.examples, said.texts).view(-1, copies).tolist())
        found.lengths.extend(said.length.view(-1, copies).tolist())
    return found
