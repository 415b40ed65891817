"""Small language models for tests: random weights, float64, letters as tokens."""

import torch

from logpi.lm import pretrained
from logpi.policy.tokens import Tokens

LETTERS = "abcdefgh="


def little(
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    eager: bool = False,
    temperature: float = 1.0,
    letters: str = LETTERS,
) -> Tokens:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, tokenizer = pretrained.new("tiny", letters, eager)
    return Tokens(model.eval(), tokenizer, temperature).place("cpu", dtype)


def prompts_of(policy: Tokens, *texts: str) -> list[list[int]]:
    return [policy.encode(text) for text in texts]
