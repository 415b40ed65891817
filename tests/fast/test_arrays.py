"""The twins in NumPy train as the plain path does, to float tolerance, and leave to it what they do not cover."""

import copy
import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from pages import Centred, TwoFaced
from torch import Tensor, nn

import logpi
from logpi.fast.arrays import Arrays, Ascent
from logpi.finite import NotFinite
from logpi.loop import Parts, Record, loop
from logpi.methods import PPO
from logpi.policy.networks import orthogonal
from logpi.run import checkpoint, setup
from logpi.run.setup import Settings, assemble, find_method

SMALL = {"envs": 4, "length": 16, "episodes": 3, "starts": 2, "group": 3, "critic_epochs": 3, "n": 4}
PAGES: dict[str, dict[str, Any]] = {
    "ppo": {},
    "a2c": {},
    "reinforce": {},
    "baseline": {},
    "mdpo": {},
    "ppo_kl": {},
    "grpo": {},
}


def pendulum() -> gym.Env:
    """Cut after 20 steps."""
    return gym.make("Pendulum-v1", max_episode_steps=20)


@pytest.fixture(autouse=True)
def _arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "twins", lambda p, c, joint, s: None if s.fast == "off" else Arrays(p, c, joint))


def parts(method: Any, env: Any = "CartPole-v1", fast: str = "auto", **given: Any) -> Parts:
    """A small run; fields of the page and settings by name."""
    fields = {f.name for f in dataclasses.fields(logpi.METHODS[method] if isinstance(method, str) else method)}
    page = {k: v for k, v in (SMALL | given).items() if k in fields}
    settings = {k: v for k, v in given.items() if k not in fields and k != "network"}
    own = env if callable(env) else None
    settings = {"steps": 100_000, "seed": 3, "fast": fast, "env": "custom" if own else env} | settings
    return assemble(find_method(method, page), Settings(**settings), own, given.get("network"))


def run(made: Parts, iterations: int = 2) -> list[Record]:
    return [record for _, record in zip(range(iterations), loop(made), strict=False)]


def weights(made: Parts) -> list[Tensor]:
    """Everything that training moves."""
    modules = [made.policy, *([made.critic] if made.critic is not None else [])]
    return [p.detach() for m in modules for p in m.parameters()]


def both(method: Any, env: Any = "CartPole-v1", iterations: int = 2, within: float = 2e-5, **given: Any) -> Parts:
    """A run in arrays and the plain one are alike in metrics, parameters and generators; the former."""
    one, other = parts(method, env, "auto", **given), parts(method, env, "off", **given)
    for x, y in zip(run(one, iterations), run(other, iterations), strict=True):
        assert x.metrics.keys() == y.metrics.keys()
        for name, number in x.metrics.items():
            same = math.isnan(number) and math.isnan(y[name])
            assert same or abs(number - y[name]) <= 1e-3 * (1e-2 + abs(number)), (name, number, y[name])
        for name in ("obs", "params", "log_pi", "value_next", "psi"):
            if getattr(x.batch, name) is not None:
                assert torch.allclose(getattr(x.batch, name), getattr(y.batch, name), 1e-3, 1e-4), name
    off = max(float((p - q).abs().max()) for p, q in zip(weights(one), weights(other), strict=True))
    assert off <= within, off
    for a, b in ((one.generator, other.generator), (one.collect.generator, other.collect.generator)):
        assert torch.equal(a.get_state(), b.get_state())
    if env == "CartPole-v1":
        assert torch.equal(one.collect.envs.generator.get_state(), other.collect.envs.generator.get_state())
        assert torch.equal(one.collect.envs.age, other.collect.envs.age)
    return one


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[bool]]:
    """For each method, one entry a call: did it do it?"""
    seen: dict[str, list[bool]] = {}

    def counting(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            found = plain(*args, **kwargs)
            seen[name].append(found is not None)
            return found

        return counted

    for name in ("roll", "value", "ascend", "measure"):
        seen[name] = []
        monkeypatch.setattr(Arrays, name, counting(name, getattr(Arrays, name)))
    return seen


@pytest.mark.parametrize("env", ["CartPole-v1", pendulum], ids=["cartpole", "pendulum"])
@pytest.mark.parametrize("method", PAGES)
def test_a_run_is_the_plain_one(method: str, env: Any, calls: dict[str, list[bool]]) -> None:
    made = both(method, env)
    assert made.fused.reasons == [] and calls["ascend"] and all(calls["ascend"]) and all(calls["measure"])
    assert all(calls["roll"]) == (env == "CartPole-v1") and all(calls["value"])


GIVEN: dict[str, dict[str, Any]] = {
    "several blocks": {"length": 300, "minibatches": 2},
    "unequal parts": {"minibatches": 5},
    "more parts than rows": {"envs": 1, "length": 5, "minibatches": 9},
    "a shared trunk": {"shared": True},
    "both normalisers": {"normalise_obs": True, "iterations": 4},
    "no clipped gradient": {"max_grad_norm": 1e9},
    "a clipped gradient": {"max_grad_norm": 0.01},
    "clipped values": {"value_clip": 0.1, "lr": 0.01, "within": 1e-4},
    "passes that stop": {"target_kl": 1e-4, "lr": 3e-3, "epochs": 9},
    "one layer": {"hidden": (7,)},
    "no layer": {"hidden": ()},
    "many environments": {"envs": 150, "length": 4},
    "micro-batches": {"micro": 16},
}


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("env", ["CartPole-v1", pendulum], ids=["cartpole", "pendulum"])
def test_a_setting(given: str, env: Any, calls: dict[str, list[bool]]) -> None:
    assert both("ppo", env, **GIVEN[given]).fused.reasons == [] and all(calls["ascend"])


def relu(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, 12), nn.ReLU(), orthogonal(nn.Linear(12, 9), 1.0), nn.Tanh(), nn.Linear(9, outputs)
    )


def normed(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 12), nn.LayerNorm(12), nn.Tanh(), nn.Linear(12, outputs))


def tied(inputs: int, outputs: int) -> nn.Module:
    twice = nn.Linear(12, 12)
    return nn.Sequential(nn.Linear(inputs, 12), nn.Tanh(), twice, nn.Tanh(), twice, nn.Tanh(), nn.Linear(12, outputs))


class Residual(nn.Sequential):
    """A stack in all but what it does."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1.0


def residual(inputs: int, outputs: int) -> nn.Module:
    return Residual(nn.Linear(inputs, 12), nn.Tanh(), nn.Linear(12, outputs))


def test_a_network_of_relus(calls: dict[str, list[bool]]) -> None:
    assert both("ppo", network=relu).fused.reasons == [] and all(calls["ascend"])


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a mean": (Centred, {}, "mean"),
    "two faces": (TwoFaced, {}, "its surrogate is"),
    "a layer": ("ppo", {"network": normed}, "LayerNorm"),
    "a tie": ("ppo", {"network": tied}, "tied"),
    "a Q critic": ("actor_critic", {"credit": "q"}, "Q"),
    "an optimiser": ("ppo", {"optimizer": "RMSprop"}, "its optimiser is RMSprop"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_covered_trains_on_the_plain_path_and_is_told_once(what: str, calls: dict[str, list[bool]]) -> None:
    method, given, reason = REFUSED[what]
    told = both(method, iterations=3, **given).fused.reasons
    assert len(told) == 1 and reason in told[0] and not any(calls["ascend"]), told


@pytest.mark.parametrize("head", ["squashed", "beta"])
def test_another_head_is_the_plain_paths(head: str) -> None:
    told = both("ppo", pendulum, head=head).fused.reasons
    assert len(told) == 1 and "head" in told[0]


def test_a_network_that_only_looks_like_a_stack() -> None:
    told = both("ppo", network=residual).fused.reasons
    assert len(told) == 1, told


def test_a_planted_error_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = Ascent.minibatches
    monkeypatch.setattr(Ascent, "agrees", lambda self, count: True)
    monkeypatch.setattr(Ascent, "minibatches", lambda self, *n: [(i, 1.05 * w) for i, w in inner(self, *n)])
    with pytest.raises(AssertionError):
        both("ppo", max_grad_norm=1e9)


def state_of(made: Parts) -> dict[int, dict[str, Tensor]]:
    return copy.deepcopy(made.optimizer.state_dict()["state"])


def test_the_optimisers_state_is_torchs() -> None:
    one, other = parts("ppo", minibatches=3), parts("ppo", fast="off", minibatches=3)
    run(one), run(other)
    first, second = state_of(one), state_of(other)
    assert first.keys() == second.keys()
    for i, kept in first.items():
        assert kept.keys() == second[i].keys()
        assert all(
            x.dtype == second[i][k].dtype and torch.allclose(x, second[i][k], 1e-3, 1e-6) for k, x in kept.items()
        )


@pytest.mark.parametrize("env", ["CartPole-v1"])
def test_a_run_goes_on_from_a_checkpoint_bit_for_bit(env: Any, tmp_path: Path) -> None:
    made = parts("ppo", env)
    run(made)
    folder = checkpoint.save(made, tmp_path)
    run(made)
    again = parts("ppo", env)
    checkpoint.restore(again, folder)
    run(again)
    assert all(torch.equal(p, q) for p, q in zip(weights(made), weights(again), strict=True))


@pytest.mark.parametrize("method", ["ppo", "a2c"])
@pytest.mark.parametrize("env", ["CartPole-v1", pendulum], ids=["cartpole", "pendulum"])
def test_a_learning_rate_that_is_too_large_is_told_at_the_same_place(method: str, env: Any) -> None:
    said = []
    for fast in ("auto", "off"):
        made = parts(method, env, fast, lr=1e37, anneal=False)
        with pytest.raises(NotFinite) as found:
            run(made, 4)
        said.append((str(found.value), made.state["iteration"]))
    assert said[0] == said[1]


def test_a_step_on_nan_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    made = parts("ppo", epochs=2, minibatches=2)
    run(made, 1)
    before, kept, inner = [p.clone() for p in weights(made)], state_of(made), PPO.psi
    monkeypatch.setattr(PPO, "psi", lambda self, b, state: tuple(1e30 * x for x in inner(self, b, state)))
    with pytest.raises(NotFinite) as found:
        run(made, 1)
    assert found.value.iteration == 2 and found.value.minibatch == 1
    assert all(torch.equal(p, q) for p, q in zip(weights(made), before, strict=True))
    assert all(torch.equal(x, kept[i][k]) for i, slot in state_of(made).items() for k, x in slot.items())
