"""Every head: a density over the environment's own actions, sampled, differentiated and compared as such."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from scipy import stats
from torch import distributions as td

from logpi.policy.heads import head_for

F64 = torch.float64
LOW, HIGH = [-2.0, 0.5], [1.0, 4.0]  # two sides of different width
BOXES = ("gaussian", "squashed", "beta")
HEADS = ("categorical", *BOXES)
PARAMS = {
    "categorical": [[0.3, -1.0, 1.2, 0.0], [2.0, 0.1, -0.4, -3.0]],
    "gaussian": [[0.3, -0.5, 0.1, -0.7], [-1.0, 0.8, -0.4, 0.3]],
    "squashed": [[0.3, -0.5, 0.1, -0.7], [-1.0, 0.8, -0.4, 0.3]],
    "beta": [[1.5, 3.0, 2.5, 1.2], [4.0, 1.1, 1.7, 2.0]],
}


def box(dims=2, dtype=np.float64):
    return spaces.Box(np.array(LOW[:dims], dtype), np.array(HIGH[:dims], dtype), dtype=dtype)


def head(name, dims=2):
    made = head_for(spaces.Discrete(4)) if name == "categorical" else head_for(box(dims), name)
    return made.double()


def params(name, row=0):
    return torch.tensor(PARAMS[name][row], dtype=F64)


def one_dim(name, row=0):
    """The head and parameters of the first dimension alone."""
    return head(name, 1), params(name, row)[::2]


def grid(name):
    """Raw actions that cover one dimension finely, [N, 1]."""
    ends = {"gaussian": (-14, 14), "squashed": (-14, 14), "beta": (0, 1)}[name]
    x = torch.linspace(*ends, 100_003, dtype=F64)[:, None]
    return x[1:-1]


def env(h, name, raw):
    """The environment's action, unclipped: the Gaussian's density reaches beyond the Box."""
    return (raw if name == "gaussian" else h.to_env(raw))[:, 0]


def integrate(f, h, name):
    """The integral of f over the environment's actions (not over the raw ones: the Jacobian is the test's own)."""
    raw = grid(name)
    return torch.trapezoid(f(raw), env(h, name, raw), dim=0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_categorical_probabilities_sum_to_1():
    h, p = head("categorical"), params("categorical")
    log_p = h.log_prob(p.expand(4, 4), torch.arange(4))
    torch.testing.assert_close(log_p.exp().sum(), torch.ones((), dtype=F64))
    torch.testing.assert_close(log_p, td.Categorical(logits=p).log_prob(torch.arange(4)))


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("name", BOXES)
def test_the_density_over_the_environments_actions_integrates_to_1(name, row):
    h, p = one_dim(name, row)
    total = integrate(lambda raw: h.log_prob(p, raw).exp(), h, name)
    torch.testing.assert_close(total, torch.ones((), dtype=F64), atol=2e-6, rtol=0)
    if name != "gaussian":  # over the raw action it does not: the Jacobian is in log_prob
        raw = grid(name)
        assert abs(float(torch.trapezoid(h.log_prob(p, raw).exp(), raw[:, 0])) - 1) > 0.01


@pytest.mark.parametrize("name", BOXES)
def test_log_prob_sums_over_the_dimensions(name):
    h, p = head(name), params(name)
    raw = h.sample(p.expand(50, 4), generator())
    singles = []
    for d in (0, 1):
        side = spaces.Box(np.array(LOW[d : d + 1]), np.array(HIGH[d : d + 1]), dtype=np.float64)
        singles.append(head_for(side, name).double().log_prob(p[d::2], raw[:, d : d + 1]))
    torch.testing.assert_close(h.log_prob(p, raw), sum(singles))


def test_log_prob_is_that_of_torch_distributions():
    raw = torch.tensor([[0.3, 0.6], [0.9, 0.01]], dtype=F64)
    g, s, b = (params(name) for name in BOXES)
    width = torch.tensor(HIGH, dtype=F64) - torch.tensor(LOW, dtype=F64)
    normal = td.Normal(g[:2], g[2:].exp())
    to_box = [td.AffineTransform(torch.tensor(LOW, dtype=F64) + width / 2, width / 2)]
    squashed = td.TransformedDistribution(td.Normal(s[:2], s[2:].exp()), [td.TanhTransform(), *to_box])
    torch.testing.assert_close(head("gaussian").log_prob(g, raw), normal.log_prob(raw).sum(-1))
    h = head("squashed")
    torch.testing.assert_close(h.log_prob(s, raw), squashed.log_prob(h.to_env(raw)).sum(-1))
    beta = td.Beta(b[:2], b[2:]).log_prob(raw) - width.log()
    torch.testing.assert_close(head("beta").log_prob(b, raw), beta.sum(-1))


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("name", HEADS)
def test_samples_follow_log_prob(name, row):
    n = 20_000
    if name == "categorical":
        h, p = head(name), params(name, row)
        counts = torch.bincount(h.sample(p.expand(n, 4), generator()), minlength=4)
        assert stats.chisquare(counts.numpy(), (n * p.softmax(-1)).numpy()).pvalue > 1e-3
        assert stats.chisquare(counts.numpy(), (n * (p / 1.2).softmax(-1)).numpy()).pvalue < 1e-3  # it can fail
        return
    h, p = one_dim(name, row)
    drawn = env(h, name, h.sample(p.expand(n, 2), generator())).numpy()
    x, density = env(h, name, grid(name)), h.log_prob(p, grid(name)).exp()
    cdf = torch.cumulative_trapezoid(density, x).numpy()
    assert stats.kstest(drawn, lambda a: np.interp(a, x[1:].numpy(), cdf)).pvalue > 1e-3
    assert stats.kstest(drawn + 0.08, lambda a: np.interp(a, x[1:].numpy(), cdf)).pvalue < 1e-3  # it can fail


@pytest.mark.parametrize("name", HEADS)
def test_sampling_uses_its_own_generator_and_leaves_the_global_one(name):
    h, p = head(name), params(name).expand(20, 4)
    before = torch.random.get_rng_state()
    first, again, other = (h.sample(p, generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", HEADS)
def test_shapes_with_free_leading_axes(name):
    h, p = head(name), params(name).expand(3, 5, 4)
    raw = h.sample(p, generator())
    assert raw.shape == (3, 5, *h.action_shape)
    assert raw.dtype == (h.action_dtype or F64)
    for out in (h.log_prob(p, raw), h.entropy(p, raw), h.kl(p, p)):
        assert out.shape == (3, 5)
    assert h.fisher(p, p).shape == h(torch.zeros(3, 5, h.outputs, dtype=F64)).shape == (3, 5, 4)
    assert h.to_env(raw).shape == (3, 5, *(() if name == "categorical" else (2,)))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("name", HEADS)
def test_the_float_type_is_kept(name, dtype):
    h, p = head(name).to(dtype), params(name).to(dtype)
    raw = h.sample(p, generator())
    for out in (
        h.log_prob(p, raw),
        h.entropy(p, raw),
        h.kl(p, p),
        h.fisher(p, p),
        h(torch.zeros(h.outputs, dtype=dtype)),
    ):
        assert out.dtype == dtype


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("name", ["categorical", "gaussian", "beta"])
def test_entropy_in_closed_form_is_that_of_torch_distributions(name, row):
    h, p = head(name), params(name, row)
    family = {
        "categorical": lambda: td.Categorical(logits=p).entropy(),
        "gaussian": lambda: td.Normal(p[:2], p[2:].exp()).entropy().sum(-1),
        "beta": lambda: (td.Beta(p[:2], p[2:]).entropy() + torch.tensor([3.0, 3.5], dtype=F64).log()).sum(-1),
    }
    torch.testing.assert_close(h.entropy(p, None), family[name]())


def test_entropy_of_a_squashed_gaussian_is_estimated_without_bias_in_value_and_gradient():
    h, p = one_dim("squashed")
    p = p.clone().requires_grad_()

    def minus_p_log_p(raw):
        log_p = h.log_prob(p, raw)
        return -log_p.exp() * log_p

    exact = integrate(minus_p_log_p, h, "squashed")
    (exact_grad,) = torch.autograd.grad(exact, p)
    noise = torch.linspace(-9, 9, 20_001, dtype=F64)[:, None]
    mean, log_std = p.detach().chunk(2)
    estimate = h.entropy(p.expand(len(noise), 2), mean + log_std.exp() * noise)
    average = torch.trapezoid(td.Normal(0.0, 1.0).log_prob(noise[:, 0]).exp() * estimate, noise[:, 0])
    torch.testing.assert_close(average, exact, rtol=1e-5, atol=1e-6)
    (grad,) = torch.autograd.grad(average, p)
    torch.testing.assert_close(grad, exact_grad, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="actions"):
        h.entropy(p)


def fisher_matrix(h, p):
    eye = torch.eye(len(p), dtype=F64)
    return h.fisher(p.expand(len(p), len(p)), eye)


def outer_scores(h, name, p):
    """E[score score'] over the environment's actions, by enumeration or by quadrature."""

    def scores(raw):
        leaf = p.expand(len(raw), len(p)).clone().requires_grad_()
        log_p = h.log_prob(leaf, raw)
        (s,) = torch.autograd.grad(log_p.sum(), leaf)
        return log_p.detach().exp()[:, None, None] * s[:, :, None] * s[:, None, :]

    if name == "categorical":
        return scores(torch.arange(4)).sum(0)
    return integrate(lambda raw: scores(raw).flatten(1), h, name).view(len(p), len(p))


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("name", HEADS)
def test_fisher_is_the_mean_outer_product_of_the_score(name, row):
    h, p = (head(name), params(name, row)) if name == "categorical" else one_dim(name, row)
    torch.testing.assert_close(fisher_matrix(h, p), outer_scores(h, name, p), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("side", ["old_new", "new_old"])
@pytest.mark.parametrize("name", HEADS)
def test_fisher_is_the_hessian_of_the_kl_at_equality(name, side):
    h, p = head(name), params(name)
    kl = (lambda q: h.kl(p, q)) if side == "old_new" else (lambda q: h.kl(q, p))
    hessian = torch.autograd.functional.hessian(kl, p.clone())
    torch.testing.assert_close(fisher_matrix(h, p), hessian, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", HEADS)
def test_kl_is_the_mean_log_ratio(name):
    h, p, q = (
        (head(name), params(name), params(name, 1)) if name == "categorical" else (*one_dim(name), one_dim(name, 1)[1])
    )

    def gain(raw):
        log_p, log_q = (h.log_prob(x.expand(len(raw), len(x)), raw) for x in (p, q))
        return log_p.exp() * (log_p - log_q)

    expected = gain(torch.arange(4)).sum() if name == "categorical" else integrate(gain, h, name)
    torch.testing.assert_close(h.kl(p, q), expected, rtol=1e-5, atol=1e-6)


def test_squashing_slope_is_exact_far_out():
    h = head_for(spaces.Box(-1.0, 1.0, (1,), np.float64), "squashed").double()
    u = torch.cat([torch.linspace(-20, 20, 4001, dtype=F64), torch.tensor([-300.0, 300.0], dtype=F64)])
    p = torch.zeros(2, dtype=F64)
    normal = -u.square() / 2 - 0.5 * math.log(2 * math.pi)
    slope = 2 * (math.log(2) - np.logaddexp(u.numpy(), -u.numpy()))  # log(1 - tanh^2 u)
    torch.testing.assert_close(normal - h.log_prob(p, u[:, None]), torch.from_numpy(slope), rtol=1e-12, atol=1e-12)
    naive = (1 - u.tanh().square()).log()
    assert not naive.isfinite().all()  # what the definition taken literally gives
    assert h.float().log_prob(torch.zeros(2), torch.tensor([[20.0], [-20.0]])).isfinite().all()


@pytest.mark.parametrize("name", HEADS)
def test_the_mode_is_the_deterministic_action(name):
    h, p = head(name), params(name)
    mode = h.mode(p)
    if name == "squashed":  # the image of the mean, not the density's own mode
        assert torch.equal(mode, p[:2])
        return
    others = (
        torch.arange(4)
        if name == "categorical"
        else (mode + 0.01 * torch.randn(200, 2, generator=generator(), dtype=F64))
    )
    assert (h.log_prob(p, mode) >= h.log_prob(p.expand(len(others), 4), others)).all()
