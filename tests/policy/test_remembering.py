"""A memory gives the same numbers step by step and in a row, and nothing crosses the end of an episode."""

from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch.func import functional_call, jvp

from logpi.batch import Batch
from logpi.policy import Policy, build_policy
from logpi.policy.memory import Recurrent

F64 = torch.float64
KINDS = ["gru", "lstm"]
B, T, D = 4, 12, 3


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def memory(kind: str) -> Recurrent:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Recurrent(D, 5, kind).double()


def stepped(
    made: Recurrent, x: torch.Tensor, kept: torch.Tensor, fresh: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The plain definition: one step after another."""
    features, after = [], []
    for t in range(x.shape[1]):
        kept = torch.where(fresh[:, t, None], 0.0, kept)
        found, kept = made.step(x[:, t], kept)
        features.append(found)
        after.append(kept)
    return torch.stack(features, 1), torch.stack(after, 1)


def example(seed: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = generator(seed)
    return torch.randn(B, T, D, dtype=F64, generator=g), torch.rand(B, T, generator=g) < 0.2, g


@pytest.mark.parametrize("kind", KINDS)
def test_a_sequence_is_its_steps(kind: str) -> None:
    made, (x, fresh, g) = memory(kind), example()
    kept = torch.randn(B, made.size, dtype=F64, generator=g)
    features, after = made.sequence(x, kept, fresh)
    plain, every = stepped(made, x, kept, fresh)
    torch.testing.assert_close(features, plain, rtol=0, atol=1e-14)
    told = torch.nn.functional.pad(fresh.any(0)[1:], (0, 1), value=True)
    torch.testing.assert_close(after[:, told], every[:, told], rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_crosses_the_start_of_an_episode(kind: str) -> None:
    made, (x, _, g) = memory(kind), example()
    kept = torch.randn(B, made.size, dtype=F64, generator=g).requires_grad_()
    fresh = torch.zeros(B, T, dtype=torch.bool)
    fresh[:, 6] = True
    x = x.requires_grad_()
    features, _ = made.sequence(x, kept, fresh)
    grads = torch.autograd.grad(features[:, 6:].sum(), (x, kept), allow_unused=True, materialize_grads=True)
    assert not grads[0][:, :6].any() and grads[0][:, 6:].any() and not grads[1].any()
    before = torch.autograd.grad(made.sequence(x, kept, fresh)[0][:, :6].sum(), kept)[0]
    assert before.any(), "within one, it does"


@pytest.mark.parametrize("kind", KINDS)
def test_it_can_be_differentiated_forward_and_twice_in_float32(kind: str) -> None:
    made, (x, fresh, _) = memory(kind).float(), example()
    named, kept = dict(made.named_parameters()), torch.zeros(B, made.size)
    tangents = {k: torch.randn(p.shape, generator=generator(3)) for k, p in named.items()}

    class Rows(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.made = made

        def forward(self) -> torch.Tensor:
            return self.made.sequence(x.float(), kept, fresh)[0]

    inside = {f"made.{k}": p for k, p in named.items()}
    _, moved = jvp(
        lambda p: functional_call(Rows(), p, ()), (inside,), ({f"made.{k}": v for k, v in tangents.items()},)
    )
    grads = torch.autograd.grad(Rows()().square().sum(), list(named.values()), create_graph=True)
    twice = torch.autograd.grad(sum(g.square().sum() for g in grads), list(named.values()))
    assert bool(moved.isfinite().all()) and moved.any() and all(bool(g.isfinite().all()) for g in twice)


def policy(kind: str) -> Policy:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = build_policy(spaces.Box(-9, 9, (D,)), spaces.Discrete(2), hidden=(6,), memory=kind)
    return made.place("cpu", F64)


def batch(made: Policy, seed: int = 4) -> Batch:
    g = generator(seed)
    flags = [torch.rand(B, T, generator=g) < 0.15 for _ in range(3)]
    obs = torch.randn(B, T, D, dtype=F64, generator=g)
    rest = torch.zeros(B, T, dtype=F64)
    kept = torch.randn(B, made.memory.size, dtype=F64, generator=g)
    numbers: dict[str, Any] = {"action": rest.long(), "log_pi": rest, "params": rest[..., None], "reward": rest}
    return Batch(
        obs,
        **numbers,
        terminated=flags[0],
        truncated=flags[1],
        mask=~flags[2],
        version=rest.long(),
        start=None,
        memory=kept,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_policy_says_of_rows_what_it_said_when_it_acted(kind: str) -> None:
    made = policy(kind)
    b = batch(made)
    kept, said = b.memory, []
    for t in range(T):
        params, kept = made.step(b.obs[:, t], kept)
        said.append(params)
        over = b.ended[:, t] | ~b.mask[:, t]
        kept = torch.where(over[:, None], 0.0, kept)
    torch.testing.assert_close(made(b), torch.stack(said, 1)[b.mask], rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_masked_slots_may_hold_anything(kind: str) -> None:
    made = policy(kind)
    b = batch(made)
    spoilt = b.with_(obs=torch.where(b.mask[..., None], b.obs, torch.nan))
    loss = made(spoilt).sum()
    grads = torch.autograd.grad(loss, [*made.parameters()])
    torch.testing.assert_close(loss.detach(), made(b).sum().detach())
    assert all(bool(g.isfinite().all()) for g in grads)


def test_behind_the_last_action_of_a_row_nothing_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    made, runs = policy("gru"), list[int]()
    b = batch(made)
    ours = torch.arange(T) < torch.tensor([[T], [3], [3], [8]])
    last = ours & ~torch.nn.functional.pad(ours[:, 1:], (0, 1))
    run = made.memory._run
    monkeypatch.setattr(made.memory, "_run", lambda x, kept: (runs.append(x.shape[1]), run(x, kept))[1])
    made(b.with_(mask=ours, terminated=last, truncated=last & False))
    assert runs == [3, 5, 4]


@pytest.mark.parametrize("kind", KINDS)
def test_act_remembers_until_it_is_told_to_forget(kind: str) -> None:
    made = policy(kind)
    made.network.weight.data *= 100
    x = torch.randn(5, 3, D, dtype=F64, generator=generator(5))

    def logits(t: int) -> torch.Tensor:
        return made._recalled(x[t])

    alone = [(made.forget(), logits(t))[1] for t in range(5)]
    made.forget()
    row = [logits(t) for t in range(5)]
    assert torch.equal(row[0], alone[0]) and not torch.allclose(row[1], alone[1])
    made.forget(torch.tensor([True, False, True]))
    last = logits(0)
    assert torch.equal(last[[0, 2]], alone[0][[0, 2]]) and not torch.allclose(last[1], alone[0][1])
    made.forget()
    one = made.act(x[0, 0].numpy())
    assert one.shape == () and made.kept is not None and made.kept.shape == (1, made.memory.size)
