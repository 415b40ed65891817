"""Heads of several parts, of coins, with masks, and Gaussians whose spread depends on the state: densities, sampled and compared."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import distributions as td

from logpi.policy.categorical import RULED_OUT, Categorical
from logpi.policy.gaussian import NARROWEST, Gaussian
from logpi.policy.heads import head_for

F64 = torch.float64
BOX = spaces.Box(np.array([-1.0, 0.0]), np.array([1.0, 4.0]), dtype=np.float64)
SPACES: dict[str, spaces.Space] = {
    "multi discrete": spaces.MultiDiscrete([2, 3], start=[1, -1]),
    "multi binary": spaces.MultiBinary((2, 2)),
    "hybrid": spaces.Tuple([spaces.Discrete(3), BOX, spaces.MultiBinary(2)]),
    "dict": spaces.Dict({"a": spaces.Discrete(2), "b": spaces.Dict({"c": spaces.Box(-1, 1, (1,))})}),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(name: str, box: str = "gaussian", log_std: str = "free") -> Any:
    return head_for(SPACES[name], box, log_std).double()


def drawn(head: Any, *shape: int, seed: int = 1) -> torch.Tensor:
    return head(torch.randn(*shape, head.outputs, dtype=F64, generator=generator(seed)))


def every_action(head: Any) -> torch.Tensor:
    """All of a head of whole numbers, [N, d]."""
    sides = [range(h.outputs) for h in head.heads] if hasattr(head, "heads") else [range(2)] * head.outputs
    return torch.tensor([*itertools.product(*sides)])


@pytest.mark.parametrize("name", ["multi discrete", "multi binary"])
def test_probabilities_of_all_actions_sum_to_1_and_entropy_and_kl_are_their_sums(name: str) -> None:
    head = made(name)
    p, q = drawn(head, 1), drawn(head, 1, seed=2)
    actions = every_action(head)
    log_p, log_q = (head.log_prob(x.expand(len(actions), -1), actions) for x in (p, q))
    torch.testing.assert_close(log_p.exp().sum(), torch.ones((), dtype=F64))
    torch.testing.assert_close(head.entropy(p, actions[:1])[0], -(log_p.exp() * log_p).sum())
    torch.testing.assert_close(head.kl(p, q)[0], (log_p.exp() * (log_p - log_q)).sum())


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("box", ["gaussian", "squashed", "beta"])
@pytest.mark.parametrize("log_std", ["free", "state"])
def test_every_question_is_answered_part_by_part(name: str, box: str, log_std: str) -> None:
    head = made(name, box, log_std)
    params, other = drawn(head, 3, 5), drawn(head, 3, 5, seed=2)
    action = head.sample(params, generator())
    assert action.shape == (3, 5, *head.action_shape) and action.dtype == (head.action_dtype or F64)
    assert head.fisher(params, params).shape == params.shape
    for answer in (head.log_prob(params, action), head.entropy(params, action), head.kl(params, other)):
        assert answer.shape == (3, 5) and bool(answer.isfinite().all())
    assert bool((head.kl(params, other) > 0).all()) and float(head.kl(params, params).detach().abs().max()) < 1e-12
    if not hasattr(head, "heads"):
        return
    for h, p, a in zip(head.heads, params.split(head.params, -1), action.split(head.widths, -1), strict=True):
        a = (a if h.action_shape else a[..., 0]).to(h.action_dtype or F64)
        change = head.log_prob(params, action) - h.log_prob(p, a)
        assert float(change.detach().abs().max()) > 0, "each part adds something"


@pytest.mark.parametrize("name", SPACES)
def test_noise_drawn_ahead_is_the_noise_that_is_drawn(name: str) -> None:
    head = made(name)
    params = drawn(head, 7)
    noise = head.noise((7,), params, generator(3))
    assert torch.equal(head.sample(params, noise=noise), head.sample(params, noise=noise))
    assert made("hybrid", "beta").noise((7,), params, generator(3)) is None, "a Beta has to see its parameters"
    split = getattr(head, "heads", None)
    assert noise.shape[-1] == head.draws == (sum(h.draws for h in split) if split else head.draws)


@pytest.mark.parametrize("name", SPACES)
def test_samples_have_the_frequencies_of_log_prob(name: str) -> None:
    """The score has mean 0 under the head's own samples: E grad log pi = 0."""
    head = made(name)
    outputs = torch.randn(head.outputs, dtype=F64, generator=generator(5)).requires_grad_()
    params = head(outputs.expand(40_000, -1))
    scores = torch.autograd.grad(head.log_prob(params, head.sample(params.detach(), generator(6))).mean(), outputs)[0]
    assert float(scores.abs().max()) < 0.03
    shifted = head(outputs.expand(40_000, -1) + torch.arange(head.outputs) % 2)
    off = torch.autograd.grad(head.log_prob(params, head.sample(shifted.detach(), generator(6))).mean(), outputs)[0]
    assert float(off.abs().max()) > 0.03, "it can fail"


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("log_std", ["free", "state"])
def test_the_fisher_product_is_the_curvature_of_the_kl(name: str, log_std: str) -> None:
    head = made(name, "gaussian", log_std)
    p = drawn(head, 1)[0]
    v = torch.randn(p.shape, dtype=F64, generator=generator(7))
    hessian = torch.autograd.functional.hessian(lambda q: head.kl(p.detach(), q), p.detach())
    torch.testing.assert_close(hessian @ v, head.fisher(p, v), rtol=1e-8, atol=1e-10)


def test_coins_are_those_of_torch() -> None:
    head = made("multi binary")
    logits = drawn(head, 4)
    other = td.Bernoulli(logits=logits)
    action = head.sample(logits, generator())
    torch.testing.assert_close(head.log_prob(logits, action), other.log_prob(action.double()).sum(-1))
    torch.testing.assert_close(head.entropy(logits), other.entropy().sum(-1))
    assert head.to_env(action).shape == (4, 2, 2)


def test_actions_are_numbered_as_the_environment_does() -> None:
    head = made("multi discrete")
    assert head.to_env(torch.tensor([[0, 0], [1, 2]])).tolist() == [[1, -1], [2, 1]]


class TestSpread:
    def test_a_spread_of_the_state_is_bounded_and_begins_where_it_is_told(self) -> None:
        head = Gaussian(torch.zeros(2), torch.ones(2), log_std=-0.5, state=True)
        assert head.outputs == 4 and not list(head.parameters())
        params = head(torch.tensor([0.0, 0.0, 0.0, -100.0]))
        assert params[2:].tolist() == [-0.5, NARROWEST]

    def test_its_gradient_reaches_the_network(self) -> None:
        head = Gaussian(torch.zeros(1), torch.ones(1), state=True)
        outputs = torch.zeros(2, requires_grad=True)
        head.log_prob(head(outputs), torch.tensor([2.0])).backward()
        assert outputs.grad is not None and outputs.grad.tolist() == [2.0, 3.0], "z, and z^2 - 1"


def masks(head: Any, rows: int, seed: int = 8) -> torch.Tensor:
    allowed = torch.rand(rows, head.choices, generator=generator(seed)) < 0.5
    parts = allowed.split([h.choices for h in head.heads], -1) if hasattr(head, "heads") else [allowed]
    for part in filter(torch.numel, parts):
        part[:, 0] = True  # one at least, of each
    return allowed


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("size", [4, 10_000])
def test_what_is_ruled_out_has_probability_and_gradient_exactly_0(size: int, dtype: torch.dtype) -> None:
    head, allowed = Categorical(size), torch.rand(3, size, generator=generator()) < 0.3
    allowed[:, 1] = True
    outputs = (10 * torch.randn(3, size, dtype=dtype, generator=generator(1))).requires_grad_()
    params = head.masked(head(outputs), allowed)
    p = params.softmax(-1)
    assert (
        bool((p[~allowed] == 0).all()) and bool(((p.sum(-1) - 1).abs() < 1e-5).all()) and bool(params.isfinite().all())
    )
    action = head.sample(params.detach().expand(300, 3, size), generator(2))
    assert bool(allowed.expand(300, 3, size).gather(-1, action[..., None]).all())
    assert bool(allowed.gather(-1, head.mode(params)[:, None]).all())
    other = head.masked(head(outputs.detach() + torch.randn(3, size, dtype=dtype, generator=generator(3))), allowed)
    for answer in (
        head.log_prob(params, action[0]),
        head.entropy(params),
        head.kl(params, other),
        head.kl(other, params),
    ):
        (grad,) = torch.autograd.grad(answer.sum(), outputs, retain_graph=True)
        assert bool((grad[~allowed] == 0).all()) and bool(grad.isfinite().all()) and bool((grad != 0).any())
    exact = td.Categorical(logits=torch.where(allowed, outputs, -torch.inf).double())
    torch.testing.assert_close(
        head.log_prob(params, action[0]).double(), exact.log_prob(action[0]), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", ["multi discrete", "multi binary", "hybrid"])
def test_parts_are_masked_each_by_its_own_entries(name: str) -> None:
    head = made(name)
    allowed = masks(head, 50)
    outputs = torch.randn(50, head.outputs, dtype=F64, generator=generator(1)).requires_grad_()
    params = head.masked(head(outputs), allowed)
    action = head.sample(params.detach(), generator(2))
    ruled_out = (params == RULED_OUT).sum()
    assert ruled_out == (~allowed).sum() > 0
    if name == "multi binary":
        assert bool((action[~allowed] == 0).all()) and bool((action[allowed] == 1).any())
    if name == "multi discrete":
        assert bool(allowed[:, :2].gather(-1, action[:, :1]).all()) and bool(
            allowed[:, 2:].gather(-1, action[:, 1:]).all()
        )
    (grad,) = torch.autograd.grad((head.log_prob(params, action) + head.entropy(params, action)).sum(), outputs)
    assert bool(grad.isfinite().all()) and int((grad == 0).sum()) >= int(ruled_out)
