"""Every shipped page on every kind of action trains with the twins as it does without them, and the twins did the work."""

import inspect
import math
from typing import Any

import pytest
from injections import After

pytest.importorskip("numba")

from twins import check_alike, check_both_ways, counted, parts, pendulum, run, weights

from logpi.errors import LogpiError
from logpi.fast import ascent, curvature, heads, passes, rolling, update
from logpi.fast.compiled import arguments
from logpi.methods import METHODS

WORLDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "cartpole": ("CartPole-v1", {}),
    "shared": ("CartPole-v1", {"shared": True}),
    "gaussian": (pendulum, {"head": "gaussian"}),
    "squashed": (pendulum, {"head": "squashed"}),
    "beta": (pendulum, {"head": "beta"}),
    "normalised": (pendulum, {"head": "gaussian", "normalise_obs": True, "hidden": (50, 33)}),
}
NATURAL, SEPARATE = ("npg", "trpo"), ("baseline", "npg", "trpo")


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("method", METHODS)
def test_a_page_trains_with_the_twins_as_without_them(method: str, world: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, measured = counted(monkeypatch), counted(monkeypatch, "measure")
    env, given = WORLDS[world]
    fused, _ = check_both_ways(method, env, within=2e-4 if method in NATURAL else 2e-5, **given)
    apart = method in SEPARATE and world == "shared"  # the critic's own fit on a trunk that the policy moves
    told = ["its critic reads the policy's trunk and has a fit of its own"] if apart else []
    across = method == "gspo"  # its objective looks at a whole row
    assert fused.fused.reasons == (["its objective calls sum"] if across else told)
    fits = (method not in NATURAL) + (method in SEPARATE)
    assert len(calls) == 2 * fits and sum(calls) == 2 * (fits - apart - across)
    assert all(measured)


OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "uneven minibatches": ("ppo", {"length": 13, "minibatches": 5}),
    "more minibatches than rows": ("grpo", {"minibatches": 40, "epochs": 2}),
    "one minibatch, ten epochs": ("ppo", {"minibatches": 1, "epochs": 10}),
    "rows beyond a block": ("ppo", {"envs": 9, "length": 31, "minibatches": 2}),
    "one environment": ("ppo", {"envs": 1, "length": 7, "minibatches": 3}),
    "value clip": ("ppo", {"value_clip": 0.05}),
    "no entropy": ("ppo", {"entropy": 0.0}),
    "no critic's error": ("ppo", {"value_coef": 0.0}),
    "gradients that are cut": ("ppo", {"max_grad_norm": 1e-3}),
    "gradients that are not": ("ppo", {"max_grad_norm": 1e3}),
    "no bound on gradients": ("reinforce", {"lr": 0.02}),
    "annealed to nothing": ("ppo", {"steps": 130}),
    "not annealed": ("ppo", {"anneal": False, "lr": 3e-3}),
    "discounted from the start": ("ppo", {"from_start": True}),
    "mdpo's estimate": ("mdpo", {"kl": "estimate", "clip": 0.1, "entropy": 0.02, "epochs": 3}),
    "grpo's reference": ("grpo", {"kl": 0.3, "kl_live": True, "entropy": 0.01}),
    "ppo's reference": ("ppo", {"kl": 0.3}),
    "rloo's reference": ("rloo", {"kl": 0.3}),
    "no hidden layer": ("ppo", {"hidden": ()}),
    "no hidden layer to share": ("ppo", {"hidden": (), "shared": True}),
    "rewards as they are": ("ppo", {"normalise_reward": False, "normalise_obs": True}),
    "micro-batches": ("ppo", {"micro": 9}),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_of_an_ascent(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch)
    method, given = OPTIONS[name]
    fused, _ = check_both_ways(method, "CartPole-v1", iterations=3, **given)
    assert fused.fused.reasons == [] and calls and all(calls)


@pytest.mark.parametrize("target", [1e-4, 1e-3])
def test_passes_stop_after_the_same_epoch(target: float) -> None:
    given = {"target_kl": target, "epochs": 12, "minibatches": 3, "anneal": False, "lr": 2e-3}
    fused, plain = check_both_ways("ppo", "CartPole-v1", iterations=3, **given)
    taken = [float(next(iter(x.optimizer.state.values()))["step"]) for x in (fused, plain)]
    assert taken[0] == taken[1] and 9 < taken[0] < 3 * 36, taken


def test_the_optimiser_counts_the_same_steps_and_keeps_the_same_moments() -> None:
    fused, plain = check_both_ways("ppo", "CartPole-v1", epochs=2, minibatches=3)
    one, other = (x.optimizer.state_dict() for x in (fused, plain))
    assert one["param_groups"] == other["param_groups"] and one["state"].keys() == other["state"].keys()
    for i, kept in one["state"].items():
        assert kept.keys() == other["state"][i].keys()
        for name, x in kept.items():
            y = other["state"][i][name]
            assert x.dtype == y.dtype and x.shape == y.shape
            assert float((x - y).abs().max()) <= 1e-5 * max(1e-3, float(y.abs().max())), name
    assert float(one["state"][0]["step"]) == 12


def test_the_first_ratio_is_reported_and_is_one() -> None:
    made = parts("ppo")
    records = run(made, 3)
    assert all(0 <= r["first_ratio_error"] < 1e-5 for r in records)


@pytest.mark.parametrize("method", ["ppo", "reinforce", "trpo"])
def test_a_sampler_that_means_another_policy_is_found_by_the_kernels_too(method: str) -> None:
    made = parts(method)
    run(made, 1)  # from here on the first ratio is what kernels found
    made.collect = After(made.collect, lambda b: b.with_(log_pi=b.log_pi + 0.01))
    with pytest.raises(LogpiError, match="first ratio pi / pi_old is off 1 by"):
        run(made, 1)


def test_minibatches_are_shuffled_by_the_runs_own_generator_alone() -> None:
    fused, plain = parts("ppo", fast="auto"), parts("ppo", fast="off")
    for made in (fused, plain):
        run(made, 2)
    assert bool((fused.generator.get_state() == plain.generator.get_state()).all())
    assert bool((fused.collect.generator.get_state() == plain.collect.generator.get_state()).all())


@pytest.mark.parametrize("planted", ["a weight", "the order", "the norm"])
def test_a_planted_error_is_seen(planted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one percent, in what the kernel is given."""
    inner = ascent.Ascent.minibatches

    def wrong(self: Any, epochs: int, count: int) -> Any:
        index, weight, bounds = inner(self, epochs, count)
        if planted == "a weight":
            weight = weight.copy()
            weight[: bounds[1]] *= 1.05
        if planted == "the order":
            index = index[::-1].copy()
        return index, weight, bounds

    monkeypatch.setattr(ascent.Ascent, "minibatches", wrong)
    monkeypatch.setattr(ascent.Ascent, "agrees", lambda self, count: True)
    if planted == "the norm":
        call = ascent.Ascent.call
        monkeypatch.setattr(
            ascent.Ascent, "call", lambda self, *a: setattr(self, "longest", 2 * self.longest) or call(self, *a)
        )
    with pytest.raises(AssertionError):
        check_both_ways("ppo", "CartPole-v1", max_grad_norm=0.05, minibatches=3)


@pytest.mark.parametrize("method", ["ppo", "trpo"])
def test_kernels_are_called_with_the_types_for_which_they_are_compiled_ahead(method: str) -> None:
    run(parts(method), 2)
    run(parts("ppo", max_grad_norm=1, gamma=1, clip=1), 2)  # whole numbers
    entries = [x for module in (curvature, passes, rolling, update) for x in vars(module).values() if is_entry(x)]
    called = [x for x in entries if x.signatures]
    assert len(called) > 5 and all(x.signatures == [arguments(x)] for x in called)


def is_entry(x: Any) -> bool:
    return hasattr(x, "signatures") and all(p.annotation is not Any for p in inspect.signature(x).parameters.values())


def test_blocks_are_no_multiple_of_what_is_tested() -> None:
    assert heads.BLOCK > 1 and 9 * 31 % heads.BLOCK and not math.isclose(64, heads.BLOCK)


def test_runs_differ_where_a_setting_does() -> None:
    one, other = parts("ppo"), parts("ppo", fast="off", entropy=0.05)
    with pytest.raises(AssertionError):
        check_alike(one, other, run(one), run(other))
    assert len(weights(one)) == len(weights(other))
