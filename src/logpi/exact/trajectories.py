"""Trajectories of a finite process: all of them with their probabilities, or some that were drawn."""

from typing import NamedTuple

import torch
from torch import Tensor

from logpi.envs.tabular import Table
from logpi.errors import LogpiError


class Trajectories(NamedTuple):
    """N episodes, padded with zeros behind their end."""

    state: Tensor  # [N, T]  s_t
    action: Tensor  # [N, T]
    after: Tensor  # [N, T]  s_{t+1}
    mask: Tensor  # [N, T] bool
    chance: Tensor  # [N]  start(s_0) prod_t P(s_{t+1} | s_t, a_t): the environment's part of the probability

    def at(self, index: Tensor) -> "Trajectories":
        return Trajectories(*(x[index] for x in self))


def outcomes(table: Table) -> Tensor:
    """P [S, A, S] of what happens; nothing happens in a terminal state."""
    return table.P * (~table.terminal).to(table.P)[:, None, None]


def count(table: Table) -> float:
    """How many trajectories there are; as a float, for there may be 10^40."""
    ways = (outcomes(table) > 0).sum(1).double()  # [S, S]: actions and outcomes that lead on
    paths, ended = (table.start > 0).double(), 0.0
    for _ in range(table.limit):
        ended += float(paths[table.terminal].sum())
        paths = paths @ ways
    return ended + float(paths.sum())


def every(table: Table, most: float = 1e6) -> Trajectories:
    """All trajectories that have a chance in the environment; refuses more than `most`."""
    found = count(table)
    if found > most:
        cure = "measure instead (--samples, samples=...), or lower the limit of steps"
        raise LogpiError(
            f"There are {amount(found)} trajectories, too many to enumerate (at most {most:,.0f}): {cure}."
        )
    edges = outcomes(table).nonzero()  # [E, 3], sorted by state
    outs = torch.bincount(edges[:, 0], minlength=len(table.start))
    first = outs.cumsum(0) - outs
    states = table.start.nonzero()  # [n, 1]: paths that grow to the right
    actions, chance = states[:, :0], table.start[states[:, 0]]
    done: list[tuple[Tensor, Tensor, Tensor]] = []
    for _ in range(table.limit):
        over = table.terminal[states[:, -1]]
        done.append((states[over], actions[over], chance[over]))
        states, actions, chance = states[~over], actions[~over], chance[~over]
        n = outs[states[:, -1]]
        parent = torch.arange(len(n)).repeat_interleave(n)
        nth = torch.arange(len(parent)) - (n.cumsum(0) - n)[parent]
        s, a, after = edges[first[states[parent, -1]] + nth].T
        states, actions = torch.cat([states[parent], after[:, None]], 1), torch.cat([actions[parent], a[:, None]], 1)
        chance = chance[parent] * table.P[s, a, after]
    done.append((states, actions, chance))
    done = [x for x in done if x[0].shape[1] > 1 and len(x[0])]
    if not done:
        raise LogpiError("This process is over at every start: no action is ever taken.")
    return padded(done)


def padded(parts: list[tuple[Tensor, Tensor, Tensor]]) -> Trajectories:
    """Parts of equal length each, (states [n, L + 1], actions [n, L], chance [n]), as one record."""
    T = max(actions.shape[1] for _, actions, _ in parts)

    def stack(x: list[Tensor]) -> Tensor:
        return torch.cat([torch.nn.functional.pad(one, (0, T - one.shape[1])) for one in x])

    return Trajectories(
        stack([states[:, :-1] for states, _, _ in parts]),
        stack([actions for _, actions, _ in parts]),
        stack([states[:, 1:] for states, _, _ in parts]),
        stack([torch.ones_like(actions, dtype=torch.bool) for _, actions, _ in parts]),
        torch.cat([chance for *_, chance in parts]),
    )


def drawn(table: Table, pi: Tensor, start: Tensor, generator: torch.Generator) -> Trajectories:
    """One trajectory from each of the states `start` [N], actions from pi [S, A]; `chance` is 1 for each."""
    P, s = outcomes(table), start
    alive = ~table.terminal[start]
    steps: list[tuple[Tensor, ...]] = []
    while len(steps) < table.limit and bool(alive.any()):
        a = torch.multinomial(pi[s], 1, generator=generator)[:, 0]
        p = P[s, a]
        p[:, 0] += p.sum(-1) == 0  # over: it stands anywhere
        after = torch.multinomial(p, 1, generator=generator)[:, 0]
        steps.append((s * alive, a * alive, after * alive, alive))
        s, alive = torch.where(alive, after, s), alive & ~table.terminal[after]
    state, action, after, mask = (torch.stack(x, 1) for x in zip(*steps, strict=True))
    return Trajectories(state, action, after, mask, torch.ones(len(start), dtype=table.P.dtype))


def amount(n: float) -> str:
    return f"{n:,.0f}" if n < 1e9 else f"about 10^{torch.tensor(n, dtype=torch.float64).log10():.0f}"
