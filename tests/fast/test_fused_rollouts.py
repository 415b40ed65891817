"""The native CartPole rolled whole: what the plain loop sees and does, and every generator left where it leaves it."""

from typing import Any

import pytest
import torch

pytest.importorskip("numba")

from twins import counted, parts, run

from logpi.batch import Batch
from logpi.loop import Parts

SETS = {
    "ppo": {"length": 24, "epochs": 1},
    "trpo": {"length": 9},
    "reinforce": {},
    "baseline": {},
    "grpo": {"group": 2, "epochs": 1},
    "rloo": {"group": 2},
}


def sized(method: str, n: int) -> dict[str, Any]:
    return {"envs": n, "episodes": n, "starts": max(1, n // 2), "group": 2} | SETS[method]


def generators(made: Parts) -> list[torch.Tensor]:
    return [x.get_state() for x in (made.collect.generator, made.collect.envs.generator, made.generator)]


def check_batches(one: Batch, other: Batch, within: float = 1e-4) -> None:
    assert torch.equal(one.mask, other.mask)
    for name in ("action", "terminated", "truncated", "version"):
        x, y = getattr(one, name), getattr(other, name)
        assert x.dtype == y.dtype and torch.equal(x[one.mask], y[one.mask]), name
    assert torch.equal(one.start, other.start)
    for name in ("obs", "reward", "params", "log_pi", "value", "value_next"):
        x, y = getattr(one, name), getattr(other, name)
        assert (x is None) == (y is None), name
        if x is not None:
            assert x.dtype == y.dtype and x.shape == y.shape and float((x - y)[one.mask].abs().max()) < within, name


@pytest.mark.parametrize("n", [1, 4, 7, 64, 200])
@pytest.mark.parametrize("method", SETS)
def test_three_iterations_are_the_plain_loops(method: str, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = counted(monkeypatch, "collect" if "length" in SETS[method] else "roll")
    fused, plain = (parts(method, fast=fast, **sized(method, n)) for fast in ("auto", "off"))
    for _ in range(3):
        one, other = run(fused, 1)[0], run(plain, 1)[0]
        check_batches(one.batch, other.batch, 1e-4 if n < 200 else 1e-3)  # a pole carries a rounding on
        assert all(torch.equal(x, y) for x, y in zip(generators(fused), generators(plain), strict=True))
        for name in ("steps_before", "return_before", "discounted"):
            assert torch.allclose(getattr(fused.collect, name), getattr(plain.collect, name)), name
        for name in ("return", "length", "episodes"):
            assert str(round(one[name], 5)) == str(round(other[name], 5))
    assert calls and all(calls)


@pytest.mark.parametrize(
    "given", [{"normalise_obs": True}, {"shared": True}, {"normalise_reward": False}, {"hidden": (9, 70)}]
)
def test_settings_of_the_policy(given: dict[str, Any]) -> None:
    for method in ("ppo", "reinforce"):
        fused, plain = (parts(method, fast=fast, **sized(method, 5), **given) for fast in ("auto", "off"))
        for _ in range(3):
            check_batches(run(fused, 1)[0].batch, run(plain, 1)[0].batch)
        assert all(torch.equal(x, y) for x, y in zip(generators(fused), generators(plain), strict=True))


def test_observations_are_held_within_the_normalisers_limit() -> None:
    made = [parts("ppo", fast=fast, normalise_obs=True, **sized("ppo", 5)) for fast in ("auto", "off")]
    for one in made:
        one.policy.normaliser.limit = 0.01
    one, other = (run(x, 1)[0].batch for x in made)
    check_batches(one, other)
    assert float(one.obs.abs().max()) == float(torch.tensor(0.01))


def aged(fast: str, method: str) -> Parts:
    made = parts(method, fast=fast, **sized(method, 6))
    made.collect.envs.age += torch.tensor([499, 498, 490, 480, 0, 1])
    made.collect.steps_before += made.collect.envs.age
    made.collect.length_before += made.collect.envs.age
    made.collect.return_before += made.collect.envs.age
    return made


def test_episodes_are_cut_after_500_steps() -> None:
    fused, plain = aged("auto", "ppo"), aged("off", "ppo")
    one, other = run(fused, 1)[0], run(plain, 1)[0]
    check_batches(one.batch, other.batch)
    assert bool(one.batch.truncated.any()) and bool(one.batch.start.eq(499).any())
    assert torch.equal(fused.collect.envs.age, plain.collect.envs.age)
    assert torch.allclose(fused.collect.envs.s, plain.collect.envs.s, atol=1e-4)
    assert [*fused.collect.recent] == [*plain.collect.recent]


def test_long_episodes_take_more_than_one_draw_of_chance() -> None:
    """A policy that balances a while, set by hand: leans against the fall."""
    made = [parts("reinforce", fast=fast, episodes=3, hidden=()) for fast in ("auto", "off")]
    for one in made:
        with torch.no_grad():
            lean = torch.tensor([0.1, 0.5, 4.0, 2.0])
            one.policy.network[0].weight.copy_(torch.stack([-lean, lean]) * 20)
    one, other = (run(x, 1)[0].batch for x in made)
    assert one.mask.shape[1] > 128 and one.mask.shape == other.mask.shape
    both = one.mask & (torch.arange(one.mask.shape[1]) < 100)  # chaos carries a rounding on
    assert torch.equal(one.action[both], other.action[both])
    assert float((one.obs - other.obs)[both].abs().max()) < 1e-4
    assert torch.equal(made[0].collect.generator.get_state(), made[1].collect.generator.get_state())
    assert torch.equal(made[0].collect.envs.generator.get_state(), made[1].collect.envs.generator.get_state())


def test_what_was_read_of_the_environments_before_a_rollout_does_not_move_with_it() -> None:
    made = parts("ppo")
    run(made, 1)
    state = {k: v.clone() for k, v in made.collect.envs.state().items()}
    held, seen = made.collect.envs.state(), made.collect.obs
    before = seen.clone()
    run(made, 1)
    assert all(torch.equal(held[k], state[k]) for k in state) and torch.equal(seen, before)


def test_a_rollout_of_another_policy_is_seen() -> None:
    one, other = parts("ppo"), parts("ppo", fast="off")
    with torch.no_grad():
        other.policy.network[-1].bias[0] += 0.05
    with pytest.raises(AssertionError):
        check_batches(run(one, 1)[0].batch, run(other, 1)[0].batch)
