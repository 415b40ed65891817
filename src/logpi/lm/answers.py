"""What a language model answers to prompts of a task's test."""

from typing import NamedTuple

import torch

from logpi.lm.draws import seeds_for
from logpi.lm.generate import TRAINING, Sampling, generate
from logpi.lm.rewards import Rewards
from logpi.lm.tasks.task import draw
from logpi.policy.tokens import Tokens
from logpi.rollout.language import texts_of

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
    for at in range(0, prompts, size):
        examples = [draw(rewards.task, "test", seed, k) for k in range(at, min(at + size, prompts))]
        ids = policy.encode_all([x["prompt"] for x in examples])
        said = generate(policy, ids, seeds_for(len(ids) * copies, generator), limit, policy.ends, copies, how)
        worth = rewards([x for x in examples for _ in range(copies)], texts_of(policy.tokenizer, said))
        found.rewards.extend(worth.view(-1, copies).tolist())
        found.lengths.extend(said.length.view(-1, copies).tolist())
    return found
