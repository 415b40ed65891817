"""A reward learned from preferences: a transformer that reads prompt and answer, and a line at the last token.

The model is transformers' ForSequenceClassification with one label, so that transformers alone can load it, too.
"""

import contextlib
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from logpi.errors import LogpiError, short
from logpi.lm import pretrained
from logpi.lm.at_once import tokens_at_once
from logpi.lm.fitting import MICRO, ascend
from logpi.lm.tasks.task import Task, draw
from logpi.policy.tokens import computing, ids_of
from logpi.room import Room, slices

Text = list[int]  # a prompt and an answer, as tokens


class RewardModel:
    """r(prompt, answer). Called as a reward function it says no gradient, and what is not finite it refuses."""

    name, failed, failures, reason = "reward_model", 0.0, 0, ""  # as a judge has them; it never fails
    bf16 = False  # it computes in bfloat16

    def __init__(self, model: Any, tokenizer: Any, where: str = "new", micro: int = MICRO) -> None:
        self.model, self.tokenizer, self.where, self.micro = model, tokenizer, where, micro
        self.context = getattr(model.config, "max_position_embeddings", None)

    def ids(self, prompt: str | list[dict[str, Any]], said: str) -> Text:
        """Both as tokens, no end token behind: padding may be one, and the last token is where it is read."""
        before, after = (ids_of(self.tokenizer, [x])[0] for x in (prompt, said))
        found = [*before, *after]
        if self.context is not None and len(found) > self.context:
            raise LogpiError(
                f"A prompt and its answer have {len(found):,} tokens, the reward model's context {self.context:,}: use"
                " shorter ones."
            )
        return found

    def scores(self, texts: Sequence[Text]) -> Tensor:
        """r of each, [n], float32 at least. Padding stands on the right, where the last token cannot see it."""
        device, length = self.model.score.weight.device, torch.tensor([len(x) for x in texts])
        longest = int(length.max())
        ids = torch.tensor([x + [0] * (longest - len(x)) for x in texts], device=device)
        all_seen = torch.ones_like(ids)  # what is behind the last token is before nothing
        with computing(self.bf16, device):
            hidden = self.model.base_model(input_ids=ids, attention_mask=all_seen, use_cache=False).last_hidden_state
        last = hidden[torch.arange(len(texts)), length - 1]
        found = self.model.score(last.to(self.model.score.weight.dtype))[:, 0]
        return found.to(torch.promote_types(found.dtype, torch.float32))

    def at_once(self) -> int:
        """As many tokens as memory is kept for, between a reward and its gradient."""
        return tokens_at_once(lambda ids: self.scores(ids.tolist()), self.model, self.context)

    @torch.no_grad()
    def __call__(self, prompts: Sequence[Any], completions: Sequence[str], **_: Any) -> list[float]:
        """A reward for each completion: TRL's signature."""
        texts = [self.ids(*x) for x in zip(prompts, completions, strict=True)]
        order, found = sorted(range(len(texts)), key=lambda k: len(texts[k])), [0.0] * len(texts)
        room = Room(max(1, self.micro // max(map(len, texts), default=1)), "text", "use a smaller reward model")

        def each() -> list[float]:
            parts = [[texts[k] for k in order[here]] for here in slices(len(order), room.size)]
            return [x for part in parts for x in self.scores(part).tolist()]

        for k, x in zip(order, room(each, len(order)), strict=True):
            found[k] = x
        for said, x in zip(completions, found, strict=True):
            if not math.isfinite(x):
                raise LogpiError(f"The reward model {self.where} says {x} of {short(repr(said))}: fit it again.")
        return found

    def must_load(self) -> None:
        """It is there."""

    def close(self) -> None:
        """It has no process."""


def begin(where: str, alphabet: str, seed: int = 0) -> RewardModel:
    """A reward model that knows nothing yet: a new transformer (tiny, small), or the body of a causal LM."""
    from transformers import AutoModelForSequenceClassification

    if where in pretrained.SIZES:
        like, tokenizer = pretrained.begin(where, alphabet, seed)
        config: Any = like.config
        config.num_labels = 1
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = AutoModelForSequenceClassification.from_config(config, attn_implementation="sdpa")
    else:
        with silent():
            model, tokenizer = pretrained.read(AutoModelForSequenceClassification, where, dtype="auto", num_labels=1)
    must_score(model, where)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id  # by which transformers finds the last token
    generator = torch.Generator().manual_seed(seed)
    width = model.score.in_features
    with torch.no_grad():
        model.score.weight.copy_(torch.randn(1, width, generator=generator) / (width + 1) ** 0.5)
    return RewardModel(model.eval(), tokenizer, where)


def load(where: str, device: str = "cpu") -> RewardModel:
    """The reward model of a folder or of the hub, frozen."""
    from transformers import AutoModelForSequenceClassification

    with silent():
        (model, missing), tokenizer = pretrained.read(
            AutoModelForSequenceClassification, where, dtype=torch.float32, output_loading_info=True
        )
    must_score(model, where)
    if missing["missing_keys"] or model.config.num_labels != 1:
        raise LogpiError(f"{where} is no reward model, which says one number: make one with logpi reward-model.")
    return RewardModel(model.eval().requires_grad_(False).to(device), tokenizer, where)


def must_score(model: Any, where: str) -> None:
    """Refuse models whose number is not a line on the last hidden state."""
    if not isinstance(getattr(model, "score", None), nn.Linear):
        raise LogpiError(f"{where} ({type(model).__name__}) has no score on its last token: give a causal LM's folder.")


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """transformers reports at length that the new line is new."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def log_chance(chosen: Tensor, rejected: Tensor) -> Tensor:
    """log sigma( r(chosen) - r(rejected) ), [n]: that the one is preferred to the other (Bradley and Terry 1952)."""
    return nn.functional.logsigmoid(chosen - rejected)


def preference(judge: RewardModel, pairs: Sequence[dict[str, Any]], micro: int = MICRO) -> Iterator[Tensor]:
    """mean log sigma( r(chosen) - r(rejected) ), as parts that sum to it: what is climbed."""
    texts = [(judge.ids(x["prompt"], x["chosen"]), judge.ids(x["prompt"], x["rejected"])) for x in pairs]
    size = max(1, micro // (2 * max(len(x) for pair in texts for x in pair)))
    for at in range(0, len(texts), size):
        here = texts[at : at + size]
        chosen, rejected = judge.scores([x for side in zip(*here, strict=True) for x in side]).chunk(2)
        yield log_chance(chosen, rejected).sum() / len(texts)


def accuracy(judge: RewardModel, pairs: Sequence[dict[str, Any]]) -> float:
    """The share of pairs of which it prefers the chosen one; half of one where it says the same."""
    prompts = [x["prompt"] for x in pairs]
    chosen, rejected = (torch.tensor(judge(prompts, [x[k] for x in pairs])) for k in ("chosen", "rejected"))
    return float(((chosen > rejected).double() + (chosen == rejected).double() / 2).mean())


def drawn(task: Task, seed: int, rows: int) -> Iterator[list[dict[str, Any]]]:
    """Batches of preferences, none of them in the task's test."""
    number = 0
    while True:
        yield [checked(draw(task, "train", f"{seed}/pairs", number + k, "preference")) for k in range(rows)]
        number += rows


def checked(pair: dict[str, Any]) -> dict[str, Any]:
    """A preference: prompt, chosen and rejected."""
    if bad := [k for k in ("chosen", "rejected") if not isinstance(pair.get(k), str)]:
        raise LogpiError(
            f"The prompt {short(repr(pair['prompt']))} has no text {bad[0]}: preferences have prompt, chosen and rejected."
        )
    return pair


def fit(
    judge: RewardModel, task: Task, seed: int, steps: int, rows: int, lr: float, micro: int = MICRO
) -> Iterator[float]:
    """So many steps on preferences; the loss of each, -mean log sigma( r(chosen) - r(rejected) )."""
    return ascend(judge.model, partial(preference, judge), drawn(task, seed, rows), lr, steps, micro)
