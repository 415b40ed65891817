"""Checks of the averages: what the weights sum to, and what must not change them."""

from typing import get_args

import torch
from torch import Tensor

from logpi import average
from logpi.exact.kit.holds import agree, apart, check, claim, normal, refused

LENGTHS = torch.tensor([[6], [3], [1], [5]], dtype=torch.float64)
MASK = torch.arange(6) < LENGTHS
KINDS = get_args(average.Kind)


def weights(kind: average.Kind, mask: Tensor) -> Tensor:
    return average.weights(kind, mask, 8.0 if kind == "per_budget" else None)


@check("an action weighs 1/N, 1/actions, 1/(N x row's actions) or 1/(N x budget), a masked slot nothing")
def _() -> None:
    each = {"per_episode": 1 / 4, "per_action": 1 / 15, "per_sequence": 1 / 4 / LENGTHS, "per_budget": 1 / 4 / 8}
    for kind in KINDS:
        agree(weights(kind, MASK), MASK * torch.as_tensor(each[kind], dtype=torch.float64), kind)


@check("padding changes no average")
def _() -> None:
    wider = torch.nn.functional.pad(MASK, (0, 5))
    for kind in KINDS:
        agree(weights(kind, wider)[:, :6], weights(kind, MASK), kind)
        agree(weights(kind, wider)[:, 6:], 0.0, kind)


@check("the average of one number everywhere is that number, per action and per sequence, for any lengths")
def _() -> None:
    one = torch.ones(4, 6, dtype=torch.float64)
    agree(average.per_action(one, MASK), 1.0, "per_action")
    agree(average.per_sequence(one, MASK), 1.0, "per_sequence")
    agree(average.per_episode(one, MASK), LENGTHS.mean(), "per_episode: the mean length")
    agree(average.per_budget(one, MASK, 8.0), LENGTHS.mean() / 8, "per_budget")


@check("rows [P, G, T] average as the same rows [P G, T]")
def _() -> None:
    for kind in KINDS:
        agree(weights(kind, MASK.unflatten(0, (2, 2))).flatten(0, 1), weights(kind, MASK), kind)


@check("what stands in masked slots reaches neither an average nor its gradient")
def _() -> None:
    for junk in (torch.nan, torch.inf, 1e9):
        x = torch.where(MASK, normal(4, 6), junk).requires_grad_(True)
        for kind in KINDS:
            weight = weights(kind, MASK)
            found = average.total(x, weight, MASK)
            agree(found, (weight[MASK] * x[MASK]).sum(), f"{kind}, {junk} in masked slots")
            agree(torch.autograd.grad(found, x)[0], weight, f"{kind}'s gradient, {junk} in masked slots")


@check("weights made once for a minibatch give one gradient however it is split")
def _() -> None:
    x, halves = normal(4, 6), (slice(0, 2), slice(2, 4))
    for kind in KINDS:
        weight = weights(kind, MASK)
        parts = torch.stack([average.total(x[at], weight[at], MASK[at]) for at in halves])
        agree(parts.sum(), average.total(x, weight, MASK), kind)
    own = torch.stack([average.per_action(x[at], MASK[at]) for at in halves])
    apart(own.mean(), average.per_action(x, MASK), "the mean of each half's own mean")


@check("rows without an action count as rows, and no action at all gives 0")
def _() -> None:
    empty = torch.cat([MASK, torch.zeros_like(MASK)])
    for kind in KINDS:
        share = 1.0 if kind == "per_action" else 0.5
        agree(weights(kind, empty)[:4], share * weights(kind, MASK), kind)
        claim((weights(kind, torch.zeros_like(MASK)) == 0).all(), f"{kind}: no action weighs something")
        claim(weights(kind, MASK[:0]).shape == (0, 6), f"{kind}: no rows")
    agree(average.per_action(torch.ones(1, 1), torch.ones(1, 1, dtype=torch.bool)), 1.0, "one action")
    refused(lambda: average.weights("per_budget", MASK), "per_budget without a budget")
    refused(lambda: average.weights("per_row", MASK, 8.0), "an average that is none")  # type: ignore[arg-type]
