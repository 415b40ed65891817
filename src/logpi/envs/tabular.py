"""Finite Markov decision processes with known P and R, stepped in tensors; observations are one-hot states."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn.functional import one_hot

from logpi.envs.base import Step
from logpi.errors import EnvironmentFailed, LogpiError


@dataclass(frozen=True)
class Table:
    """P [S, A, S] transition probabilities, R [S, A] or [S, A, S] rewards, start [S], terminal [S] bool, limit: steps at most."""

    P: Tensor
    R: Tensor
    start: Tensor
    terminal: Tensor
    limit: int = 100

    def __post_init__(self) -> None:
        S, A = self.P.shape[0], self.P.shape[1] if self.P.dim() > 1 else 0
        shapes: dict[str, list[tuple[int, ...]]]
        shapes = {"P": [(S, A, S)], "R": [(S, A), (S, A, S)], "start": [(S,)], "terminal": [(S,)]}
        for name, allowed in shapes.items():
            found = tuple(getattr(self, name).shape)
            if found not in allowed:
                raise LogpiError(
                    f"{name} of the table is {found}: with P {tuple(self.P.shape)} it must be {allowed[0]}."
                )
        if self.limit < 1 or not bool(self.R.isfinite().all()):
            what = f"limit of the table is {self.limit}" if self.limit < 1 else "R of the table holds NaN or infinity"
            raise LogpiError(f"{what}: an episode has 1 step or more, and its rewards are finite.")
        for name, rows in (("P", self.P), ("start", self.start)):
            self._must_be_probabilities(name, rows)

    def _must_be_probabilities(self, name: str, rows: Tensor) -> None:
        sums = rows.sum(-1)
        wrong = ~((sums - 1).abs() <= 1e-6) | (rows < 0).any(-1)  # NaN is wrong too
        for at in wrong.nonzero().tolist()[:1]:
            row = f"{name}[{', '.join(map(str, at))}]" if at else name
            least = float(rows[tuple(at)].min())
            what = f"has a probability of {least:g}" if least < 0 else f"sums to {float(sums[tuple(at)]):.6g}"
            raise LogpiError(f"{row} {what}: probabilities are 0 or more, and a row of them sums to 1.")


def bandit(rewards: Sequence[float] = (0.0, 0.2, 0.5, 1.0)) -> Table:
    """One state, one step: pull one of the arms."""
    R = torch.tensor([list(rewards), [0.0] * len(rewards)], dtype=torch.float64)
    P = torch.zeros(2, len(rewards), 2, dtype=torch.float64)
    P[:, :, 1] = 1.0
    return Table(P, R, torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor([False, True]), 1)


def chain(length: int = 5, slip: float = 0.1) -> Table:
    """Left or right along a line, each turned round with probability `slip`; 1 for reaching the right end, 0.1 the left."""
    S = length + 2
    P, R = torch.zeros(S, 2, S, dtype=torch.float64), torch.zeros(S, 2, dtype=torch.float64)
    for s in range(1, S - 1):
        for a, step in enumerate((-1, 1)):
            P[s, a, s + step] += 1 - slip
            P[s, a, s - step] += slip
    R += 0.1 * P[..., 0] + P[..., S - 1]
    P[0, :, 0], P[S - 1, :, S - 1], R[0], R[S - 1] = 1.0, 1.0, 0.0, 0.0
    start = torch.zeros(S, dtype=torch.float64)
    start[S // 2] = 1.0
    terminal = torch.zeros(S, dtype=torch.bool)
    terminal[[0, S - 1]] = True
    return Table(P, R, start, terminal, 50)


def gridworld(size: int = 4) -> Table:
    """From one corner to the other of a square, up, down, left, right; -0.04 a step, 1 for arriving."""
    S = size * size
    P, R = torch.zeros(S, 4, S, dtype=torch.float64), torch.full((S, 4), -0.04, dtype=torch.float64)
    for s in range(S):
        for a, (dy, dx) in enumerate(((-1, 0), (1, 0), (0, -1), (0, 1))):
            y, x = s // size + dy, s % size + dx
            P[s, a, y * size + x if 0 <= y < size and 0 <= x < size else s] = 1.0
    P[S - 1], R[S - 1] = 0.0, 0.0
    P[S - 1, :, S - 1] = 1.0
    R[:-1] += P[:-1, :, S - 1]
    start, terminal = torch.zeros(S, dtype=torch.float64), torch.zeros(S, dtype=torch.bool)
    start[0], terminal[S - 1] = 1.0, True
    return Table(P, R, start, terminal, 50)


class Tabular:
    """n copies of one table."""

    backend = "native"

    def __init__(self, n: int, table: Table, device: str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.n, self.table, self.device, self.dtype = n, table, device, dtype
        self.failures: list[EnvironmentFailed] = []
        self.observation_space = spaces.Box(0.0, 1.0, (len(table.start),))
        self.action_space = spaces.Discrete(table.R.shape[1])
        self.P_sum, self.R = table.P.cumsum(-1).to(device), table.R.to(device, dtype)
        self.start_sum, self.terminal = table.start.cumsum(-1).to(device), table.terminal.to(device)
        self.generator = torch.Generator(device)
        self.s = self._draw(self.start_sum.expand(n, -1), self.generator)
        self.age = torch.zeros(n, dtype=torch.long, device=device)

    def _draw(self, cumulative: Tensor, generator: torch.Generator) -> Tensor:
        """One state for each row of cumulative probabilities."""
        u = torch.rand(len(cumulative), 1, dtype=cumulative.dtype, device=self.device, generator=generator)
        return (u >= cumulative).sum(-1).clamp(max=cumulative.shape[-1] - 1)

    def _see(self, s: Tensor) -> Tensor:
        return one_hot(s, len(self.terminal)).to(self.dtype)

    def reset(self, seeds: Sequence[int] | None = None) -> Tensor:
        first = self.start_sum.expand(self.n, -1)
        if seeds is None:
            self.s = self._draw(first, self.generator)
        else:
            self.generator.manual_seed(seeds[0] ^ 0x5EED)  # not the stream of a start
            draws = [self._draw(first[:1], torch.Generator(self.device).manual_seed(seed)) for seed in seeds]
            self.s = torch.cat(draws)
        self.age = torch.zeros_like(self.age)
        return self._see(self.s)

    def step(self, action: Tensor) -> Step:
        s = self._draw(self.P_sum[self.s, action], self.generator)
        reward = self.R[self.s, action] if self.R.dim() == 2 else self.R[self.s, action, s]
        age = self.age + 1
        terminated = self.terminal[s]
        truncated = (age >= self.table.limit) & ~terminated
        ended = terminated | truncated
        fresh = self._draw(self.start_sum.expand(self.n, -1), self.generator)
        self.s, self.age = torch.where(ended, fresh, s), age.masked_fill(ended, 0)
        return Step(self._see(self.s), self._see(s), reward, terminated, truncated)

    def state(self) -> dict[str, Any]:
        return {"s": self.s, "age": self.age, "generator": self.generator.get_state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.s, self.age = state["s"].to(self.s), state["age"].to(self.age)
        self.generator.set_state(state["generator"].cpu())

    def close(self) -> None:
        pass


PAYOFF = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]], dtype=torch.float64)  # ours x theirs


class RockPaperScissors(Tabular):
    """One throw against an opponent who watches our last throws and answers them; only (1/3, 1/3, 1/3) holds.

    The opponent plays softmax(payoff against our recent mixture / temperature): R is known, and moves.
    A deterministic policy loses every throw: the optimum is stochastic.
    """

    def __init__(
        self,
        n: int,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        memory: float = 500.0,
        temperature: float = 0.2,
    ) -> None:
        super().__init__(n, bandit((0.0, 0.0, 0.0)), device, dtype)
        self.memory, self.temperature = memory, temperature
        self.payoff = PAYOFF.to(device)
        self.ours = torch.full((3,), 1 / 3, dtype=torch.float64, device=device)

    @property
    def opponent(self) -> Tensor:
        """The mixture the opponent plays now."""
        return (self.payoff @ self.ours / self.temperature).softmax(-1)

    def step(self, action: Tensor) -> Step:
        self.R = torch.stack([self.payoff @ self.opponent, torch.zeros_like(self.ours)]).to(self.dtype)
        seen = one_hot(action, 3).to(self.ours).mean(0)
        weight = 1 - (1 - 1 / self.memory) ** self.n
        self.ours = (1 - weight) * self.ours + weight * seen
        return super().step(action)

    def state(self) -> dict[str, Any]:
        return super().state() | {"ours": self.ours}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.ours = state["ours"].to(self.ours)


TABULAR: dict[str, Callable[..., Tabular]] = {
    "Bandit": lambda n, device, dtype: Tabular(n, bandit(), device, dtype),
    "Chain": lambda n, device, dtype: Tabular(n, chain(), device, dtype),
    "Gridworld": lambda n, device, dtype: Tabular(n, gridworld(), device, dtype),
    "RockPaperScissors": RockPaperScissors,
}
