"""A packed batch of texts in a memory that is short: fewer tokens at once, the same update."""

import copy

import pytest
import torch
from test_memory import WRONGS, heard, trained

import logpi
from logpi.loop import update
from logpi.methods import METHODS
from logpi.run.language import Text
from logpi.run.setup import assemble

SIZES = {"groups": {"starts": 4, "group": 3}, "episodes": {"episodes": 12}, "segments": {"envs": 12}}


class Short:
    """The model in a memory that holds no more than `room` tokens at once, as long as it is short."""

    def __init__(self, policy, room: int, times: int = 10**9, wrong=WRONGS[0]) -> None:
        self.real, self.room, self.left, self.wrong, self.asked = policy.hidden, room, times, wrong, []
        policy.hidden = self

    def __call__(self, ids, **more):
        self.asked.append(ids.numel())
        if ids.numel() > self.room and self.left:
            self.left -= 1
            raise self.wrong
        return self.real(ids, **more)


def made(method: str, fields: dict | None = None, **more):
    """Parts and a batch, the same each time."""
    page = METHODS[method](**SIZES[METHODS[method]().rows], **fields or {})
    parts = assemble(page, Text(task="copy", level=4, dtype="float64", seed=1, warmup=3, **more))
    return parts, parts.collect(parts.policy, parts.critic)


@pytest.mark.parametrize("lora", [0, 2])
@pytest.mark.parametrize("method", ["grpo", "ppo", "reinforce", "trpo"])
def test_the_update_is_the_same_in_little_memory(method, lora):
    (plenty, b), (little, same) = made(method, lora=lora), made(method, lora=lora)
    assert torch.equal(b.log_pi, same.log_pi)
    grads = [heard(parts) for parts in (plenty, little)]
    short = Short(little.policy, 24)
    (_, first), (_, second) = update(plenty, b), update(little, same)
    assert second["micro"] == little.state["micro"] < b.mask.numel() and "micro" not in first
    assert short.asked[-1] <= 24 < max(short.asked)
    for x, y in ((trained(plenty), trained(little)), grads):
        assert len(x) == len(y)
        assert all((p - q).abs().max() < 1e-10 for p, q in zip(x, y, strict=True))
    for key in first:
        assert second[key] == pytest.approx(first[key], rel=1e-7, abs=1e-9) or key == "first_ratio_error"


@pytest.mark.parametrize("wrong", WRONGS, ids=lambda x: type(x).__name__)
def test_one_moment_of_it_costs_one_halving_and_is_logged(wrong):
    parts, b = made("grpo")
    Short(parts.policy, 0, times=1, wrong=wrong)
    whole = b.mask.flatten(0, 1)[:3].numel()  # the first of the minibatches, three rows
    _, info = update(parts, b)
    assert info["micro"] == parts.state["micro"] == whole // 2


def test_memory_for_nothing_is_told_and_nothing_has_moved():
    parts, b = made("grpo")
    before = copy.deepcopy(trained(parts))
    Short(parts.policy, 0)
    with pytest.raises(
        logpi.LogpiError, match=r"The memory does not hold \d+ tokens? at once: use a smaller --micro, or shorter texts"
    ):
        update(parts, b)
    assert all(torch.equal(p, q) for p, q in zip(before, trained(parts), strict=True)) and "micro" not in parts.state
