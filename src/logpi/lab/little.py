"""A tiny transformer that is asked to say a word backwards, the GRPO steps it has taken, and all the answers it could give."""

import copy
import itertools
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from logpi.batch import Batch
from logpi.lab.problems import improve
from logpi.lm.draws import seeds_for
from logpi.lm.engine import Own
from logpi.lm.episodes import play, texts_of
from logpi.lm.generate import Completions
from logpi.lm.pretrained import begin
from logpi.lm.tasks.texts import alike
from logpi.methods import GRPO
from logpi.now import Now
from logpi.policy.tokens import Tokens
from logpi.rollout.language import rows_of

WORD, LETTERS, LIMIT = "abc", "abc=", 4
PROMPT, RIGHT = WORD + "=", WORD[::-1]


@lru_cache(maxsize=24)  # a step further costs one step; 2 MB each
def model(method: GRPO, seed: int, step: int) -> Any:
    """The model after so many steps; nobody changes it."""
    if step == 0:
        network, tokenizer = begin("tiny", LETTERS, seed)
        policy = Tokens(network.eval().double(), tokenizer)
    else:
        before = model(method, seed, step - 1)
        policy = copy.deepcopy(before)
        improve(policy, method, group(before, method, seed, step - 1), seed)
    policy.remember()
    return policy


def group(policy: Any, method: GRPO, seed: int, step: int) -> Batch:
    """Answers to the prompt with their rewards, [1, G, T]."""
    seeds = seeds_for(method.group, torch.Generator().manual_seed(1000 * seed + step))
    engine = Own()
    engine.sync(policy, step)
    found = play(engine, policy, None, [{"prompt": PROMPT}], seeds, LIMIT, method.group)
    b = rows_of(found.prompts, found.said, paid(found.texts), step)
    return b.map(lambda x: x[None])


def paid(texts: list[str]) -> Tensor:
    """The share of letters in their place."""
    return torch.tensor([alike(text, RIGHT) for text in texts], dtype=torch.float64)


@lru_cache(maxsize=1024)
def history(method: GRPO, seed: int, step: int) -> dict[str, float]:
    """What `earned` says of the model after so many steps."""
    return earned(model(method, seed, step))


@torch.no_grad()
def earned(policy: Any) -> dict[str, float]:
    """The expected reward, and the probability of the right answer: over every answer there is."""
    chance, reward, texts = every(policy)
    right = next(i for i, text in enumerate(texts) if text == RIGHT)
    return {"reward": float(chance @ reward), "right": float(chance[right])}


@torch.no_grad()
def every(policy: Any) -> tuple[Tensor, Tensor, list[str]]:
    """(probability, reward, text) of each answer: letters and then the end, or as many letters as there is room for."""
    end, letters = policy.ends[0], policy.encode(LETTERS)
    answers = [[*x, end] for n in range(LIMIT) for x in itertools.product(letters, repeat=n)]
    answers += [[*x] for x in itertools.product(letters, repeat=LIMIT)]
    length = torch.tensor([len(x) for x in answers])
    tokens = torch.tensor([x + [0] * (LIMIT - len(x)) for x in answers])
    said = Completions(tokens, torch.zeros(tokens.shape, dtype=torch.float64), length, tokens.eq(end).any(1))
    texts = texts_of(policy.tokenizer, said)
    b = rows_of([policy.encode(PROMPT)] * len(answers), said, paid(texts), 0)
    return torch.where(b.mask, Now(policy, None, b).log_pi, 0.0).sum(-1).exp(), b.reward.sum(-1), texts
