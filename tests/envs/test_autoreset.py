"""Every autoreset mode, and vector environments of one's own, give the transitions of one plain environment."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import nn

from logpi import envs, psi
from logpi.critic import V
from logpi.envs.gym import Gymnasium
from logpi.envs.loop import Loop
from logpi.policy import Policy
from logpi.policy.categorical import Categorical
from logpi.rollout.control import Control

OBS = spaces.Box(-1000, 1000, (3,), np.float64)
GAMMA, LAM = 0.9, 0.8


def start_of(episode: int) -> np.ndarray:
    return np.array([episode * 2 % 3 - 1, 0, episode], np.float64)


def transition(obs: np.ndarray, action: int) -> tuple[np.ndarray, float, bool, bool]:
    """x moves by one; out of [-2, 2] terminates, the sixth step truncates, both may fall together."""
    x, age, episode = obs
    new = np.array([x + 2 * action - 1, age + 1, episode])
    return new, float(math.cos(new[0] + 3 * age + episode)), abs(new[0]) > 2, new[1] >= 6


class Toy(gym.Env):
    """Deterministic, so that only bookkeeping can differ; a seed picks the first episode's number."""

    observation_space, action_space = OBS, spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        self.episode = seed % 97 if seed is not None else self.episode + 1
        self.obs = start_of(self.episode)
        return self.obs, {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.obs, *rest = transition(self.obs, int(action))
        return (self.obs, *rest, {})


class Own(gym.vector.VectorEnv):
    """A vector environment of one's own: no copies of its arrays unless asked for, NaN as the reward of a reset."""

    single_observation_space, single_action_space = OBS, spaces.Discrete(2)

    def __init__(self, n: int, mode: AutoresetMode | None, copies: bool) -> None:
        self.num_envs, self.mode, self.copies = n, mode, copies
        self.metadata = {} if mode is None else {"autoreset_mode": mode}
        self.obs, self.reward, self.over = np.zeros((n, 3)), np.zeros(n), np.zeros((2, n), bool)

    def _fresh(self, row: int, episode: float) -> None:
        self.obs[row] = start_of(int(episode))

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[np.ndarray, dict]:
        which = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        for row in which.nonzero()[0]:
            self._fresh(row, self.obs[row, 2] + 1 if seed is None else (seed + row) % 97)
        self.over[:, which] = False
        return self.obs.copy() if self.copies else self.obs, {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        info: dict[str, Any] = {"final_obs": np.full(self.num_envs, None, object)}
        for row, action in enumerate(actions):
            if self.over[:, row].any():
                assert self.mode != AutoresetMode.DISABLED, "stepped after an end"
                self._fresh(row, self.obs[row, 2] + 1)
                self.reward[row], self.over[:, row] = math.nan, False
                continue
            self.obs[row], self.reward[row], *self.over[:, row] = transition(self.obs[row], int(action))
        out = [self.obs, self.reward, *self.over]
        if self.mode == AutoresetMode.SAME_STEP:
            out[2:] = self.over.copy()
            for row in self.over.any(0).nonzero()[0]:
                info["final_obs"][row] = self.obs[row].copy()
                self._fresh(row, self.obs[row, 2] + 1)
            self.over[:] = False
        return (*(x.copy() if self.copies else x for x in out), info)


def make(kind: str, n: int = 4) -> Gymnasium | Loop:
    if kind.startswith("own"):
        _, mode, *shares = kind.split("-")
        return Gymnasium(Own(n, None if mode == "unsaid" else AutoresetMode[mode.upper()], not shares))
    if kind.startswith("gymnasium"):
        mode = AutoresetMode[kind.partition("-")[2].upper()]
        return Gymnasium(SyncVectorEnv([Toy] * n, copy=False, autoreset_mode=mode))
    made = envs.make(Toy, n, backend="sync", autoreset=AutoresetMode[kind.upper()])
    assert isinstance(made, Loop) and made.backend == "sync" and made.mode == AutoresetMode[kind.upper()]
    return made


KINDS = ["same_step", "next_step", "disabled", "gymnasium-same_step", "gymnasium-next_step", "gymnasium-disabled", "own-same_step", "own-next_step", "own-disabled", "own-unsaid",
         "own-same_step-shares", "own-next_step-shares", "own-disabled-shares"]  # fmt: skip


class Scripted(nn.Module):
    """Logits that leave no choice: the action is a function of the observation."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        _, age, episode = obs.unbind(-1)
        right = (age % 2 == episode % 2) | (episode % 3 == 0)
        return 1e6 * self.one * torch.stack([~right, right], -1)


class Known(nn.Module):
    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        return (obs @ torch.tensor([1.0, 0.3, 0.7], dtype=torch.float64)).sin()[..., None]


POLICY = Policy(nn.Identity(), Scripted(), Categorical(2))
CRITIC = V(Known())


def value(obs: Any) -> float:
    return float(CRITIC(torch.as_tensor(np.array(obs))))


def reference(first: np.ndarray, steps: int) -> list[tuple]:
    """(obs, action, reward, terminated, truncated, final) of one plain environment."""
    out, obs = [], first
    for _ in range(steps):
        action = int(POLICY.network(torch.as_tensor(obs)).argmax())
        final, reward, terminated, truncated = transition(obs, action)
        out.append((obs, action, reward, terminated, truncated, final))
        obs = start_of(int(obs[2]) + 1) if terminated or truncated else final
    return out


def credit(row: list[tuple]) -> list[float]:
    """GAE by its definition: sum_k (gamma lam)^k delta_{t+k} up to the end of the episode or of the row."""
    delta = [r + GAMMA * (0.0 if end else value(final)) - value(obs) for obs, _, r, end, _, final in row]
    stop = [end or cut for _, _, _, end, cut, _ in row]
    out = []
    for t in range(len(row)):
        last = next((k for k in range(t, len(row)) if stop[k]), len(row) - 1)
        out.append(sum((GAMMA * LAM) ** (k - t) * delta[k] for k in range(t, last + 1)))
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_every_mode_gives_the_transitions_of_one_plain_environment(kind: str) -> None:
    made = make(kind)
    obs = made.reset(list(range(made.n)))
    first, seen, kept = obs.clone().numpy(), [[] for _ in range(made.n)], []
    for _ in range(60):
        action = POLICY.network(obs).argmax(-1)
        step = made.step(action)
        kept.append((obs, action, step.reward, step.terminated, step.truncated, step.final, step.mask))
        obs = step.obs
    for *fields, mask in kept:  # read at the end: nothing may have been written over
        for row in range(made.n):
            if mask is None or mask[row]:
                seen[row].append(tuple(x[row].numpy() for x in fields))
    assert any(mask is not None for *_, mask in kept) == ("next" in kind or "unsaid" in kind), "dummy steps are masked"
    ends = np.zeros(2, int)
    for row in range(made.n):
        assert len(seen[row]) >= 45
        for found, expected in zip(seen[row], reference(first[row], len(seen[row])), strict=True):
            for x, y in zip(found, expected, strict=True):
                np.testing.assert_array_equal(x, y)
            ends += [expected[3], expected[4]]
    assert (ends > 5).all(), "the toy must both terminate and truncate"


@pytest.mark.parametrize("length", [1, 5, 16])
@pytest.mark.parametrize("kind", KINDS)
def test_segments_have_the_same_transitions_ends_and_gae(kind: str, length: int) -> None:
    collect = Control(make(kind), "segments", torch.Generator().manual_seed(0), seed=5, length=length, gamma=GAMMA)
    batches = [collect(POLICY, CRITIC) for _ in range(64 // length)]
    rows, last_step_ends = collect.envs.n, 0
    for row in range(rows):
        first = next(b.obs[row, 0] for b in batches).numpy()
        expected = iter(reference(first, 70))
        for b in batches:
            last_step_ends += int(b.ended[row, -1])
            mask = b.mask[row]
            part = [next(expected) for _ in range(int(mask.sum()))]
            names = ("obs", "action", "reward", "terminated", "truncated")
            for name, column in zip(names, zip(*part, strict=False), strict=False):
                np.testing.assert_array_equal(getattr(b, name)[row][mask].numpy(), np.array(column), name)
            actions, back = b.to_actions()
            ends = actions.terminated, actions.truncated
            gae = back(psi.gae(actions.reward, actions.value, actions.value_next, *ends, GAMMA, LAM))[row]
            np.testing.assert_allclose(gae[mask].numpy(), credit(part), rtol=0, atol=1e-12)
            bootstrapped = [value(final) for *_, final in part]
            alive = mask & ~b.terminated[row]
            kept = [v for v, (_, _, _, end, _, _) in zip(bootstrapped, part, strict=True) if not end]
            np.testing.assert_allclose(b.value_next[row][alive].numpy(), kept, rtol=0, atol=1e-12)
    assert last_step_ends > 0, "some episode must end on the last step of a segment"


@pytest.mark.parametrize("kind", KINDS)
def test_returns_and_lengths_leave_out_the_reward_of_a_reset(kind: str) -> None:
    collect = Control(make(kind), "segments", torch.Generator(), seed=5, length=15)
    batches, expected = [collect(POLICY, CRITIC) for _ in range(4)], []
    for row in range(4):
        ret, length = 0.0, 0
        for *_, reward, terminated, truncated, _ in reference(
            batches[0].obs[row, 0].numpy(), sum(int(b.mask[row].sum()) for b in batches)
        ):
            ret, length = ret + reward, length + 1
            if terminated or truncated:
                expected.append((ret, length))
                ret, length = 0.0, 0
    assert 30 < len(expected) < 100 and collect.finished == len(expected)
    np.testing.assert_allclose(sorted(collect.recent), sorted(expected), rtol=0, atol=1e-12)
    np.testing.assert_allclose(collect.metrics()["return"], np.mean([ret for ret, _ in expected]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_episodes_in_every_mode(kind: str) -> None:
    collect = Control(make(kind), "episodes", torch.Generator(), seed=5)
    for _ in range(5):
        b = collect(POLICY, CRITIC)
        for row in range(4):
            steps = int(b.mask[row].sum())
            assert b.mask[row, :steps].all() and not b.mask[row, steps:].any()
            part = reference(b.obs[row, 0].numpy(), steps)
            assert part[0][0][1] == 0 and [x[3] or x[4] for x in part] == [False] * (steps - 1) + [True]
            np.testing.assert_array_equal(b.reward[row, :steps].numpy(), [x[2] for x in part])
            np.testing.assert_array_equal(b.terminated[row, :steps].numpy(), [x[3] for x in part])
            np.testing.assert_array_equal(b.truncated[row, :steps].numpy(), [x[4] for x in part])
