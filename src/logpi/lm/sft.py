"""Supervised: raise log pi of given answers. The same rows, mask and log pi as in a rollout; only Psi is 1 and the data are not ours."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from logpi import average
from logpi.batch import Batch, Rows
from logpi.lm.generate import Completions
from logpi.lm.tasks.task import Task, draw
from logpi.now import Now
from logpi.policy.tokens import Tokens
from logpi.rollout.language import rows_of
from logpi.run.undecorated import undecorated
from logpi.step.gradient import climb

MICRO = 16384  # tokens through the model at once


def rows_from(policy: Tokens, prompts: Sequence[str], answers: Sequence[str]) -> Batch:
    """Rows in which the answers, and an end token after each, are ours."""
    asked, told = ([policy.encode(x) for x in texts] for texts in (prompts, answers))
    told = [[*x, *policy.ends[:1]] for x in told]
    length = torch.tensor([len(x) for x in told])
    tokens = torch.tensor([x + [0] * (int(length.max()) - len(x)) for x in told])
    like = policy.head.project.weight
    none = torch.zeros(tokens.shape, dtype=like.dtype)
    said = Completions(tokens, none, length, torch.ones(len(told), dtype=torch.bool))
    said = Completions(*(x.to(like.device) for x in (said.tokens, said.log_pi, said.length, said.ended)))
    return rows_of(asked, said, torch.zeros(len(told), device=like.device), 0)


def loss(policy: Tokens, b: Batch, micro: int = MICRO) -> Iterator[Tensor]:
    """-mean log pi over the answers' tokens, as parts that sum to it, negated: what is climbed."""
    rows = Rows(b, torch.Generator(), micro=micro, pack=True)
    for part, weight in rows.parts(rows.batch, average.weights("per_action", rows.batch.mask)):
        yield average.total(Now(policy, None, part).log_pi, weight, part.mask)  # type: ignore[arg-type]


def ascend(policy: Tokens, batches: Iterator[Batch], lr: float, steps: int) -> Iterator[float]:
    """`steps` of AdamW, the rate falling linearly to a tenth; the loss of each."""
    params = [p for p in policy.parameters() if p.requires_grad]
    with undecorated():
        optimizer = torch.optim.AdamW(params, lr=lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    for k in range(steps):
        optimizer.param_groups[0]["lr"] = lr * (1 - 0.9 * k / steps)
        value = climb(loss(policy, next(batches)), params)
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        yield -float(value)


def examples(policy: Tokens, task: Task, seed: int, rows: int) -> Iterator[Batch]:
    """Batches of the task's own answers, none of them in its test."""
    number = 0
    while True:
        drawn = [draw(task, "train", f"{seed}/answers", number + k) for k in range(rows)]
        number += rows
        yield rows_from(policy, [x["prompt"] for x in drawn], [x["answer"] for x in drawn])


def warm_up(policy: Tokens, task: Task, seed: int, steps: int, rows: int, lr: float) -> float:
    """So many supervised steps; the last loss."""
    *_, last = ascend(policy, examples(policy, task, seed, rows), lr, steps)
    return last
