"""When memory gives out the micro-batch is halved and the same minibatch is done again: same gradient, same step."""

import copy
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from made import PAGES, case, parts_for, rows_for
from torch import Tensor

import logpi
from logpi.loop import Parts, loop, update
from logpi.methods import PPO
from logpi.room import out_of_memory
from logpi.run import checkpoint
from logpi.run.setup import Settings, assemble

CPU = "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."
WRONGS = [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError(CPU), MemoryError()]


class Full:
    """A module's forward in a memory that holds no more than `room` rows at once, as long as it is short."""

    def __init__(self, module: torch.nn.Module, room: int, times: int = 10**9, wrong: Any = WRONGS[0]) -> None:
        self.forward, self.room, self.left, self.wrong, self.asked = module.forward, room, times, wrong, []
        module.forward = self

    def __call__(self, x: Tensor) -> Tensor:
        self.asked.append(len(x))
        if len(x) > self.room and self.left:
            self.left -= 1
            raise self.wrong
        return self.forward(x)


def trained(parts: Parts) -> list[Tensor]:
    return [*parts.policy.parameters(), *(parts.critic.parameters() if parts.critic is not None else ())]


def heard(parts: Parts) -> list[Tensor]:
    """The gradients that the optimisers step on, as they come."""
    grads: list[Tensor] = []

    def keep(optimizer: Any, *_: Any) -> None:
        grads.extend(p.grad.clone() for group in optimizer.param_groups for p in group["params"] if p.grad is not None)

    for optimizer in (parts.optimizer, parts.critic_optimizer):
        if optimizer is not None:
            optimizer.register_step_pre_hook(keep)
    return grads


def short(name: str, who: str, room: int, **more: Any) -> tuple[Parts, Parts, Any, Any, Any]:
    """Two equal updates, the second in a memory that is short for one of its networks."""
    policy, critic, b = case(PAGES[name])
    plenty, little = (parts_for(PAGES[name], policy, critic) for _ in range(2))
    found = [heard(parts) for parts in (plenty, little)]
    full = Full(getattr(little, who).network, room, **more)
    (_, first), (_, second) = update(plenty, b), update(little, b)
    for x, y in ((trained(plenty), trained(little)), found):
        assert len(x) == len(y) > 0 or "step_norm" in first
        assert all((p - q).abs().max() < 1e-12 for p, q in zip(x, y, strict=True))
    return plenty, little, first, second, full


@pytest.mark.parametrize("name", PAGES)
def test_an_update_in_little_memory_is_the_same_update(name):
    room = 4 if PAGES[name].rows == "segments" else 8  # rows are steps, or episodes of up to eight
    plenty, little, first, second, full = short(name, "policy", room)
    size = little.state["micro"]
    assert second["micro"] == size <= room and type(size) is int
    assert "micro" not in first and "micro" not in plenty.state
    for key in first:
        assert second[key] == pytest.approx(first[key], rel=1e-9, abs=1e-12) or key == "first_ratio_error"
    assert max(full.asked) > room >= full.asked[-1]


@pytest.mark.parametrize("name", [name for name in PAGES if PAGES[name].critic])
def test_so_is_the_fit_of_a_critic(name):
    short(name, "critic", 4 if PAGES[name].rows == "segments" else 8)


@pytest.mark.parametrize("wrong", WRONGS, ids=lambda x: type(x).__name__)
def test_every_kind_of_full_memory_is_known_and_one_moment_of_it_costs_one_halving(wrong):
    _, little, _, second, _ = short("ppo", "policy", 0, times=1, wrong=wrong)
    assert second["micro"] == little.state["micro"] == 2  # a minibatch of 5 of the 19 rows, halved


@pytest.mark.parametrize("fisher", ["head", "kl"])
def test_memory_that_gives_out_in_every_pass_of_a_trust_region(fisher):
    policy, critic, b = case(PAGES["trpo"])
    method = type(PAGES["trpo"])(fisher=fisher)
    plenty = parts_for(method, policy, critic)
    update(plenty, b)
    for call in (0, 1, 2, 5, 14):  # the surrogate, its gradient, Fisher products, the line search
        little, calls = parts_for(method, policy, critic), []
        forward = little.policy.network.forward

        def once(x, forward=forward, calls=calls, call=call):
            calls.append(None)
            if len(calls) == call + 1:
                raise WRONGS[0]
            return forward(x)

        little.policy.network.forward = once
        update(little, b)
        assert little.state["micro"] == 9
        assert all((p - q).abs().max() < 1e-12 for p, q in zip(trained(plenty), trained(little), strict=True))


def test_memory_that_gives_out_while_the_update_is_measured():
    policy, critic, b = case(PAGES["reinforce"])
    plenty, little = (parts_for(PAGES["reinforce"], policy, critic) for _ in range(2))
    asked = Full(plenty.policy.network, 0, times=0).asked
    _, first = update(plenty, b)
    forward, calls = little.policy.network.forward, []

    def last(x: Tensor) -> Tensor:
        calls.append(None)
        if len(calls) == len(asked):
            raise WRONGS[0]
        return forward(x)

    little.policy.network.forward = last
    _, second = update(little, b)
    assert second["micro"] == 3 and {k: second[k] for k in first} == pytest.approx(first, rel=1e-9, abs=1e-12)


def test_what_a_failed_pass_has_left_in_the_gradients_does_not_count():
    """Memory gives out in the backward pass of the second micro-batch: the first one's gradient is already there."""
    policy, critic, b = case(PPO(minibatches=1))
    plenty, little = (parts_for(PPO(minibatches=1), policy, critic, micro=m) for m in (None, 8))
    passes: list[int] = []

    def second(g: Tensor) -> Tensor:
        passes.append(1)
        if len(passes) == 2:
            raise WRONGS[0]
        return g

    next(little.policy.parameters()).register_hook(second)
    update(plenty, b), update(little, b)
    assert little.state["micro"] == 4
    assert all((p - q).abs().max() < 1e-12 for p, q in zip(trained(plenty), trained(little), strict=True))


@pytest.mark.parametrize(
    ("micro", "room", "sentence"),
    [(4, 0, "1 row"), (None, 1, "1 row"), (1000, 0, "1 row")],
)
def test_memory_for_nothing_is_told_and_nothing_has_moved(micro, room, sentence):
    policy, critic, b = case(PPO())
    parts = parts_for(PPO(), policy, critic, micro)
    before = copy.deepcopy(trained(parts))
    Full(parts.policy.network, 0)
    with pytest.raises(logpi.LogpiError) as told:
        update(parts, b)
    cure = "use a smaller --micro or --hidden, or fewer environments."
    assert str(told.value) == f"The memory does not hold {sentence} at once: {cure}"
    assert all(torch.equal(p, q) for p, q in zip(before, trained(parts), strict=True)) and "micro" not in parts.state


def test_five_halvings_are_enough():
    policy, critic, b = case(PAGES["npg"], "categorical")
    rows, asked = rows_for(PPO(), b), []
    wide = b.with_(start=None, scores=None)[torch.arange(3).repeat(40)]
    rows = rows_for(PPO(), wide)

    def never(mini):
        asked.append(rows.room.size)
        raise WRONGS[0]

    with pytest.raises(logpi.LogpiError, match=r"^The memory does not hold 23 rows at once: use a smaller --micro or"):
        rows.in_memory(rows.batch, never)
    assert len(rows) == 760 and asked == [None, 380, 190, 95, 47, 23]


@pytest.mark.parametrize("wrong", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("no")])
def test_another_error_is_not_taken_for_a_full_memory(wrong):
    policy, critic, b = case(PPO())
    parts = parts_for(PPO(), policy, critic)
    full = Full(parts.policy.network, 0, wrong=wrong)
    with pytest.raises(type(wrong), match=str(wrong)):
        update(parts, b)
    assert len(full.asked) == 1 and not out_of_memory(wrong)


def small(folder: Path | None = None) -> Parts:
    settings = Settings(steps=10**6, hidden=(8,), dtype="float64")
    return assemble(PPO(envs=2, length=16, epochs=2, minibatches=2), settings)


def test_the_halved_size_stays_is_in_the_checkpoint_and_the_run_goes_on_bit_for_bit(tmp_path):
    whole, resumed = small(), small()
    records = loop(whole)
    Full(whole.policy.network, 8, times=1)
    first = next(records)
    assert first["micro"] == 8.0 and whole.state["micro"] == 8
    saved = first.save(tmp_path)
    second = next(records)
    assert "micro" not in second.metrics and whole.state["micro"] == 8  # it was halved once
    checkpoint.restore(resumed, saved)
    assert resumed.state["micro"] == 8
    full = Full(resumed.policy.network, 8, times=0)
    assert next(loop(resumed)).metrics == second.metrics
    assert max(full.asked[18:]) == 8  # behind the rollout: no pass of more rows than that
    assert all(torch.equal(p, q) for p, q in zip(trained(whole), trained(resumed), strict=True))


REAL = """
    import resource, sys
    import torch
    from logpi.loop import update
    from logpi.methods import METHODS
    from logpi.run.setup import Settings, assemble

    def made():
        page = METHODS[sys.argv[1]](envs=8, length=256)
        parts = assemble(page, Settings(hidden=(4096,), steps=10**6))
        return parts, parts.collect(parts.policy, parts.critic)

    def size():
        return int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()

    small, batch = made()
    small.micro = 128
    update(small, batch)  # all that is loaded or kept for good is there
    (short, batch), most = made(), 80 * 2**20  # a layer's outputs for all 2048 rows are 32 MiB, and each pass keeps several
    resource.setrlimit(resource.RLIMIT_AS, (size() + most, resource.RLIM_INFINITY))
    _, info = update(short, batch)
    print(int(info["micro"]), len(batch.mask.flatten()))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the size of a process is read from /proc")
def test_a_memory_that_is_really_too_small():
    code = textwrap.dedent(REAL)
    done = subprocess.run([sys.executable, "-c", code, "a2c"], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    micro, rows = map(int, done.stdout.split())
    assert micro in [rows // 2**k for k in range(1, 6)]
