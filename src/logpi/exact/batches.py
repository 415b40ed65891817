"""Batches of trajectories: every one there is, each with its probability, or many that were drawn."""

import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from logpi.errors import LogpiError
from logpi.exact import trajectories
from logpi.exact.problem import Problem
from logpi.exact.trajectories import Trajectories, amount

MOST = 400_000  # batches to enumerate: some seconds
CHUNK = 4096  # batches at once: memory
BLOCKS = 20  # of drawn batches, for the intervals


class Shape(NamedTuple):
    """Of a batch: independent starts, and episodes from each."""

    starts: int
    group: int

    @classmethod
    def of(cls, rows: str, n: int) -> "Shape":
        """n independent episodes, or n from one start ("groups", "one start")."""
        if n < 1:
            raise LogpiError(f"rows is {n}: a batch has 1 episode or more.")
        return cls(1, n) if rows in ("groups", "one start") else cls(n, 1)


class Draws(NamedTuple):
    """Batches of trajectories, [C, P, G, T], and the weight of each, [C]."""

    rows: Trajectories
    weight: Tensor


def size(problem: Problem, shape: Shape, symmetric: bool) -> float:
    """How many batches there are; `symmetric`: the order of episodes does not matter, so each choice counts once."""
    if trajectories.count(problem.table) > MOST:
        return math.inf
    per_start = torch.bincount(problem.every.state[:, 0]).tolist()
    ways = math.comb if symmetric else lambda n, k: (n - k + 1) ** k
    groups = sum(ways(n + shape.group - 1, shape.group) for n in per_start if n)
    return ways(groups + shape.starts - 1, shape.starts)


def exhaust(problem: Problem, shape: Shape, symmetric: bool) -> Iterator[Draws]:
    """Every batch, weighted by its probability."""
    groups, chance = _groups(problem, shape.group, symmetric)
    index, ways = choices(len(groups), shape.starts, symmetric)
    for here, n in zip(index.split(CHUNK), ways.split(CHUNK), strict=True):
        yield Draws(problem.every.at(groups[here]), n * chance[here].prod(-1))


def _groups(problem: Problem, group: int, symmetric: bool) -> tuple[Tensor, Tensor]:
    """Every group from one start, [M, G] of trajectories, and its probability [M]: p(start) prod_i p(tau_i | start)."""
    found, chances = [], []
    first = problem.every.state[:, 0]
    for s in first.unique():
        own = (first == s).nonzero()[:, 0]
        p = problem.probability[own]
        index, ways = choices(len(own), group, symmetric)
        found.append(own[index])
        chances.append(p.sum() * ways * (p / p.sum())[index].prod(-1))
    return torch.cat(found), torch.cat(chances)


def choices(n: int, k: int, symmetric: bool) -> tuple[Tensor, Tensor]:
    """(k of n with repetition, [M, k]; in how many orders each may come, [M])."""
    if not symmetric:
        index = torch.cartesian_prod(*[torch.arange(n)] * k).reshape(-1, k)
        return index, torch.ones(len(index), dtype=torch.float64)
    each = itertools.combinations_with_replacement(range(n), k)  # torch's own makes all n^k first
    index = torch.from_numpy(np.fromiter(itertools.chain.from_iterable(each), np.int64)).view(-1, k)
    again = (index[:, :, None] == index[:, None, :]).tril().sum(-1)  # how often each has come by then
    return index, (torch.arange(1, k + 1, dtype=torch.float64) / again).prod(
        -1
    )  # k! over their factorials, which overflow


def sample(problem: Problem, shape: Shape, batches: int, random: torch.Generator) -> Iterator[Draws]:
    """`batches` drawn ones, in BLOCKS equal parts."""
    each = max(1, batches // BLOCKS)
    for _ in range(BLOCKS):
        starts = torch.multinomial(problem.table.start, each * shape.starts, replacement=True, generator=random)
        rows = trajectories.drawn(
            problem.table, problem.drawing.softmax(-1), starts.repeat_interleave(shape.group), random
        )
        T = rows.state.shape[1]
        state, action, after, mask = (x.reshape(each, *shape, T) for x in rows[:-1])
        yield Draws(Trajectories(state, action, after, mask, rows.chance), torch.ones(each, dtype=torch.float64))


def batches(
    problem: Problem, shape: Shape, samples: int, seed: int = 0, symmetric: bool = False
) -> tuple[Iterator[Draws], bool]:
    """(the batches, whether those are all): `samples` drawn ones only where there are too many; 0: refuse."""
    if samples and samples < 2 * BLOCKS:
        raise LogpiError(f"samples is {samples}: draw {2 * BLOCKS} batches or more, or 0 for none.")
    if size(problem, shape, symmetric) <= MOST:
        return exhaust(problem, shape, symmetric), True
    if not samples:
        n = shape.starts * shape.group
        many = f"{amount(trajectories.count(problem.table))} trajectories: batches of {n}"
        cure = "use fewer rows, a lower limit of steps, or measure with --samples 20000 (samples=20_000)"
        raise LogpiError(f"{problem.name} has {many} are too many to enumerate (at most {MOST:,}); {cure}.")
    return sample(problem, shape, samples, torch.Generator().manual_seed(seed)), False
