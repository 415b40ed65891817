"""A NaN or an infinity is told in the same words as on the plain path, and before a step is taken on it."""

import copy
from typing import Any

import pytest
import torch
from injections import INF, NAN, PLACES, SEPARATE
from injections import run as world

pytest.importorskip("numba")

from twins import counted, parts, pendulum, run, weights

from logpi.finite import NotFinite
from logpi.loop import loop

METHODS = ("ppo", "a2c", "reinforce", "baseline", "trpo", "grpo")
HERE = [
    pytest.param(place, method, bad, id=f"{place}-{method}-{bad}")
    for place, what in PLACES.items()
    for method in METHODS
    for bad in what.bad
    if method in what.names and "discrete" in what.heads
]


def told(place: str, method: str, bad: float, fast: str) -> tuple[str, list[torch.Tensor], list[torch.Tensor]]:
    """(what is said, the weights before, the weights after)."""
    made = world(method, fast=fast)
    records = loop(made)
    next(records)
    before = [p.clone() for p in weights(made)]
    PLACES[place].inject(made, bad)
    with pytest.raises(NotFinite) as found:
        next(records)
    return str(found.value), before, weights(made)


@pytest.mark.parametrize(("place", "method", "bad"), HERE)
def test_the_same_is_told_as_on_the_plain_path(place: str, method: str, bad: float) -> None:
    fused, before, after = told(place, method, bad, "auto")
    plain, *_ = told(place, method, bad, "off")
    assert fused == plain
    moved = "parameter" in place or "step" in place or (method in SEPARATE and "critic" in fused)
    if not moved and "minibatch 2" not in fused and "epoch 2" not in fused:
        assert all(torch.equal(p, q) for p, q in zip(before, after, strict=True))


@pytest.mark.parametrize("env", ["CartPole-v1", pendulum], ids=["cartpole", "pendulum"])
@pytest.mark.parametrize("method", ["ppo", "reinforce", "baseline"])
def test_a_learning_rate_that_is_too_large_is_told_at_the_same_place(method: str, env: Any) -> None:
    said = []
    for fast in ("auto", "off"):
        made = parts(method, env, fast, lr=3e38, anneal=False)
        with pytest.raises(NotFinite) as found:
            run(made, 4)
        said.append((str(found.value), made.state["iteration"]))
    assert said[0] == said[1]


@pytest.mark.parametrize("bad", [NAN, INF])
@pytest.mark.parametrize("where", ["weight", "bias", "log_std", "critic"])
def test_a_parameter_that_is_not_finite(where: str, bad: float) -> None:
    said = []
    for fast in ("auto", "off"):
        made = parts("ppo", pendulum, fast)
        run(made, 1)
        named = {
            "weight": made.policy.network[2].weight,
            "bias": made.policy.network[0].bias,
            "log_std": made.policy.head.log_std,
            "critic": made.critic.network[-1].bias,
        }
        with torch.no_grad():
            named[where].view(-1)[0] = bad
        with pytest.raises(NotFinite) as found:
            run(made, 1)
        said.append(str(found.value))
    assert said[0] == said[1]


def test_a_refused_step_leaves_parameters_and_moments_and_a_later_one_keeps_what_was_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = counted(monkeypatch)
    made = parts("ppo", epochs=2, minibatches=2)
    run(made, 1)
    before = [p.clone() for p in weights(made)]
    kept = copy.deepcopy(made.optimizer.state_dict()["state"])
    clip, made.method = made.method, copy.copy(made.method)
    object.__setattr__(made.method, "clip", 0.3)
    psi = type(clip).psi
    monkeypatch.setattr(type(clip), "psi", lambda self, b, state: tuple(3e38 * x for x in psi(self, b, state)))
    with pytest.raises(NotFinite) as found:
        run(made, 1)
    assert found.value.iteration == 2 and calls == [True]
    assert all(torch.equal(p, q) for p, q in zip(weights(made), before, strict=True))
    for i, slot in made.optimizer.state_dict()["state"].items():
        assert all(torch.equal(x, kept[i][k]) for k, x in slot.items())


def test_the_epoch_and_the_minibatch_of_a_step_that_failed_are_the_plain_paths() -> None:
    """More minibatches asked for than there are rows: three parts an epoch."""
    said = []
    for fast in ("auto", "off"):
        made = parts(
            "grpo", fast=fast, starts=1, group=3, minibatches=9, epochs=4, lr=1e38, anneal=False, max_grad_norm=1e30
        )
        with pytest.raises(NotFinite) as found:
            run(made, 3)
        said.append((str(found.value), found.value.epoch, found.value.minibatch))
    assert said[0] == said[1]
