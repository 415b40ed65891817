"""A fused run repeats to the bit, goes on from a checkpoint to the bit, and its checkpoints are the plain path's, too."""

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("numba")

from twins import check_alike, counted, parts, pendulum, run, weights

import logpi
from logpi.loop import Parts
from logpi.run import checkpoint, config

CASES: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "ppo": ("ppo", "CartPole-v1", {"normalise_obs": True}),
    "shared": ("a2c", "CartPole-v1", {"shared": True}),
    "box": ("ppo_kl", pendulum, {"head": "squashed"}),
    "beta": ("mdpo", pendulum, {"head": "beta", "epochs": 2}),
    "episodes": ("reinforce", "CartPole-v1", {}),
    "own fit": ("baseline", "CartPole-v1", {}),
    "groups": ("grpo", "CartPole-v1", {"epochs": 2}),
    "natural": ("trpo", "CartPole-v1", {}),
}
NAMED = [name for name, (_, env, _) in CASES.items() if isinstance(env, str)]


def made(name: str, fast: str = "auto", **more: Any) -> Parts:
    method, env, given = CASES[name]
    return parts(method, env, fast, **given | {"steps": 3000} | more)


def everything(x: Parts) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    checkpoint.pack(checkpoint.trainer_state(x), found)
    return {k: v.clone() for k, v in (found | x.policy.state_dict()).items()}


def check_same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, x in one.items():
        assert torch.equal(x.nan_to_num(0.5), other[name].nan_to_num(0.5)), name


@pytest.mark.parametrize("name", CASES)
def test_two_fused_runs_are_the_same_to_the_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch)
    one, other = made(name), made(name)
    for _ in range(3):
        first, second = run(one, 1)[0], run(other, 1)[0]
        assert str(first.metrics) == str(second.metrics)
    assert (name == "natural" or all(calls)) and calls
    check_same(everything(one), everything(other))


@pytest.mark.parametrize("name", CASES)
def test_a_restored_run_goes_on_to_the_bit(name: str, tmp_path: Path) -> None:
    straight, first = made(name), made(name)
    rows = [str(r.metrics) for r in run(straight, 4)]
    run(first, 2)
    folder, again = checkpoint.save(first, tmp_path), made(name)
    checkpoint.restore(again, folder)
    assert [str(r.metrics) for r in run(again, 2)] == rows[2:]
    check_same(everything(again), everything(straight))


@pytest.mark.parametrize("name", NAMED)
def test_resume_is_the_uninterrupted_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method, env, given = CASES[name]
    asked = {"steps": 500, "envs": 3, "length": 32, "episodes": 3, "starts": 2, "group": 2, "seed": 4} | given
    fields = {*logpi.METHODS[method].__dataclass_fields__, "steps", "seed", "normalise_obs", "shared"}
    asked = {k: v for k, v in asked.items() if k in fields}
    straight = [str(r.metrics) for r in logpi.learn(method, env, **asked)]
    for record in logpi.learn(method, env, **asked):
        if record.iteration == 2:
            folder = record.save(tmp_path)
            break
    calls = counted(monkeypatch)
    assert [str(r.metrics) for r in logpi.resume(folder)] == straight[2:] and len(straight) > 2
    assert name == "natural" or (calls and all(calls))


@pytest.mark.parametrize("ways", [("auto", "off"), ("off", "auto")], ids=["fused, then plain", "plain, then fused"])
@pytest.mark.parametrize("name", CASES)
def test_either_path_goes_on_from_the_others_checkpoint(name: str, ways: tuple[str, str], tmp_path: Path) -> None:
    given = {"lr": 3e-3, "epochs": 3, "anneal": False}
    first, straight = made(name, ways[0], **given), made(name, ways[1], **given)
    run(first, 3)
    folder, other = checkpoint.save(first, tmp_path), made(name, ways[1], **given)
    other.config["run"]["fast"] = first.config["run"]["fast"]
    checkpoint.restore(other, folder)
    rows = run(straight, 5)
    check_alike(other, straight, run(other, 2), rows[3:], 2e-4 if name == "natural" else 3e-5)


def test_a_run_may_change_paths_midway() -> None:
    """As one does whose objective stops being covered."""
    mixed, plain = parts("ppo", lr=3e-3), parts("ppo", fast="off", lr=3e-3)
    first, rows = run(mixed, 2), run(plain, 5)
    mixed.fused, mixed.collect.fused = None, None
    first += run(mixed, 3)
    check_alike(mixed, plain, first, rows)


def test_a_checkpoint_may_go_on_with_the_twins_off(tmp_path: Path) -> None:
    folder = checkpoint.save(parts("ppo"), tmp_path)
    checkpoint.restore(parts("ppo", fast="off"), folder)


def test_a_checkpoint_from_before_there_were_twins_goes_on(tmp_path: Path) -> None:
    own = parts("ppo").config
    saved = tomllib.loads(config.dump(own))
    config.must_agree(own, saved, tmp_path)
    del saved["run"]["fast"]
    config.must_agree(own, saved, tmp_path)


def test_the_twins_keep_nothing_that_a_checkpoint_lacks() -> None:
    """Weights set from outside are those that the next iteration uses."""
    one, other = parts("ppo"), parts("ppo")
    run(one, 2)
    for target, source in zip(weights(other), weights(one), strict=True):
        target.copy_(source)
    other.optimizer.load_state_dict(copy.deepcopy(one.optimizer.state_dict()))
    for x in (one, other):
        x.collect.generator.manual_seed(5), x.generator.manual_seed(6), x.collect.envs.generator.manual_seed(7)
        x.collect.obs, x.collect.envs.age = x.collect.envs.reset(), x.collect.envs.age * 0
        x.collect.discounted.zero_(), x.collect.steps_before.zero_(), x.collect.return_before.zero_()
        x.policy.return_normaliser.load_state_dict(one.policy.return_normaliser.state_dict())
        x.state.update(progress=0.0)
    run(one, 1), run(other, 1)
    assert all(torch.equal(p, q) for p, q in zip(weights(one), weights(other), strict=True))
