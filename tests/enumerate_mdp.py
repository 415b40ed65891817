"""Small Markov decision processes solved exactly: values and gradients by linear solves, and every trajectory."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from logpi.batch import Batch
from logpi.envs.tabular import Table
from logpi.policy import Policy
from logpi.policy.categorical import Categorical


def layered(limit: int = 100) -> Table:
    """Six states, always on to a higher one, 5 terminal: episodes of 1 to 4 steps, two starts, rewards of both signs."""
    generator = torch.Generator().manual_seed(5)
    P, R = torch.zeros(6, 2, 6, dtype=torch.float64), torch.zeros(6, 2, dtype=torch.float64)
    P[0, 0, 1], P[0, 0, 5], P[0, 1, 2] = 0.7, 0.3, 1.0
    P[1, 0, 2], P[1, 1, 3], P[1, 1, 5] = 1.0, 0.4, 0.6
    P[2, 0, 3], P[2, 1, 5] = 1.0, 1.0
    P[3, :, 5], P[4, 0, 5], P[4, 1, 3], P[5, :, 5] = 1.0, 1.0, 1.0, 1.0
    R[:5] = torch.randn(5, 2, dtype=torch.float64, generator=generator) + 0.5
    start = torch.tensor([0.8, 0.0, 0.0, 0.0, 0.2, 0.0], dtype=torch.float64)
    return Table(P, R, start, torch.arange(6) == 5, limit)


def looping(limit: int) -> Table:
    """Two states that go on for ever and one terminal: without the limit no bound on the length."""
    P, R = torch.zeros(3, 2, 3, dtype=torch.float64), torch.zeros(3, 2, dtype=torch.float64)
    P[0, 0, 1], P[0, 1, 0], P[1, 0, 0], P[1, 1, 1], P[1, 1, 2] = 1.0, 1.0, 1.0, 0.5, 0.5
    P[2, :, 2] = 1.0
    R[0, 0], R[0, 1], R[1, 0], R[1, 1] = 1.0, -0.3, 0.2, 2.0
    return Table(P, R, torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64), torch.arange(3) == 2, limit)


def tabular_policy(table: Table, seed: int = 0) -> Policy:
    """A float64 softmax over theta [A, S], `policy.network.weight`; observations are one-hot states."""
    network = nn.Linear(len(table.start), table.R.shape[1], bias=False, dtype=torch.float64)
    with torch.no_grad():
        network.weight.normal_(generator=torch.Generator().manual_seed(seed))
    return Policy(nn.Identity(), network, Categorical(table.R.shape[1]))


def probabilities(policy: Policy) -> Tensor:
    """pi [S, A]."""
    return policy.network.weight.T.softmax(-1)


def solve(table: Table, pi: Tensor, gamma: float) -> tuple[Tensor, Tensor, Tensor]:
    """(V [S], Q [S, A], J): V = (I - gamma P_pi)^-1 R_pi on the states that are not terminal. Differentiable in pi."""
    alive = (~table.terminal).double()
    onward = table.P * alive  # nothing follows a terminal state
    P_pi, R_pi = torch.einsum("sa,sax->sx", pi, onward) * alive[:, None], (pi * table.R).sum(-1) * alive
    V = torch.linalg.solve(torch.eye(len(alive), dtype=torch.float64) - gamma * P_pi, R_pi)
    return V, table.R + gamma * onward @ V, table.start @ V


def exact_gradient(table: Table, policy: Policy, gamma: float, from_start: bool = True) -> Tensor:
    """sum_s d(s) sum_a grad pi(a|s) Q(s, a), [A, S]; d counts visits times gamma^t, or without that factor."""
    pi = probabilities(policy).detach()
    V, Q, _ = solve(table, pi, gamma)
    alive = (~table.terminal).double()
    onward = torch.einsum("sa,sax->sx", pi, table.P * alive) * alive[:, None]
    decay = gamma if from_start else 1.0
    visits = torch.linalg.solve(torch.eye(len(alive), dtype=torch.float64) - decay * onward.T, table.start * alive)
    return (visits[:, None] * pi * (Q - V[:, None])).T


def unroll(table: Table) -> Table:
    """The same process with the step in the state, (t, s): the limit becomes an end, so `solve` knows it."""
    H, S, A = table.limit, *table.R.shape
    P, R = torch.zeros(H * S + 1, A, H * S + 1, dtype=torch.float64), torch.zeros(H * S + 1, A, dtype=torch.float64)
    P[-1, :, -1] = 1.0
    for t in range(H):
        here = slice(t * S, (t + 1) * S)
        R[here] = table.R
        if t + 1 < H:
            P[here, :, (t + 1) * S : (t + 2) * S] = table.P
        else:
            P[here, :, -1] = 1.0
    start = torch.cat([table.start, torch.zeros((H - 1) * S + 1, dtype=torch.float64)])
    return Table(P, R, start, torch.cat([table.terminal.repeat(H), torch.tensor([True])]), H + 1)


@dataclass
class Trajectory:
    states: list[int]  # one more than there are actions
    actions: list[int]
    rewards: list[float]
    chance: float  # the environment's part of the probability: start and transitions
    terminated: bool  # else it was cut by the limit

    def __len__(self) -> int:
        return len(self.actions)

    def log_pi(self, pi: Tensor) -> Tensor:
        return pi[self.states[:-1], self.actions].log()

    def probability(self, pi: Tensor) -> Tensor:
        return self.chance * self.log_pi(pi).sum().exp()


def trajectories(table: Table) -> list[Trajectory]:
    """Every trajectory that has a chance in the environment."""

    def grow(states: list[int], actions: list[int], chance: float) -> Iterator[Trajectory]:
        ends = bool(table.terminal[states[-1]])
        if ends or len(actions) == table.limit:
            rewards = [float(table.R[s, a]) for s, a in zip(states, actions, strict=False)]
            yield Trajectory(states, actions, rewards, chance, ends)
            return
        for a in range(table.R.shape[1]):
            for s, p in enumerate(table.P[states[-1], a].tolist()):
                if p:
                    yield from grow([*states, s], [*actions, a], chance * p)

    return [x for s, p in enumerate(table.start.tolist()) if p for x in grow([s], [], p)]


def episodes(table: Table, policy: Policy, rows: list[Trajectory], V: Tensor | None = None) -> Batch:
    """Those trajectories as whole episodes, padded with zeros; V [S] fills value and value_next."""
    B, T, S = len(rows), max(len(x) for x in rows), len(table.start)
    states, after, action = (torch.zeros(B, T, dtype=torch.long) for _ in range(3))
    reward, mask = torch.zeros(B, T, dtype=torch.float64), torch.zeros(B, T, dtype=torch.bool)
    terminated, truncated = mask.clone(), mask.clone()
    for i, x in enumerate(rows):
        n = len(x)
        states[i, :n], after[i, :n] = torch.tensor(x.states[:-1]), torch.tensor(x.states[1:])
        action[i, :n], reward[i, :n], mask[i, :n] = (
            torch.tensor(x.actions),
            torch.tensor(x.rewards, dtype=torch.float64),
            True,
        )
        terminated[i, n - 1], truncated[i, n - 1] = x.terminated, not x.terminated
    obs = one_hot(states, S).double()
    with torch.no_grad():
        params = policy(obs)
        log_pi = policy.head.log_prob(params, action)
    version = torch.zeros(B, T, dtype=torch.long)
    b = Batch(
        obs, action, log_pi, params, reward, terminated, truncated, mask, version, torch.zeros(B, dtype=torch.long)
    )
    return b if V is None else b.with_(value=V[states], value_next=V[after])
