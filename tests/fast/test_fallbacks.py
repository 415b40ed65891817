"""What the twins do not cover trains as it does without them, and one reason is told, once."""

import re
from typing import Any

import gymnasium as gym
import pytest
import torch
from torch import nn

pytest.importorskip("numba")

from pages import Centred, TwoFaced
from twins import check_both_ways, counted, parts, pendulum, run

from logpi.loop import Parts
from logpi.methods import PPO
from logpi.page import page


@page
class InPlace(PPO):
    """What it does in place shows only once the ratio has left the range: not in the first minibatch."""

    def objective(self, now: Any, b: Any, state: Any) -> Any:
        gap = now.log_pi - b.log_pi
        gap.clamp_(-0.01, 0.01)
        return gap.exp() * b.psi


@page
class WithoutGradient(PPO):
    """The weight has no gradient, which shows only once the ratio has moved."""

    def objective(self, now: Any, b: Any, state: Any) -> Any:
        with torch.no_grad():
            weight = (now.log_pi - b.log_pi).abs().clamp(max=0.1) * 30
        return (now.log_pi - b.log_pi).exp() * b.psi - weight * (now.log_pi - b.log_pi)


@page
class Asserting(PPO):
    def objective(self, now: Any, b: Any, state: Any) -> Any:
        assert isinstance(now.log_pi, torch.Tensor)
        return super().objective(now, b, state)


@page
class Reading(PPO):
    """Reads its state all at once."""

    def adapt(self, state: Any, info: Any) -> Any:
        return state | {"bonus": 0.3 * (state["iteration"] % 2)}

    def objective(self, now: Any, b: Any, state: Any) -> Any:
        own = {"bonus": 0.1, **state}
        return now.log_pi * b.psi + own["bonus"] * now.entropy


def normed(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 12), nn.LayerNorm(12), nn.Tanh(), nn.Linear(12, outputs))


class Residual(nn.Sequential):
    """A stack in all but what it does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, *rest = self
        y = first(x)
        for layer in rest[:-1]:
            y = y + layer(y)
        return rest[-1](y)


def residual(inputs: int, outputs: int) -> nn.Module:
    return Residual(nn.Linear(inputs, 12), nn.Tanh(), nn.Linear(12, outputs))


def frozen(inputs: int, outputs: int) -> nn.Module:
    made = nn.Sequential(nn.Linear(inputs, 12), nn.Tanh(), nn.Linear(12, outputs))
    made[0].requires_grad_(False)
    return made


def tied(inputs: int, outputs: int) -> nn.Module:
    twice = nn.Linear(12, 12)
    return nn.Sequential(nn.Linear(inputs, 12), nn.Tanh(), twice, nn.Tanh(), twice, nn.Tanh(), nn.Linear(12, outputs))


def unbiased(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 12, bias=False), nn.Tanh(), nn.Linear(12, outputs))


def wide(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 520), nn.GELU(), nn.Linear(520, outputs))


def both(method: Any, env: Any = "CartPole-v1", iterations: int = 3, within: float = 2e-5, **given: Any) -> Parts:
    return check_both_ways(method, env, iterations, within, **given)[0]


OBJECTIVES = {
    Centred: "mean",
    TwoFaced: "more than its trace|gradient differs|its surrogate is",
    InPlace: "place",
    WithoutGradient: "",
    Asserting: "",
    Reading: "",
}


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_users_page_trains_as_on_the_plain_path(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch)
    fused = both(kind, iterations=4, epochs=3, minibatches=2, lr=3e-3)
    if OBJECTIVES[kind]:
        assert len(fused.fused.reasons) == 1 and re.search(OBJECTIVES[kind], fused.fused.reasons[0]), (
            fused.fused.reasons
        )
        assert not any(calls)


NAMED = {normed: "LayerNorm", unbiased: "bias=False", wide: "520"}


@pytest.mark.parametrize("method", ["ppo", "reinforce", "trpo"])
@pytest.mark.parametrize("network", [normed, residual, frozen, unbiased, wide, tied], ids=lambda f: f.__name__)
def test_a_users_network_trains_as_on_the_plain_path(network: Any, method: str) -> None:
    if method == "trpo" and network in (frozen, tied):
        method = "a2c"  # the plain natural step takes no such network
    fused = both(method, network=network, within=2e-4 if method == "trpo" else 2e-5)
    assert len(fused.fused.reasons) <= 1, fused.fused.reasons
    if network in NAMED:
        assert NAMED[network] in fused.fused.reasons[0]


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW", "RMSprop"])
def test_another_optimiser_steps_itself(optimizer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch)
    fused = both("ppo", optimizer=optimizer)
    assert fused.fused.reasons == [f"its optimiser is {optimizer}"] and calls and not any(calls)


def test_double_precision_has_no_twins() -> None:
    assert both("ppo", dtype="float64", within=0).fused is None


@pytest.mark.parametrize("credit", ["q", "advantage"])
@pytest.mark.parametrize("env", ["CartPole-v1", pendulum], ids=["discrete", "box"])
def test_a_q_critic_is_the_plain_paths(credit: str, env: Any) -> None:
    fused = both("actor_critic", env, credit=credit)
    assert len(fused.fused.reasons) == 1 and "Q" in fused.fused.reasons[0]


def calls_of_a_hook(fast: str, register: Any) -> list[int]:
    made, seen = parts("ppo", pendulum, fast, epochs=2, minibatches=2), []
    register(made, lambda *_: seen.append(1))
    counts = []
    for _ in range(2):
        run(made, 1)
        counts.append(len(seen))
    return counts


HOOKS = {
    "of a parameter": lambda made, f: made.policy.network[0].weight.register_hook(f),
    "after a gradient": lambda made, f: made.policy.network[0].weight.register_post_accumulate_grad_hook(f),
    "of the critic": lambda made, f: next(made.critic.parameters()).register_hook(f),
}


@pytest.mark.parametrize("where", HOOKS)
def test_a_hook_is_called_as_often_as_on_the_plain_path(where: str) -> None:
    plain, fast = (calls_of_a_hook(x, HOOKS[where]) for x in ("off", "auto"))
    assert fast == plain and plain[0] > 0


def test_layers_frozen_after_the_first_iteration_stay_as_they_are() -> None:
    made = parts("ppo")
    run(made, 1)
    made.policy.network[0].requires_grad_(False)
    before = [p.detach().clone() for p in made.policy.network[0].parameters()]
    run(made, 2)
    assert all(torch.equal(p, q) for p, q in zip(made.policy.network[0].parameters(), before, strict=True))


def test_steps_counted_in_double_precision_are_left_to_torch() -> None:
    made = parts("ppo")
    for p in made.optimizer.param_groups[0]["params"]:
        zero = torch.zeros_like(p)
        step = torch.zeros((), dtype=torch.float64)
        made.optimizer.state[p] = {"step": step, "exp_avg": zero, "exp_avg_sq": zero.clone()}
    run(made, 1)
    assert made.fused.reasons == ["its optimiser counts steps in another type than float32"]


def test_parameters_that_the_optimiser_does_not_move_stay() -> None:
    made = parts("ppo")
    made.optimizer.param_groups[0]["params"] = made.optimizer.param_groups[0]["params"][:-2]
    last = [p.detach().clone() for p in list(made.critic.parameters())[-2:]]
    run(made, 2)
    assert all(torch.equal(p, q) for p, q in zip(list(made.critic.parameters())[-2:], last, strict=True))
    assert made.fused.reasons == ["its optimiser moves other parameters"]


class Counts(gym.Wrapper):
    """Not the native CartPole."""


def test_an_environment_that_is_not_native_is_stepped_by_the_plain_loop() -> None:
    fused = both("ppo", lambda: Counts(gym.make("CartPole-v1")))
    assert fused.fused.reasons == []
