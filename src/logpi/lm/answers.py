"""What a language model answers to prompts of a task's test."""

import torch

from logpi.lm.draws import seeds_for
from logpi.lm.generate import Sampling, generate
from logpi.lm.rewards import Rewards
from logpi.lm.tasks.task import draw
from logpi.policy.tokens import Tokens
from logpi.rollout.language import texts_of

TOGETHER = 256  # prompts answered side by side


def answers(
    policy: Tokens, rewards: Rewards, prompts: int, limit: int, seed: int, greedy: bool
) -> tuple[list[float], list[int]]:
    """(rewards, lengths) of one answer to each of the first `prompts` of the test that this seed gives."""
    generator, found, lengths = torch.Generator().manual_seed(seed), list[float](), list[int]()
    for at in range(0, prompts, TOGETHER):
        examples = [draw(rewards.task, "test", seed, k) for k in range(at, min(at + TOGETHER, prompts))]
        ids = policy.encode_all([x["prompt"] for x in examples])
        seeds = seeds_for(len(ids), generator)
        said = generate(policy, ids, seeds, limit, policy.ends, how=Sampling(greedy=greedy))
        found += rewards(examples, texts_of(policy.tokenizer, said)).tolist()
        lengths += said.length.tolist()
    return found, lengths
