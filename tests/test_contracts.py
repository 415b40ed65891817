"""What every method does on every kind of action: learns finitely, saves, continues bit for bit, and acts when loaded."""

import dataclasses
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

import logpi
from logpi.loop import Parts, loop
from logpi.run import checkpoint
from logpi.run.setup import Settings, assemble

SMALL = {"envs": 3, "length": 12, "episodes": 4, "starts": 2, "group": 3, "n": 4}
WORLDS = ["CartPole-v1", "gaussian", "squashed", "beta"]
SETTINGS = {"hidden": (8, 8), "steps": 10**6, "normalise_obs": True, "seed": 3}


class Reach(gym.Env):
    """Go to the origin in two dimensions: over when far away, cut after seven steps."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(np.array([-1.0, 0.0], np.float32), np.array([2.0, 0.5], np.float32))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.s, self.age = self.np_random.uniform(-1, 1, 2).astype(np.float32), 0
        return self.s.copy(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        assert self.action_space.contains(action), action
        self.s, self.age = self.s + action * np.float32(0.5), self.age + 1
        return self.s.copy(), -float(np.abs(self.s).sum()), bool((np.abs(self.s) > 2).any()), self.age == 7, {}


def small(method: str, **changes: Any) -> Any:
    page = logpi.METHODS[method]
    names = {f.name for f in dataclasses.fields(page)}
    return page(**{k: v for k, v in (SMALL | changes).items() if k in names})


def parts_of(method: str, world: str = "CartPole-v1", page: dict[str, Any] | None = None, **settings: Any) -> Parts:
    own = {} if world == "CartPole-v1" else {"head": world, "env": "custom"}
    return assemble(
        small(method, **page or {}), Settings(**SETTINGS | own | settings), None if world == "CartPole-v1" else Reach
    )


def run(parts: Parts, iterations: int) -> list[dict[str, float]]:
    """The metrics of some iterations, all finite but what no episode has decided yet."""
    rows = [record.metrics for _, record in zip(range(iterations), loop(parts), strict=False)]
    assert len(rows) == iterations
    for row in rows:
        unknown = {"return", "length"} if row["episodes"] == 0 else set()
        assert all(math.isfinite(v) for k, v in row.items() if k not in unknown), row
    return rows


def tensors(parts: Parts) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    checkpoint.pack(checkpoint.trainer_state(parts), found)
    return {k: v.clone() for k, v in (found | parts.policy.state_dict()).items()}


def same(x: dict[str, torch.Tensor], y: dict[str, torch.Tensor]) -> bool:
    return x.keys() == y.keys() and all(torch.equal(x[k].nan_to_num(0.5), y[k].nan_to_num(0.5)) for k in x)


def check_continues(make: Any, folder: Path) -> None:
    """Saved after two iterations and restored into fresh parts, the next three are those of the uninterrupted run."""
    whole, first = make(), make()
    rows = run(whole, 5)
    run(first, 2)
    saved = checkpoint.save(first, folder)
    resumed = make()
    checkpoint.restore(resumed, saved)
    assert same(tensors(resumed), tensors(first))
    assert str(run(resumed, 3)) == str(rows[2:]) and same(tensors(resumed), tensors(whole))
    assert resumed.state == whole.state


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("method", logpi.METHODS)
def test_three_iterations_are_finite_and_change_the_policy(method: str, world: str) -> None:
    parts = parts_of(method, world)
    before = {k: v.clone() for k, v in parts.policy.named_parameters()}
    run(parts, 3)
    now = dict(parts.policy.named_parameters())
    assert all(bool(v.isfinite().all()) for v in now.values())
    assert any(not torch.equal(v, before[k]) for k, v in now.items())


@pytest.mark.parametrize("method", logpi.METHODS)
def test_a_restored_run_goes_on_bit_for_bit(method: str, tmp_path: Path) -> None:
    check_continues(lambda: parts_of(method), tmp_path)


VARIANTS: list[tuple[str, dict, dict]] = [
    ("ppo", {}, {"shared": True}),
    ("trpo", {}, {"shared": True, "dtype": "float64"}),
    ("npg", {"fisher": "kl"}, {"normalise_reward": False}),
    ("a2c", {}, {"optimizer": "SGD"}),
    ("ppo", {}, {"optimizer": "RMSprop", "micro": 5}),
    ("actor_critic", {"credit": "q"}, {}),
    ("actor_critic", {"credit": "advantage", "expected": False}, {"shared": True}),
    ("baseline", {"baseline": "previous_mean", "decay": 0.5}, {"optimizer": "SGD"}),
    ("grpo", {"kl": 0.1, "kl_live": True}, {}),
    ("rloo", {"kl": 0.1}, {"dtype": "float64"}),
    ("mdpo", {"kl": "estimate", "clip": 0.2}, {"optimizer": "AdamW"}),
]


@pytest.mark.parametrize(
    ("method", "page", "settings"), VARIANTS, ids=lambda x: x if isinstance(x, str) else "-".join(map(str, x.values()))
)
def test_so_does_every_state_a_page_or_an_optimiser_keeps(
    method: str, page: dict, settings: dict, tmp_path: Path
) -> None:
    check_continues(lambda: parts_of(method, page=page, **settings), tmp_path)


@pytest.mark.parametrize("method", logpi.METHODS)
@pytest.mark.parametrize(
    "settings", [{"shared": True}, {"optimizer": "SGD"}, {"optimizer": "RMSprop"}, {"dtype": "float64"}], ids=str
)
def test_every_method_takes_a_shared_trunk_any_optimiser_and_float64(method: str, settings: dict) -> None:
    parts = parts_of(method, "gaussian", **settings)
    before = [p.clone() for p in parts.policy.parameters()]
    batch = next(iter(loop(parts))).batch
    run(parts, 1)
    assert any(not torch.equal(p, q) for p, q in zip(before, parts.policy.parameters(), strict=True))
    real = torch.float64 if "dtype" in settings else torch.float32
    assert {p.dtype for p in parts.policy.parameters()} == {batch.log_pi.dtype} == {batch.psi.dtype} == {real}
    shares = not isinstance(parts.policy.trunk, torch.nn.Identity)
    assert shares == settings.get("shared", False)
    if "optimizer" in settings and hasattr(parts.method, "lr"):
        assert type(parts.optimizer).__name__ == settings["optimizer"]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("method", logpi.METHODS)
def test_a_loaded_policy_acts_as_the_live_one(method: str, world: str, tmp_path: Path) -> None:
    parts = parts_of(method, world, shared=method in ("ppo", "trpo"))
    run(parts, 2)
    loaded = logpi.load(checkpoint.save(parts, tmp_path))
    obs = np.random.default_rng(0).normal(0, 2, (50, 4 if world == "CartPole-v1" else 2)).astype(np.float32)
    stacked = loaded.act(obs, deterministic=True)
    assert isinstance(stacked, np.ndarray) and np.array_equal(stacked, parts.policy.act(obs, deterministic=True))
    assert stacked.shape == ((50,) if world == "CartPole-v1" else (50, 2))
    space = parts.collect.envs.action_space
    for row in range(3):
        one = loaded.act(obs[row], deterministic=True)
        assert isinstance(one, np.ndarray) and one.shape == space.shape and space.contains(one.astype(space.dtype))
        np.testing.assert_allclose(one, stacked[row], rtol=0, atol=1e-5)
    assert torch.equal(loaded.act(torch.as_tensor(obs)), torch.as_tensor(stacked)), "tensors in, tensors out"
    draws = [
        m.act(obs, deterministic=False, generator=torch.Generator().manual_seed(5)) for m in (loaded, parts.policy)
    ]
    assert np.array_equal(*draws) and not np.array_equal(draws[0], stacked)
    raw = np.abs(loaded.normalise(torch.as_tensor(obs)).numpy() - obs).max()
    assert raw > 0.1, "the normaliser must have been loaded, too"
    assert not any(p.requires_grad for p in loaded.parameters())


@pytest.mark.parametrize("method", logpi.METHODS)
def test_equal_seeds_give_equal_runs_and_others_do_not(method: str) -> None:
    one, two, other = (parts_of(method, "beta", seed=s) for s in (1, 1, 2))
    torch.manual_seed(0)
    rows = run(one, 2)
    torch.manual_seed(9)
    assert str(run(two, 2)) == str(rows) and str(run(other, 2)) != str(rows)


@pytest.mark.parametrize("method", ["ppo", "reinforce", "grpo"])
def test_a_run_reaches_its_horizon_and_stops(method: str) -> None:
    records = list(loop(parts_of(method, steps=300)))
    assert records[-1].steps >= 300 > records[-2].steps
    assert [r.iteration for r in records] == list(range(1, len(records) + 1))
    assert all(r.steps - q.steps == int(r.batch.mask.sum()) for q, r in pairwise(records))
