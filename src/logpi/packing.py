"""Which rows of a batch go through a network together, by their lengths and by what they begin with."""

from bisect import bisect_left
from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor

LESS = 0.9  # of the rows or tokens that would be read otherwise: below it, what is alike is looked for
MOST = 8  # times the tokens of a part that its rows may have, a shared prompt counted for each: they hear all of it
FULL, WORTH = 0.75, 512  # rows that fill less of the width begin another part, if this one has so many slots


def alike(lengths: Sequence[int], budget: float = inf, worth: int = WORTH) -> list[slice]:
    """Neighbours that go together, the longest first: as many as `budget` slots hold, one at least, and few that are mostly padding.

    worth: slots for which a part is worth its price.
    """
    begins = [0]
    for k, n in enumerate(lengths):
        rows, longest = k - begins[-1], lengths[begins[-1]]
        padded = n < FULL * longest and rows * longest >= worth
        if rows and ((rows + 1) * longest > budget or padded):
            begins.append(k)
    return _from(begins, len(lengths))


def shared(lengths: Sequence[int], prompts: Sequence[tuple[int, int]], budget: int) -> list[list[int]]:
    """Rows of each part: neighbours by length, or by prompt where fewer tokens are read so.

    prompts: (which, tokens) of each row; rows of a part share theirs, which counts once, as it is read (fast/line.py). There are
    as few parts as `budget` tokens at once allow, of about one size.
    """
    first = {kind: k for k, (kind, _) in reversed([*enumerate(prompts)])}
    by_length, by_prompt = [*range(len(lengths))], sorted(range(len(lengths)), key=lambda k: (first[prompts[k][0]], k))

    def plan(order: list[int], budget: int) -> tuple[list[slice], int]:
        return in_line([lengths[k] for k in order], [prompts[k] for k in order], budget)

    fewer = plan(by_prompt, budget)[1] < LESS * plan(by_length, budget)[1]
    order = by_prompt if fewer else by_length
    parts = len(plan(order, budget)[0])
    least = bisect_left(range(budget), True, key=lambda size: len(plan(order, size)[0]) <= parts)
    return [order[here] for here in plan(order, least)[0]]


def in_line(lengths: Sequence[int], prompts: Sequence[tuple[int, int]], budget: int) -> tuple[list[slice], int]:
    """(neighbours that go together, tokens read in all): as many as `budget` holds beside the first prompt, one at least.

    A row has to go through with all of its prompt; others that share it should not have to read it again.
    """
    begins, kinds, read, alone, total = [0], set[int](), 0, 0, 0
    for k, (n, (kind, asked)) in enumerate(zip(lengths, prompts, strict=True)):
        more = n - asked if kind in kinds or k == begins[-1] else n
        if k > begins[-1] and (read + more > budget or alone + n > MOST * max(budget, n)):
            begins.append(k)
            kinds, read, alone, more = set(), 0, 0, n - asked
        total += n - asked if kind in kinds else n
        kinds.add(kind)
        read, alone = read + more, alone + n
    return _from(begins, len(lengths)), total


def _from(begins: list[int], end: int) -> list[slice]:
    return [slice(*pair) for pair in zip(begins, [*begins[1:], end], strict=True)] if end else []


def prompts_of(obs: Tensor, mask: Tensor) -> list[tuple[int, int]]:
    """Of each row [B, T]: which prompt it begins with, and how many tokens that has."""
    last = mask.int().argmax(-1)
    before = torch.arange(mask.shape[-1], device=last.device) <= last[:, None]
    kinds = torch.where(before, obs, -1).unique(dim=0, return_inverse=True)[1]
    return [*zip(kinds.tolist(), (last + 1).tolist(), strict=True)]
