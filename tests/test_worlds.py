"""Every method with every head, and with a memory: it learns a probe task, saves, and goes on bit for bit."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from probe import maker
from test_contracts import check_continues

import logpi
from logpi.loop import Parts, loop
from logpi.run import checkpoint
from logpi.run.setup import Settings, assemble

SIZES = {"envs": 16, "length": 16, "episodes": 32, "starts": 8, "group": 8, "n": 4}
PACE = {"lr": 0.02, "critic_lr": 0.02, "delta": 0.05, "anneal": False, "gamma": 0.9, "minibatches": 2, "entropy": 0.0}
# name: (kind of action, settings, how right chance is, how right it must become)
WORLDS: dict[str, tuple[str, dict[str, Any], float, float]] = {
    "discrete": ("discrete", {}, 0.33, 0.85),
    "gaussian": ("box", {}, 0.4, 0.6),
    "gaussian of the state": ("box", {"log_std": "state"}, 0.4, 0.6),
    "squashed": ("box", {"head": "squashed"}, 0.4, 0.6),
    "squashed of the state": ("box", {"head": "squashed", "log_std": "state"}, 0.4, 0.6),
    "beta": ("box", {"head": "beta"}, 0.4, 0.6),
    "multi discrete": ("multi discrete", {}, 0.42, 0.8),
    "multi binary": ("multi binary", {}, 0.5, 0.8),
    "hybrid": ("hybrid", {}, 0.45, 0.68),
}
METHODS = [*logpi.METHODS]


def page(method: str, **changes: Any) -> Any:
    kind = logpi.METHODS[method]
    known = {f.name for f in dataclasses.fields(kind)}
    return kind(**{k: v for k, v in (SIZES | PACE | changes).items() if k in known})


def parts_of(method: str, kind: str, env: dict[str, Any] | None = None, **settings: Any) -> Parts:
    given = {"env": "custom", "hidden": (16,), "normalise_reward": False, "steps": 10**6, "seed": 1} | settings
    return assemble(page(method), Settings(**given), maker(kind, **env or {}))


def learnt(parts: Parts, enough: float, most: int) -> float:
    """The mean reward of four iterations once it is `enough`, or of the last of `most`."""
    found = []
    for _, record in zip(range(most), loop(parts), strict=False):
        b = record.batch
        found.append(float(b.reward[b.mask].mean()))
        if np.mean(found[-4:]) >= enough and len(found) >= 4:
            break
    return float(np.mean(found[-4:]))


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("method", METHODS)
def test_it_learns_the_probe(method: str, world: str) -> None:
    kind, settings, chance, enough = WORLDS[world]
    parts = parts_of(method, kind, **settings)
    assert abs(learnt(parts, 2.0, 1) - chance) < 0.12
    assert learnt(parts, enough, 150) >= enough


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("method", METHODS)
def test_it_goes_on_bit_for_bit(method: str, world: str, tmp_path: Path) -> None:
    kind, settings, *_ = WORLDS[world]
    check_continues(lambda: parts_of(method, kind, normalise_obs=True, **settings), tmp_path)


RECALL = [*itertools.product(METHODS, ["gru", "lstm"])]


@pytest.mark.parametrize(("method", "memory"), RECALL)
def test_a_memory_learns_what_no_glance_can_tell(method: str, memory: str) -> None:
    """0.5 is what can be had without one: the sign is shown in the first of four steps, and any answer to that is right."""
    parts = parts_of(method, "discrete", {"recall": True}, memory=memory)
    assert learnt(parts, 0.85, 250) >= 0.85


@pytest.mark.parametrize("method", ["ppo", "trpo", "reinforce"])
def test_without_a_memory_it_cannot_be_learnt(method: str) -> None:
    parts = parts_of(method, "discrete", {"recall": True})
    assert learnt(parts, 0.75, 120) < 0.75


@pytest.mark.parametrize(("method", "memory"), RECALL)
def test_a_memory_goes_on_bit_for_bit_and_its_first_ratio_is_one(method: str, memory: str, tmp_path: Path) -> None:
    """Segments of five steps of episodes of four: every checkpoint lies within an episode."""

    def make() -> Parts:
        parts = parts_of(method, "discrete", {"recall": True, "length": 7}, memory=memory)
        if hasattr(parts.method, "length"):
            parts.collect.length = 5
        return parts

    check_continues(make, tmp_path)
    parts = make()
    for _, record in zip(range(4), loop(parts), strict=False):
        assert record.metrics.get("first_ratio_error", 0.0) <= 1e-5
        kept = record.batch.memory
        assert kept is not None and kept.shape[-1] == parts.policy.memory.size
    whole = parts.method.rows != "segments"
    assert bool(kept.any()) != whole, "whole episodes begin with nothing, segments in the middle of something"


@pytest.mark.parametrize("method", ["ppo", "trpo", "a2c", "reinforce", "grpo"])
@pytest.mark.parametrize("kind", ["box", "hybrid"])
def test_a_memory_goes_with_other_heads(method: str, kind: str) -> None:
    parts = parts_of(method, kind, {"recall": True}, memory="gru")
    assert learnt(parts, 0.66, 250) >= 0.66


@pytest.mark.parametrize("memory", ["none", "gru"])
@pytest.mark.parametrize("method", METHODS)
def test_what_is_ruled_out_is_never_done_and_the_rest_is_learnt(method: str, memory: str) -> None:
    """With a memory too; the environment fails on an action that was ruled out."""
    parts = parts_of(method, "discrete", {"masked": True, "recall": memory == "gru"}, memory=memory)
    assert learnt(parts, 0.9, 250) >= 0.9


@pytest.mark.parametrize("world", ["hybrid", "multi binary", "squashed of the state"])
def test_a_loaded_policy_acts_as_the_live_one_in_the_environments_own_form(world: str, tmp_path: Path) -> None:
    kind, settings, *_ = WORLDS[world]
    parts = parts_of("ppo", kind, normalise_obs=True, **settings)
    for _ in zip(range(3), loop(parts), strict=False):
        pass
    loaded = logpi.load(checkpoint.save(parts, tmp_path))
    env = maker(kind)()
    obs, _ = env.reset(seed=3)
    for _ in range(8):
        action = loaded.act(obs)
        assert str(action) == str(parts.policy.act(obs)) and env.action_space.contains(action)
        obs, _, terminated, _, _ = env.step(action)
        obs = env.reset()[0] if terminated else obs


def test_a_loaded_policy_with_a_memory_and_a_mask_acts_as_the_live_one(tmp_path: Path) -> None:
    parts = parts_of("ppo", "discrete", {"recall": True, "masked": True}, memory="lstm")
    for _ in zip(range(30), loop(parts), strict=False):
        pass
    loaded = logpi.load(checkpoint.save(parts, tmp_path))
    env, said = maker("discrete", recall=True, masked=True)(), []
    for policy in (loaded, parts.policy):
        total, actions = 0.0, []
        for episode in range(20):
            obs, _ = env.reset(seed=episode)
            policy.forget()
            over = False
            while not over:
                actions.append(int(policy.act(obs)))
                obs, reward, over, _, _ = env.step(actions[-1])
                total += reward
        said.append((actions, total))
    assert said[0] == said[1] and said[0][1] > 20 * 4 * 0.7
    assert isinstance(loaded.act(obs), np.ndarray) and isinstance(loaded.kept, torch.Tensor)
