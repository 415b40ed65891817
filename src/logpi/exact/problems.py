"""The problems that ship, Gymnasium's toy-text environments, and any table of the user's."""

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Discrete
from torch import Tensor, nn

from logpi.envs.tabular import Table, bandit, chain, gridworld
from logpi.errors import LogpiError, nearest
from logpi.exact.problem import Problem
from logpi.policy import Policy
from logpi.policy.heads import head_for
from logpi.policy.networks import mlp

Reward = Callable[[int, tuple[int, ...]], float]  # the prompt's number, the tokens -> the reward


def linear(logits: Tensor) -> Policy:
    """A softmax of a table of logits [S, A]: one parameter for each."""
    S, A = logits.shape
    network = nn.Linear(S, A, bias=False, dtype=torch.float64)
    with torch.no_grad():
        network.weight.copy_(logits.T)
    return softmax(network, A)


def softmax(network: nn.Module, actions: int) -> Policy:
    """The policy whose logits a network gives."""
    return Policy(nn.Identity(), network, head_for(Discrete(actions)))


def from_table(table: Table, name: str = "your table", gamma: float = 0.9, seed: int = 0, **more: Any) -> Problem:
    """A problem of a table: one-hot states, a softmax with a random logit for each state and action, a reference near it.

    `more` are fields of `Problem`: a policy of yours (any float64 one over the table's actions, as `softmax(network, A)`)
    that reads obs [S, F], and a reference beside it.
    """
    S, A = table.P.shape[:2]
    logits, ref = random_logits(S, A, seed)
    P, start = (x.double() / x.double().sum(-1, keepdim=True) for x in (table.P, table.start))  # sums of 1 to rounding
    table = replace(table, P=P, R=table.R.double(), start=start)
    own: dict[str, Any] = {"obs": torch.eye(S, dtype=torch.float64)}
    if "policy" not in more:
        own |= {"policy": linear(logits), "reference": linear(ref)}
    return Problem(name, table, gamma=gamma, **own | more)


def random_logits(S: int, A: int, seed: int) -> tuple[Tensor, Tensor]:
    """Of a policy, standard normal, and of a reference near it."""
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(S, A, dtype=torch.float64, generator=generator) for _ in range(2))
    return first, first + 0.7 * second


def five_states() -> Table:
    """Five states, always on to a later one or to the end: episodes of 1 to 4 steps, two starts, rewards of both signs."""
    P, R = torch.zeros(6, 2, 6, dtype=torch.float64), torch.zeros(6, 2, dtype=torch.float64)
    P[0, 0, 1], P[0, 0, 5], P[0, 1, 2] = 0.7, 0.3, 1.0
    P[1, 0, 2], P[1, 1, 3], P[1, 1, 5] = 1.0, 0.4, 0.6
    P[2, 0, 3], P[2, 1, 5] = 1.0, 1.0
    P[3, :, 5], P[4, 0, 5], P[4, 1, 3], P[5, :, 5] = 1.0, 1.0, 1.0, 1.0
    R[:5] = torch.tensor([[0.1, 1.2], [1.5, -0.4], [-1.0, 0.8], [2.0, 0.3], [0.6, -0.2]], dtype=torch.float64)
    start = torch.tensor([0.8, 0.0, 0.0, 0.0, 0.2, 0.0], dtype=torch.float64)
    return Table(P, R, start, torch.arange(6) == 5, 4)


def sequences(
    vocabulary: int,
    length: int,
    reward: Reward,
    prompts: int = 1,
    logits: Tensor | None = None,
    ref: Tensor | None = None,
    name: str = "your sequences",
    seed: int = 0,
    **more: Any,
) -> Problem:
    """Completions of at most `length` tokens, token 0 the end: a process whose states are the prefixes.

    A token is an action, the reward follows the last one, and a completion of full length without the end token is cut
    (`truncated`). logits, ref [prompts x prefixes, vocabulary], prefixes by length, then in the order of their tokens.
    Instead of logits a policy, obs [prompts x prefixes + 2, F] and a reference, as in `from_table`.
    """
    if vocabulary < 2 or length < 1 or prompts < 1:
        raise LogpiError(
            "Sequences need a vocabulary of 2 or more, a length and prompts of 1 or more: there is nothing to choose."
        )
    prefixes = [(m, x) for m in range(prompts) for x in _prefixes(vocabulary, length)]
    number = {x: i for i, x in enumerate(prefixes)}
    S = len(prefixes) + 2  # two more: ended, and cut
    P, R = torch.zeros(S, vocabulary, S, dtype=torch.float64), torch.zeros(S, vocabulary, dtype=torch.float64)
    P[S - 2 :, :, S - 2] = 1.0
    for (m, x), i in number.items():
        for token in range(vocabulary):
            grown = (*x, token)
            over = token == 0 or len(grown) == length
            P[i, token, number[m, grown] if not over else S - 2 if token == 0 else S - 1] = 1.0
            R[i, token] = reward(m, grown) if over else 0.0
    start = torch.zeros(S, dtype=torch.float64)
    start[[number[m, ()] for m in range(prompts)]] = 1 / prompts
    terminal = torch.arange(S) == S - 2
    table = Table(P, R, start, terminal, length)
    states = [(f"prompt {m}, " if prompts > 1 else "") + f"after {list(x)}" for m, x in prefixes]
    tokens = ("the end token", *(f"token {i}" for i in range(1, vocabulary)))
    given = {"policy": logits, "reference": ref}
    own: dict[str, Any] = {
        role: linear(torch.cat([x, torch.zeros(2, vocabulary, dtype=torch.float64)]))
        for role, x in given.items()
        if x is not None
    }
    return from_table(table, name, 1.0, seed, **own, **more, states=(*states, "over", "cut"), actions=tokens)


def _prefixes(vocabulary: int, length: int) -> Iterator[tuple[int, ...]]:
    for n in range(length):
        yield from itertools.product(range(1, vocabulary), repeat=n)


def toy_sequences() -> Problem:
    """Three tokens, at most three of them, a reward of 1 for beginning with token 1 and going on: numpy's seed 0."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(7, 3))
    ref = logits + 0.7 * random.normal(size=(7, 3))
    right: Reward = lambda m, x: float(len(x) >= 2 and x[0] == 1)  # noqa: E731
    return sequences(3, 3, right, logits=torch.tensor(logits), ref=torch.tensor(ref), name="sequences")


def toy_prompts() -> Problem:
    """Three prompts of unlike difficulty that pay 1, 0.3 and 3: where a group's std weighs one prompt against another."""
    paid = (({1, 2}, 1.0), ({1}, 0.3), ({2}, 3.0))  # the first tokens that are right, and what for

    def right(m: int, x: tuple[int, ...]) -> float:
        tokens, reward = paid[m]
        return reward * (x[0] in tokens and x[-1] != x[0])

    return sequences(3, 2, right, prompts=3, name="prompts", seed=1)


def toy_text(name: str) -> Problem:
    """One of Gymnasium's environments that tell their transitions: as FrozenLake-v1; at most 100 steps where it has no limit."""
    try:
        made = gym.make(name)
    except (gym.error.Error, ImportError) as wrong:
        raise LogpiError(f"{name}: {wrong}") from wrong
    told, limit = getattr(made.unwrapped, "P", None), made.spec.max_episode_steps if made.spec else None
    start = getattr(made.unwrapped, "initial_state_distrib", None)
    made.close()
    if not isinstance(told, dict) or start is None:
        raise LogpiError(f"{name} tells no table of transitions P: only toy-text environments do, as FrozenLake-v1.")
    return from_table(read_table(told, start, limit or 100), name, gamma=0.99)


def read_table(told: dict[int, dict[int, Sequence[Any]]], start: Any, limit: int) -> Table:
    """P[s][a] = [(probability, next state, reward, terminated), ...] as a table.

    A state that can be entered both ways, ending the episode or not, is two: the second ends it.
    """
    entered: dict[int, set[bool]] = {s: {False} for s, p in enumerate(start) if p > 0}
    for p, after, _, over in (x for ways in told.values() for outcomes in ways.values() for x in outcomes):
        if p > 0:
            entered.setdefault(after, set()).add(bool(over))
    ends = {s for s, ways in entered.items() if ways == {True}}
    both = sorted(s for s, ways in entered.items() if len(ways) == 2)
    twins = {s: len(told) + i for i, s in enumerate(both)}
    S, A = len(told) + len(twins), len(told[0])
    P, R = (torch.zeros(S, A, S, dtype=torch.float64) for _ in range(2))
    for s in told:
        for a, outcomes in told[s].items():
            for p, after, reward, over in outcomes:
                there = twins.get(after, after) if over else after
                R[s, a, there] += p * reward
                P[s, a, there] += p
    R = torch.where(P > 0, R / P.where(P > 0, 1.0), 0.0)
    for twin in twins.values():
        P[twin, :, twin] = 1.0
    terminal = torch.tensor([s in ends for s in range(len(told))] + [True] * len(twins))
    first = torch.cat([torch.as_tensor(start, dtype=torch.float64), torch.zeros(len(twins), dtype=torch.float64)])
    return Table(P, R, first, terminal, limit)


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "five-states": lambda: from_table(five_states(), "five-states"),
    "bandit": lambda: from_table(bandit(), "bandit", gamma=1.0),
    "sequences": toy_sequences,
    "prompts": toy_prompts,
    "chain": lambda: from_table(replace(chain(), limit=20), "chain"),
    "gridworld": lambda: from_table(gridworld(), "gridworld"),
}


def find(given: Any) -> Problem:
    """A problem by name, by the id of a toy-text environment, from a table, or as it is."""
    if isinstance(given, Problem):
        return given
    if isinstance(given, Table):
        return from_table(given)
    if not isinstance(given, str):
        raise LogpiError(f"{type(given).__name__} is no problem: it takes a name, a Table or a Problem.")
    if given in PROBLEMS:
        return PROBLEMS[given]()
    if given in gym.registry:
        return toy_text(given)
    known = [*PROBLEMS, *(x for x in gym.registry if "toy_text" in str(gym.registry[x].entry_point))]
    raise LogpiError(f"There is no problem {given!r}.{nearest(given, known)}")


def changed(
    problem: Problem,
    gamma: float | None = None,
    critic_error: float | None = None,
    drift: float = 0.0,
    hidden: Sequence[int] = (),
    limit: int | None = None,
    seed: int = 0,
) -> Problem:
    """The problem with another discount, critic, limit, policy (an MLP with `hidden` layers), or behaviour.

    drift: the actions were drawn by the policy with its parameters moved by so many standard normal draws.
    """
    policy, behaviour = problem.policy, problem.behaviour
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if hidden:
            A = problem.table.P.shape[1]
            policy = softmax(mlp(problem.obs.shape[1], A, hidden, gain=1.0).double(), A)
        if drift:
            behaviour = copy.deepcopy(policy)
            with torch.no_grad():
                for p in behaviour.parameters():
                    p.add_(drift * torch.randn_like(p))
    return replace(
        problem,
        policy=policy,
        behaviour=behaviour,
        table=problem.table if limit is None else replace(problem.table, limit=limit),
        gamma=problem.gamma if gamma is None else gamma,
        critic_error=problem.critic_error if critic_error is None else critic_error,
    )
