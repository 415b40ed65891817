"""Episodes: a prompt, what the model says, and where a task replies, what it says to that, until it has nothing to say.

Token in, token out. The text before a turn is the text before the last one, the tokens that were drawn in it, and the tokens
of the reply: what was drawn is never decoded and encoded again, so each turn's text is an exact prefix of the next one's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor

from logpi.errors import LogpiError, short
from logpi.lm.chat import between_turns
from logpi.lm.draws import later
from logpi.lm.engine import Engine
from logpi.lm.generate import TRAINING, Completions, Sampling
from logpi.lm.tasks.task import Task
from logpi.policy.tokens import Tokens

TURNS = 64  # of an episode, at most


@dataclass(frozen=True)
class Episodes:
    """What followed each prompt, copies of a prompt side by side; of several turns the task's replies are among `said`."""

    prompts: list[list[int]]
    said: Completions
    ours: Tensor | None  # [B, L] bool, False where the task spoke; None: the model said all of it
    version: int | Tensor  # of the weights that drew all tokens, or each of them, [B, L]
    texts: list[str]  # all that was said, in letters
    examples: list[dict[str, Any]]  # what the reward gets; of several turns those of the model are in `turns`

    @property
    def length(self) -> Tensor:
        """Tokens that the model said, [B]."""
        return self.said.length if self.ours is None else self.ours.sum(1)


def play(
    engine: Engine,
    policy: Tokens,
    task: Task | None,
    examples: Sequence[dict[str, Any]],
    seeds: Tensor,
    limit: int,
    copies: int = 1,
    how: Sampling = TRAINING,
) -> Episodes:
    """Episodes from each example, `copies` times; turns of up to `limit` tokens. task: who replies, if it does."""
    prompts, each = policy.encode_all([x["prompt"] for x in examples]), [x for x in examples for _ in range(copies)]
    first = engine.generate(prompts, seeds, limit, policy.ends, copies, how)
    prompts = [x for x in prompts for _ in range(copies)]
    if not hasattr(task, "reply"):
        return Episodes(prompts, first, None, engine.version, texts_of(policy.tokenizer, first), each)
    rows = [Row(task, x, [*ids]) for x, ids in zip(each, prompts, strict=True)]
    going, said, turn = [*range(len(rows))], first, 0
    while True:
        hear(policy, [rows[k] for k in going], said, engine.version)
        going = reply(policy, rows, going, limit)
        if not going:
            return joined(rows, first)
        turn += 1
        draw_with = later(seeds, turn * limit)[torch.tensor(going, device=seeds.device)]
        said = engine.generate([rows[k].ids for k in going], draw_with, limit, policy.ends, 1, how)


def hear(policy: Tokens, rows: "Sequence[Row]", said: Completions, version: int) -> None:
    """A turn of the model in each row."""
    texts, ended = texts_of(policy.tokenizer, said), said.ended.tolist()
    for k, tokens in enumerate(tokens_of(said)):
        rows[k].append(tokens, said.log_pi[k, : len(tokens)].tolist(), True, version)
        rows[k].turns.append(texts[k])
        rows[k].ended = ended[k]


def reply(policy: Tokens, rows: "Sequence[Row]", going: Sequence[int], limit: int) -> list[int]:
    """Which of the rows go on: those to which the task replies, and where a further turn fits the context."""
    replies = {k: rows[k].reply() for k in going if rows[k].ended}
    told = [(k, words) for k, words in replies.items() if words is not None]
    between = [between_turns(policy.tokenizer, rows[k].example["prompt"], words) for k, words in told]
    heard = policy.encode_all(between) if told else []
    return [k for (k, words), ids in zip(told, heard, strict=True) if rows[k].go_on(words, ids, limit, policy.context)]


@dataclass
class Row:
    """An episode as it goes on."""

    task: Any
    example: dict[str, Any]
    ids: list[int]  # all there is: the prompt, turns and replies
    log_pi: list[float] = field(default_factory=list)  # of what stands behind the prompt; 0 where it is not ours
    ours: list[bool] = field(default_factory=list)
    version: list[int] = field(default_factory=list)
    turns: list[str] = field(default_factory=list)  # what the model said, in letters
    replies: list[str] = field(default_factory=list)
    ended: bool = False  # by the task; False: cut off

    def append(self, tokens: Sequence[int], log_pi: Sequence[float], ours: bool, version: int) -> None:
        self.ids += tokens
        self.log_pi += log_pi
        self.ours += [ours] * len(tokens)
        self.version += [version] * len(tokens)

    def go_on(self, words: str, heard: Sequence[int], limit: int, context: int | None) -> bool:
        """Append a reply; or, where no turn of `limit` tokens would fit behind it, the episode is cut off."""
        if len(self.turns) == TURNS or (context is not None and len(self.ids) + len(heard) + limit > context):
            self.ended = False
            return False
        self.append(heard, [0.0] * len(heard), False, self.version[-1])
        self.replies.append(words)
        return True

    def reply(self) -> str | None:
        """What the task says to the turns so far."""
        columns = {k: v for k, v in self.example.items() if k != "prompt"}
        name = type(self.task).__name__
        try:
            found = self.task.reply([*self.turns], **columns)
        except LogpiError:
            raise
        except Exception as wrong:  # the user's code
            raise LogpiError(
                f"The reply of {name} raised {type(wrong).__name__} ({short(str(wrong))}) for the turns"
                f" {short(repr(self.turns))}: it must have a reply, or None, to whatever the model says."
            ) from wrong
        if found is not None and not isinstance(found, str):
            raise LogpiError(
                f"The reply of {name} is a {type(found).__name__}: return a text, or None where it is over."
            )
        return found


def joined(rows: Sequence[Row], like: Completions) -> Episodes:
    """Rows side by side, as tensors of the kind of those that an engine made."""
    before, longest = [len(x.ids) - len(x.ours) for x in rows], max(len(x.ours) for x in rows)

    def beside(each: Sequence[Sequence[Any]], dtype: torch.dtype) -> Tensor:
        return torch.tensor([[*x, *[0] * (longest - len(x))] for x in each], dtype=dtype, device=like.tokens.device)

    said = Completions(
        tokens=beside([x.ids[n:] for x, n in zip(rows, before, strict=True)], torch.long),
        log_pi=beside([x.log_pi for x in rows], like.log_pi.dtype),
        length=torch.tensor([len(x.ours) for x in rows], device=like.tokens.device),
        ended=torch.tensor([x.ended for x in rows], device=like.tokens.device),
    )
    return Episodes(
        prompts=[x.ids[:n] for x, n in zip(rows, before, strict=True)],
        said=said,
        ours=beside([x.ours for x in rows], torch.bool),
        version=beside([x.version for x in rows], torch.long),
        texts=["".join(t for pair in zip_longest(x.turns, x.replies, fillvalue="") for t in pair) for x in rows],
        examples=[x.example | {"turns": x.turns} for x in rows],
    )


def demonstrated(policy: Tokens, task: Task, examples: Sequence[dict[str, Any]]) -> Episodes:
    """Episodes in which the turns of each example's `answer` are said, as if they had been drawn; errors where they do not fit."""
    prompts = policy.encode_all([x["prompt"] for x in examples])
    rows = [Row(task, x, ids) for x, ids in zip(examples, prompts, strict=True)]
    answers = [turns_of(x) for x in examples]
    for turn in range(max(map(len, answers))):
        going = [k for k, words in enumerate(answers) if len(words) > turn]
        on = reply(policy, rows, going, 0) if turn else going
        if stuck := next((rows[k].example for k in going if k not in on), None):
            raise LogpiError(
                f"The answer to {short(repr(stuck['prompt']))} has {len(stuck['answer'])} turns, and after {turn} the episode"
                " is over: give those that are said."
            )
        for k, tokens in zip(going, policy.encode_all([answers[k][turn] for k in going]), strict=True):
            rows[k].append([*tokens, policy.ends[0]], [0.0] * (len(tokens) + 1), True, 0)
            rows[k].turns.append(answers[k][turn])
            rows[k].ended = True
    like, none = policy.head.project.weight, torch.zeros(0, dtype=torch.long)
    return joined(rows, Completions(none.to(like.device), none.to(like), none, none))


def turns_of(example: dict[str, Any]) -> list[str]:
    """The turns that an example's `answer` demonstrates."""
    found = example.get("answer")
    if not isinstance(found, list) or not found or not all(isinstance(x, str) for x in found):
        raise LogpiError(
            f"The prompt {short(repr(example['prompt']))} has no answer that is a list of turns: to learn from, an episode"
            " needs one."
        )
    return found


def tokens_of(said: Completions) -> list[list[int]]:
    """What was said in each row, its end token included."""
    return [x[:n] for x, n in zip(said.tokens.tolist(), said.length.tolist(), strict=True)]


def texts_of(tokenizer: Any, said: Completions) -> list[str]:
    """What was said, in letters, without its end token. Equal answers are read once: a tokenizer is slow at that."""
    each = [tuple(x[: len(x) - over]) for x, over in zip(tokens_of(said), said.ended.tolist(), strict=True)]
    different = [*dict.fromkeys(each)]
    texts = tokenizer.batch_decode([[*x] for x in different], skip_special_tokens=True)
    of = dict(zip(different, texts, strict=True))
    return [of[x] for x in each]
