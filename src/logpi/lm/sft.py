"""Supervised: raise log pi of given answers. The same rows, mask and log pi as in a rollout; only Psi is 1 and the data are not ours."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from logpi import average
from logpi.batch import Batch, Rows
from logpi.errors import LogpiError, short
from logpi.lm.chat import is_prompt
from logpi.lm.episodes import demonstrated
from logpi.lm.fitting import MICRO, ascend
from logpi.lm.generate import Completions
from logpi.lm.tasks.task import Task, draw
from logpi.now import Now
from logpi.policy.tokens import Tokens
from logpi.rollout.language import rows_of

LOOK = 10  # steps of a warm-up between looks at how far it is


def rows_from(policy: Tokens, prompts: Sequence[Any], answers: Sequence[str]) -> Batch:
    """Rows in which the answers, and an end token after each, are ours."""
    asked, told = (policy.encode_all(texts) for texts in (prompts, answers))
    told = [[*x, *policy.ends[:1]] for x in told]
    longest = max(len(a) + len(t) for a, t in zip(asked, told, strict=True))
    if policy.context is not None and longest > policy.context:
        raise LogpiError(
            f"A prompt and its answer have {longest:,} tokens, the model's context {policy.context:,}: use shorter ones."
        )
    length = torch.tensor([len(x) for x in told])
    tokens = torch.tensor([x + [0] * (int(length.max()) - len(x)) for x in told])
    like = policy.head.project.weight
    none = torch.zeros(tokens.shape, dtype=like.dtype)
    said = Completions(tokens, none, length, torch.ones(len(told), dtype=torch.bool))
    said = Completions(*(x.to(like.device) for x in (said.tokens, said.log_pi, said.length, said.ended)))
    return rows_of(asked, said, torch.zeros(len(told), device=like.device), 0)


def loss(policy: Tokens, b: Batch, micro: int = MICRO) -> Iterator[Tensor]:
    """-mean log pi over the answers' tokens, as parts that sum to it, negated: what is climbed."""
    rows = Rows(b, torch.Generator(), micro=micro, pack=policy.pack(b.obs))
    for part, weight in rows.parts(rows.batch, average.weights("per_action", rows.batch.mask)):
        yield average.total(Now(policy, None, part).log_pi, weight, part.mask)  # type: ignore[arg-type]


def answer_of(example: dict[str, Any]) -> str:
    """What is to be said: the `completion` of data, the `answer` of a task or of data."""
    found = example.get("completion", example.get("answer"))
    if isinstance(found, str | int | float):
        return str(found)
    what = "no completion and no answer" if found is None else f"a completion that is a {type(found).__name__}"
    raise LogpiError(
        f"The prompt {short(repr(example['prompt']))} has {what}: to learn from, each needs one, as a text."
    )


def rows_for(policy: Tokens, drawn: Sequence[dict[str, Any]]) -> Batch:
    """Rows of examples with an answer."""
    return rows_from(policy, [x["prompt"] for x in drawn], [answer_of(x) for x in drawn])


def shown(policy: Tokens, task: Task, drawn: Sequence[dict[str, Any]]) -> Batch:
    """Rows of examples of a task, the other side's turns among them where it has some."""
    if hasattr(task, "reply"):
        found = demonstrated(policy, task, drawn)
    elif any(isinstance(x.get("completion"), list) for x in drawn):
        recorded: Any = Recorded()
        found = demonstrated(policy, recorded, [conversation(x) for x in drawn])
    else:
        return rows_for(policy, drawn)
    return rows_of(found.prompts, found.said, found.said.log_pi.new_zeros(len(drawn)), found.version, found.ours)


class Recorded:
    """Who says again what the other side said in a conversation."""

    def reply(self, turns: list[str], completion: list[str], **_: Any) -> str | None:
        return completion[len(turns) - 1] if len(turns) <= len(completion) else None


def conversation(example: dict[str, Any]) -> dict[str, Any]:
    """Of a `completion` of messages, the assistant's as `answer` and the user's as `completion`; a text is one turn."""
    found = example.get("completion")
    said = found if isinstance(found, list) else [{"role": "assistant", "content": answer_of(example)}]
    roles = [x.get("role") if is_prompt([x]) else None for x in said]
    if roles != [*["assistant", "user"] * (len(said) // 2), "assistant"]:
        raise LogpiError(
            f"The prompt {short(repr(example['prompt']))} has a completion of {short(repr(roles))}: to learn from, messages of"
            " assistant and user take turns, and the assistant has the first and the last."
        )
    ours, theirs = ([x["content"] for x in said[k::2]] for k in (0, 1))
    return example | {"answer": ours, "completion": theirs}


def examples(policy: Tokens, task: Task, seed: int | str, rows: int) -> Iterator[Batch]:
    """Batches of the task's own answers, none of them in its test."""
    number = 0
    while True:
        yield shown(policy, task, [draw(task, "train", f"{seed}/answers", number + k) for k in range(rows)])
        number += rows


def warm_up(
    policy: Tokens, task: Task, seed: int, steps: int, rows: int, lr: float, until: float = 1.0, micro: int = MICRO
) -> int:
    """So many supervised steps, fewer where answers are `until` probable before; how many there were."""
    fresh = examples(policy, task, f"{seed}/looked", rows)
    for done, _ in enumerate(fit(policy, task, seed, steps, rows, lr, micro), 1):
        if until < 1 and not done % LOOK and probability(policy, next(fresh), micro) >= until:
            break
    return done


@torch.no_grad()
def probability(policy: Tokens, b: Batch, micro: int = MICRO) -> float:
    """That the whole answer is said, mean over rows: the accuracy of sampled answers, where one alone is right."""
    parts = Rows(b, torch.Generator(), micro=micro, pack=policy.pack(b.obs)).parts(b, b.mask)
    said = [torch.where(x.mask, Now(policy, None, x).log_pi, 0.0).sum(-1).exp() for x, _ in parts]  # type: ignore[arg-type]
    return float(torch.cat(said).mean())


def fit(policy: Tokens, task: Task, seed: int, steps: int, rows: int, lr: float, micro: int = MICRO) -> Iterator[float]:
    """So many supervised steps; the loss of each."""
    return ascend(policy, partial(loss, policy), examples(policy, task, seed, rows), lr, steps, micro)
