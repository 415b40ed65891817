"""The dense product for every shape and stride, and the scalar functions over their whole range."""

import itertools

import numpy as np
import pytest
import torch

pytest.importorskip("numba")

import kernels

from logpi.fast.tile import PAD, WIDTH

SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 16, 17, 31, 33, 64]


def padded(n: int) -> int:
    return -(-n // PAD) * PAD


@pytest.mark.parametrize("turned", [False, True], ids=["rows of A", "columns of A"])
@pytest.mark.parametrize("add", [False, True], ids=["set", "added"])
def test_a_product_of_any_shape_is_numpys_and_writes_whole_tiles_alone(turned: bool, add: bool) -> None:
    g = np.random.default_rng(0)
    for m, n, k in itertools.islice(itertools.product(SIZES, SIZES, SIZES), 0, None, 7):
        tall, wide = m + 8, padded(n)
        a = g.normal(size=(k, tall) if turned else (tall, k + 3)).astype(np.float32)
        b = g.normal(size=(k, wide)).astype(np.float32)
        c = g.normal(size=(tall, wide + PAD)).astype(np.float32)
        before, exact = c.copy(), (a.T if turned else a[:, :k])[:m].astype(float) @ b[:, :n].astype(float)
        kernels.product(a, (1, tall) if turned else (k + 3, 1), b, c, (m, n, k), add)
        exact += before[:m, :n] if add else 0
        assert np.abs(c[:m, :n] - exact).max() < 1e-6 * (2 + k)
        columns = -(-n // WIDTH) * WIDTH
        assert np.array_equal(c[m + 7 :], before[m + 7 :]), "no row further than seven beyond"
        assert np.array_equal(c[:, columns:], before[:, columns:]), "no column beyond the last vector"


def test_tanh_is_torchs_over_the_whole_range() -> None:
    x = np.concatenate([np.linspace(-12, 12, 200_001), 10.0 ** np.linspace(-40, 30, 5001)]).astype(np.float32)
    x = np.concatenate([x, -x, np.float32([0, np.inf, -np.inf, 1e-45, np.nan])])
    with np.errstate(invalid="ignore"):
        y, exact = kernels.tanh(x), np.tanh(x.astype(float))
    assert np.isnan(y[-1]) and np.array_equal(y[-5:-2], [0, y[-4], -y[-4]]) and abs(y[-4] - 1) < 5e-7
    assert np.abs(y - exact)[:-1].max() < 5e-7
    small = (np.abs(x) < 1) & (np.abs(x) > 1e-30)
    assert (np.abs(y - exact)[small] / np.abs(exact[small])).max() < 5e-7


def test_exp_is_right_wherever_it_is_neither_zero_nor_infinite() -> None:
    x = np.linspace(-87.2, 88.3, 400_001).astype(np.float32)
    y, exact = kernels.exp(x), np.exp(x.astype(float))
    off = np.abs(y - exact) / exact
    assert off.max() < 3e-7, f"exp({x[off.argmax()]}) is {y[off.argmax()]}, not {exact[off.argmax()]}"
    assert np.array_equal(kernels.exp(np.float32([0, -0.0, 1e-45, -1e-45])), np.ones(4, np.float32))


def test_exp_beyond_the_floats_is_zero_or_infinite_and_nan_stays() -> None:
    y = kernels.exp(np.float32([89, 1e4, 1e38, np.inf, -89, -1e4, -1e38, -np.inf, np.nan]))
    assert np.isposinf(y[:4]).all() and not y[4:8].any() and np.isnan(y[8])


def test_exp_between_the_last_normal_float_and_the_largest_is_right_or_beyond() -> None:
    x = np.linspace(88.3, 88.72, 2001).astype(np.float32)
    y, exact = kernels.exp(x), np.exp(x.astype(float))
    assert (np.isposinf(y) | (np.abs(y - exact) < 3e-7 * exact)).all() and np.isfinite(y[0])
    x = np.linspace(-104, -87.2, 2001).astype(np.float32)
    assert np.abs(kernels.exp(x) - np.exp(x.astype(float))).max() < 1.3e-38


def test_log_is_right_for_every_normal_float() -> None:
    x = np.concatenate([2.0 ** np.linspace(-125.9, 127.9, 200_001), np.linspace(0.5, 2, 100_001)]).astype(np.float32)
    y, exact = kernels.log(x), np.log(x.astype(float))
    assert (np.abs(y - exact) / np.maximum(np.abs(exact), 1e-3)).max() < 3e-7


def test_digamma_and_trigamma_are_scipys() -> None:
    scipy_special = pytest.importorskip("scipy.special")
    x = np.concatenate([np.linspace(1, 12, 20_001), 10.0 ** np.linspace(0, 12, 2001), [1e-3, 0.1, 0.5]])
    first, second = kernels.gammas(x)
    exact = scipy_special.digamma(x), scipy_special.polygamma(1, x)
    assert (np.abs(first - exact[0]) / np.maximum(1, np.abs(exact[0]))).max() < 1e-11
    assert (np.abs(second - exact[1]) / exact[1]).max() < 1e-10
    assert all(np.isnan(y).all() for y in kernels.gammas(np.array([np.nan])))


def test_fifty_steps_of_adam_are_torchs() -> None:
    generator, size = torch.Generator().manual_seed(0), 333
    theta = torch.randn(size, generator=generator)
    own, m, v = theta.numpy().copy(), np.zeros(size, np.float32), np.zeros(size, np.float32)
    p = torch.nn.Parameter(theta.clone())
    optimizer = torch.optim.Adam([p], lr=3e-3, eps=1e-5, fused=True)
    for step in range(1, 51):
        grad = torch.randn(size, generator=generator) * 10.0 ** torch.randint(-7, 3, (size,), generator=generator)
        rate, shrink = 3e-3 * (1 - step / 60), 1.0 if step % 3 else 0.37
        p.grad, optimizer.param_groups[0]["lr"] = -grad * shrink, rate
        optimizer.step()
        kernels.adam(own, grad.numpy(), m, v, step, (rate, 0.9, 0.999, 1e-5), shrink)
        assert np.abs(own - p.detach().numpy()).max() < 2e-6, step
    kept = optimizer.state[p]
    assert np.allclose(v, kept["exp_avg_sq"].numpy(), rtol=1e-5, atol=1e-12)
    assert np.allclose(np.abs(m), kept["exp_avg"].abs().numpy(), rtol=1e-4, atol=1e-9)


def test_adams_first_moment_has_torchs_sign() -> None:
    """Torch descends: its moment is that of the negative gradient. A checkpoint, or a plain step, takes it over."""
    theta, grad, m, v = (np.full(3, x, np.float32) for x in (0, 2, 0, 0))
    kernels.adam(theta, grad, m, v, 1, (1e-3, 0.9, 0.999, 1e-5), 1.0)
    assert (theta > 0).all() and np.allclose(m, -0.2)
