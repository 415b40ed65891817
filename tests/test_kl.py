"""KL against torch.distributions and numerical integration; the estimates by enumeration over a softmax."""

import inspect

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributions as td

from logpi import kl

F64 = torch.float64
CLOSE = {"rtol": 1e-11, "atol": 1e-12}


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def categorical(p):
    return td.Categorical(logits=p)


def gaussian(p):
    mean, log_std = p.chunk(2, -1)
    return td.Independent(td.Normal(mean, log_std.exp()), 1)


def beta(p):
    return td.Independent(td.Beta(*p.chunk(2, -1)), 1)


def beta_params(x):
    return 1 + torch.nn.functional.softplus(x)


FAMILIES = {
    "categorical": (kl.categorical, categorical, lambda x: x),
    "gaussian": (kl.gaussian, gaussian, lambda x: x / 2),
    "beta": (kl.beta, beta, beta_params),
}


def pair(name, *shape, seed=0):
    make = FAMILIES[name][2]
    return make(randn(*shape, seed=seed)), make(randn(*shape, seed=seed + 100))


@pytest.mark.parametrize("name", FAMILIES)
def test_exact_kl_is_that_of_torch_distributions(name):
    ours, family, _ = FAMILIES[name]
    p, q = pair(name, 5, 3, 6)
    expected = td.kl_divergence(family(p), family(q))
    torch.testing.assert_close(ours(p, q), expected, **CLOSE)
    assert not torch.allclose(ours(q, p), expected)  # the direction matters


@pytest.mark.parametrize("name", ["gaussian", "beta"])
def test_exact_kl_is_the_integral(name):
    """E_p[log p - log q] on a fine grid, one dimension."""
    ours, family, _ = FAMILIES[name]
    x = (
        torch.linspace(-12, 12, 20_001, dtype=F64)
        if name == "gaussian"
        else torch.linspace(0, 1, 200_003, dtype=F64)[1:-1]
    )
    for seed in range(4):
        p, q = pair(name, 2, seed=seed)
        log_p, log_q = (family(z).log_prob(x[:, None]) for z in (p, q))
        integral = torch.trapezoid(log_p.exp() * (log_p - log_q), x)
        torch.testing.assert_close(ours(p, q), integral, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", FAMILIES)
def test_kl_of_equals_is_0_with_gradient_0(name):
    p, _ = pair(name, 4, 6)
    q = p.clone().requires_grad_()
    for value in (FAMILIES[name][0](p, q), FAMILIES[name][0](q, p)):
        torch.testing.assert_close(value, torch.zeros(4, dtype=F64), atol=1e-13, rtol=0)
        torch.testing.assert_close(
            torch.autograd.grad(value.sum(), q)[0], torch.zeros(4, 6, dtype=F64), atol=1e-13, rtol=0
        )


@pytest.mark.parametrize("name", FAMILIES)
@settings(derandomize=True, database=None, deadline=None, max_examples=50)
@given(st.lists(st.floats(-8, 8), min_size=12, max_size=12), st.floats(0, 1))
def test_kl_is_never_negative(name, numbers, nearness):
    ours, _, make = FAMILIES[name]
    x, y = torch.tensor(numbers, dtype=F64).view(2, 6)
    p, q = make(x), make(x + nearness * (y - x))
    assert ours(p, q) >= -1e-11
    assert ours(p, q).isfinite()


def test_the_first_argument_is_the_one_that_the_mean_is_over():
    narrow, wide = torch.tensor([0.0, -1e4]).double(), torch.tensor([0.0, 0.0]).double()
    torch.testing.assert_close(kl.categorical(narrow, wide), torch.tensor(2.0).double().log())
    assert kl.categorical(wide, narrow) > 1000


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_float_type_is_kept_and_leading_axes_are_free(name, dtype):
    p, q = (x.to(dtype) for x in pair(name, 2, 3, 6))
    out = FAMILIES[name][0](p, q)
    assert out.dtype == dtype
    assert out.shape == (2, 3)
    torch.testing.assert_close(out[1, 2], FAMILIES[name][0](p[1, 2], q[1, 2]))


def masked(p):
    return torch.cat([p[..., :2], torch.full_like(p[..., :1], -torch.inf), p[..., 2:]], -1)


def test_actions_of_probability_0_count_nothing():
    p, q = randn(5, 3, seed=1), randn(5, 3, seed=2)
    torch.testing.assert_close(kl.categorical(masked(p), masked(q)), kl.categorical(p, q), **CLOSE)
    only_p = kl.categorical(masked(p), torch.cat([q, q[..., :1]], -1))
    assert only_p.isfinite().all()


@pytest.mark.parametrize("side", ["p", "q", "both"])
def test_the_gradient_at_minus_infinity_is_0_and_elsewhere_that_without_the_action(side):
    p, q = randn(5, 3, seed=1), randn(5, 3, seed=2)
    full = [masked(x).requires_grad_(side in (name, "both")) for name, x in (("p", p), ("q", q))]
    less = [x.clone().requires_grad_(side in (name, "both")) for name, x in (("p", p), ("q", q))]
    for a, b in zip(full, less, strict=True):
        if a.requires_grad:
            (ours,) = torch.autograd.grad(kl.categorical(*full).sum(), a, retain_graph=True)
            (theirs,) = torch.autograd.grad(kl.categorical(*less).sum(), b, retain_graph=True)
            assert (ours[:, 2] == 0).all()
            torch.testing.assert_close(ours[:, [0, 1, 3]], theirs, **CLOSE)


class Table:
    """A softmax of 4 actions with live logits, an older and another one; expectations are sums over the actions."""

    def __init__(self, seed):
        self.theta = randn(4, seed=seed).requires_grad_()
        self.log_pi = self.theta.log_softmax(-1)
        self.pi = self.log_pi.detach().exp()
        self.other, self.log_old = (randn(4, seed=seed + i).log_softmax(-1) for i in (10, 20))

    def gradient(self, x):
        return torch.autograd.grad(x, self.theta, retain_graph=True)[0]

    def mean(self, estimate, weight):
        """(E[estimate], E[gradient of estimate]): the actions are drawn from a fixed weight."""
        total = (weight * estimate).sum()
        return total.detach(), self.gradient(total)

    @property
    def forward(self):
        """KL(pi || other) and its gradient."""
        exact = (self.log_pi.exp() * (self.log_pi - self.other)).sum()
        return exact.detach(), self.gradient(exact)

    @property
    def backward(self):
        """KL(other || pi) and its gradient."""
        exact = (self.other.exp() * (self.other - self.log_pi)).sum()
        return exact.detach(), self.gradient(exact)


tables = pytest.mark.parametrize("t", [Table(s) for s in range(3)], ids=range(3))


@tables
def test_k1_is_unbiased_in_value_with_gradient_zero(t):
    value, grad = t.mean(kl.k1(t.log_pi, t.other), t.pi)
    torch.testing.assert_close(value, t.forward[0], **CLOSE)
    torch.testing.assert_close(grad, torch.zeros(4, dtype=F64), **CLOSE)
    assert t.forward[1].abs().max() > 0.01


@tables
def test_k2_is_biased_in_value_with_the_gradient_of_kl_pi_other(t):
    value, grad = t.mean(kl.k2(t.log_pi, t.other), t.pi)
    assert not torch.allclose(value, t.forward[0], rtol=1e-3)
    torch.testing.assert_close(grad, t.forward[1], **CLOSE)


@tables
def test_k3_is_unbiased_in_value_with_the_gradient_of_kl_other_pi(t):
    value, grad = t.mean(kl.k3(t.log_pi, t.other), t.pi)
    torch.testing.assert_close(value, t.forward[0], **CLOSE)
    torch.testing.assert_close(grad, t.backward[1], **CLOSE)
    assert not torch.allclose(grad, t.forward[1])


@tables
def test_k1_in_the_reward_gives_the_gradient_of_kl_pi_other(t):
    _, grad = t.mean(t.log_pi * kl.k1(t.log_pi, t.other).detach(), t.pi)
    torch.testing.assert_close(grad, t.forward[1], **CLOSE)


@tables
def test_from_old_is_unbiased_in_value_and_gradient_off_policy(t):
    value, grad = t.mean(kl.from_old(t.log_pi, t.log_old), t.log_old.exp())
    exact = (t.log_pi.exp() * (t.log_pi - t.log_old)).sum()
    torch.testing.assert_close(value, exact.detach(), **CLOSE)
    torch.testing.assert_close(grad, t.gradient(exact), **CLOSE)


@tables
@pytest.mark.parametrize("estimate", [kl.k1, kl.k3])
def test_live_corrects_what_is_unbiased_in_value_for_actions_of_the_old_policy(t, estimate):
    plain = estimate(t.log_pi, t.other)
    value, grad = t.mean(kl.live(plain, t.log_pi, t.log_old), t.log_old.exp())
    torch.testing.assert_close(value, t.forward[0], **CLOSE)
    torch.testing.assert_close(grad, t.forward[1], **CLOSE)
    value, grad = t.mean(plain, t.log_old.exp())  # uncorrected, off policy: neither
    assert not torch.allclose(value, t.forward[0], rtol=1e-3)
    assert not torch.allclose(grad, t.forward[1], rtol=1e-3)


def test_k3_and_from_old_are_never_negative_and_k1_can_be():
    a, b = randn(2000, seed=1), randn(2000, seed=2)
    assert (kl.k3(a, b) >= 0).all()
    assert (kl.from_old(a, b) >= 0).all()
    assert (kl.k1(a, b) < 0).any()


@pytest.mark.parametrize("gap", [1e-4, -1e-4, 1e-7])
def test_close_policies_lose_no_digits(gap):
    x = torch.tensor(gap, dtype=F64)
    zero = torch.zeros((), dtype=F64)
    for estimate in (kl.k2, kl.k3, kl.from_old):
        torch.testing.assert_close(estimate(x, zero), x**2 / 2, rtol=3e-4, atol=0)


@pytest.mark.parametrize("f", [kl.k1, kl.k2, kl.k3, kl.from_old])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_estimates_keep_shape_and_float_type(f, dtype):
    out = f(randn(2, 3, 4).to(dtype), randn(2, 3, 4, seed=1).to(dtype))
    assert out.shape == (2, 3, 4)
    assert out.dtype == dtype


def test_public_keywords_are_those_of_the_design():
    for f in (kl.k1, kl.k2, kl.k3):
        assert list(inspect.signature(f).parameters) == ["log_pi", "log_other"]
