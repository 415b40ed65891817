"""The surrogates: their values, and their gradients at theta_old, alone and as the method pages use them."""

import dataclasses
import inspect
from types import SimpleNamespace

import pytest
import torch

from logpi import METHODS, kl, objective
from logpi.policy.categorical import Categorical

F64 = torch.float64
STEPS, ACTIONS = 40, 3


def randn(*shape, seed=0, dtype=F64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


SURROGATES = {
    "score": lambda new, old, psi: objective.score(new, psi),
    "ratio": objective.ratio,
    "clip": lambda new, old, psi: objective.clip(new, old, psi, 0.2, 0.3),
    "mirror": lambda new, old, psi: objective.mirror(new, old, psi, 0.5),
    "clip - KL / eta": lambda new, old, psi: objective.clip(new, old, psi, 0.1, 0.1) - kl.from_old(new, old) / 0.05,
}


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("name", SURROGATES)
def test_gradient_at_theta_old_is_exactly_psi(name, dtype):
    old, psi = randn(STEPS, seed=1, dtype=dtype), randn(STEPS, seed=2, dtype=dtype)
    new = old.clone().requires_grad_()
    out = SURROGATES[name](new, old, psi)
    (grad,) = torch.autograd.grad(out.sum(), new)
    assert out.dtype == dtype
    assert torch.equal(grad, psi)


@pytest.mark.parametrize("name", [x for x in SURROGATES if x != "score"])
def test_away_from_theta_old_the_gradient_is_another(name):
    old, psi = randn(STEPS, seed=1), randn(STEPS, seed=2)
    new = (old + 0.1 * randn(STEPS, seed=3)).requires_grad_()
    (grad,) = torch.autograd.grad(SURROGATES[name](new, old, psi).sum(), new)
    assert not torch.allclose(grad, psi)


@pytest.mark.parametrize("name", SURROGATES)
def test_leading_axes_are_free(name):
    new, old, psi = (0.3 * randn(2, 3, 5, seed=i) for i in range(3))
    whole = SURROGATES[name](new, old, psi)
    assert whole.shape == (2, 3, 5)
    assert torch.equal(whole[1, 2], SURROGATES[name](new[1, 2], old[1, 2], psi[1, 2]))


def test_ratio_by_hand():
    p, q, psi = (
        torch.tensor([0.5, 0.1]).double(),
        torch.tensor([0.25, 0.4]).double(),
        torch.tensor([3.0, -2.0]).double(),
    )
    torch.testing.assert_close(objective.ratio(p.log(), q.log(), psi), torch.tensor([6.0, -0.5]).double())
    torch.testing.assert_close(objective.score(p.log(), psi), p.log() * psi)


def test_clip_is_the_two_case_form_by_the_sign_of_psi_in_value_and_gradient():
    low, high = 0.2, 0.35
    old, psi = randn(4000, seed=4), randn(4000, seed=5)
    new = (old + 0.5 * randn(4000, seed=6)).requires_grad_()
    rho = (new - old).exp()
    cases = torch.where(psi >= 0, rho.clamp(max=1 + high) * psi, rho.clamp(min=1 - low) * psi)
    out = objective.clip(new, old, psi, low, high)
    torch.testing.assert_close(out, cases)
    (ours,), (theirs,) = (torch.autograd.grad(x.sum(), new, retain_graph=True) for x in (out, cases))
    torch.testing.assert_close(ours, theirs)
    swapped = torch.where(psi >= 0, rho.clamp(max=1 + low) * psi, rho.clamp(min=1 - high) * psi)
    unclipped = rho.clamp(1 - low, 1 + high) * psi  # the bug: no minimum, so a bad move is not paid back
    assert not torch.allclose(out, swapped)
    assert not torch.allclose(out, unclipped)


@pytest.mark.parametrize(
    ("rho", "psi", "paid"),
    [(1.5, 1.0, False), (0.5, 1.0, True), (1.5, -1.0, True), (0.5, -1.0, False), (1.1, 1.0, True)],
)
def test_clip_pays_nothing_for_leaving_and_everything_for_returning(rho, psi, paid):
    new = torch.tensor(rho, dtype=F64).log().requires_grad_()
    out = objective.clip(new, torch.zeros((), dtype=F64), torch.tensor(psi, dtype=F64), 0.2, 0.2)
    (grad,) = torch.autograd.grad(out, new)
    assert float(grad) == pytest.approx(rho * psi if paid else 0.0)


def test_clip_never_exceeds_ratio():
    new, old, psi = randn(500, seed=7), randn(500, seed=8), randn(500, seed=9)
    assert (objective.clip(new, old, psi, 0.2, 0.2) <= objective.ratio(new, old, psi)).all()


@pytest.mark.parametrize("eta", [0.05, 1.0])
def test_mirror_is_ratio_minus_the_estimated_kl_over_eta(eta):
    new, old, psi = randn(50, seed=1), randn(50, seed=2), randn(50, seed=3)
    rho = (new - old).exp()
    torch.testing.assert_close(objective.mirror(new, old, psi, eta), rho * psi - (rho * rho.log() - rho + 1) / eta)


def test_value_error_is_the_square_and_with_a_limit_the_larger_of_two():
    value, target, old = randn(200, seed=1), randn(200, seed=2), randn(200, seed=3)
    torch.testing.assert_close(objective.value_error(value, target), (value - target) ** 2)
    held = torch.maximum(torch.minimum(value, old + 0.2), old - 0.2)
    clipped = torch.maximum((value - target) ** 2, (held - target) ** 2)
    torch.testing.assert_close(objective.value_error(value, target, old, 0.2), clipped)
    assert not torch.allclose(clipped, (value - target) ** 2)
    torch.testing.assert_close(objective.value_error(value, target, old), (value - target) ** 2)


def softmax_rows(seed=0):
    """A table of logits with a gradient, drawn actions, and the batch and `now` that a page's objective reads."""
    head, logits = Categorical(ACTIONS), randn(STEPS, ACTIONS, seed=seed)
    theta = logits.clone().requires_grad_()
    action = head.sample(logits, torch.Generator().manual_seed(seed))
    log_pi = head.log_prob(theta, action)
    now = SimpleNamespace(
        log_pi=log_pi, entropy=head.entropy(theta, action), kl_old=head.kl(logits, theta), kl_new=head.kl(theta, logits)
    )
    log_ref = head.log_prob(randn(STEPS, ACTIONS, seed=seed + 1), action)
    mask = torch.ones(STEPS, dtype=torch.bool)
    b = SimpleNamespace(log_pi=log_pi.detach(), psi=randn(STEPS, seed=seed + 2), log_ref=log_ref, mask=mask)
    return theta, now, b


def gradient(x, theta):
    return torch.autograd.grad(x.sum(), theta, retain_graph=True)[0]


def fields(name):
    return {f.name for f in dataclasses.fields(METHODS[name])}


@pytest.mark.parametrize("coefficient", [0.0, 0.3])
@pytest.mark.parametrize("name", METHODS)
def test_every_page_ascends_psi_and_entropy_at_theta_old(name, coefficient):
    has_entropy = "entropy" in fields(name)
    page = METHODS[name](**{"entropy": coefficient} if has_entropy else {})
    theta, now, b = softmax_rows()
    b.psi = b.psi[:1].expand(STEPS) if name == "gspo" else b.psi  # of a whole row, as its ratio is
    expected = gradient(b.psi * now.log_pi + (coefficient if has_entropy else 0.0) * now.entropy, theta)
    out = page.objective(now, b, {"progress": 0.5})
    assert out.shape == (STEPS,)
    torch.testing.assert_close(gradient(out, theta), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "settings", [{"kl": "estimate"}, {"kl": "exact"}, {"clip": 0.2}, {"clip": 0.2, "kl": "estimate"}]
)
def test_mdpo_in_each_of_its_forms_ascends_psi_at_theta_old(settings):
    theta, now, b = softmax_rows(seed=5)
    out = METHODS["mdpo"](**settings).objective(now, b, {"progress": 1.0})
    torch.testing.assert_close(gradient(out, theta), gradient(b.psi * now.log_pi, theta), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("estimate", ["k1", "k2", "k3"])
@pytest.mark.parametrize("live", [False, True])
def test_grpo_subtracts_beta_times_the_named_estimate(estimate, live):
    theta, now, b = softmax_rows(seed=7)
    out = METHODS["grpo"](kl=0.7, kl_estimate=estimate, kl_live=live).objective(now, b, {"progress": 0.0})
    penalty = getattr(kl, estimate)(now.log_pi, b.log_ref)
    penalty = kl.live(penalty, now.log_pi, b.log_pi) if live else penalty
    torch.testing.assert_close(out, objective.clip(now.log_pi, b.log_pi, b.psi, 0.2, 0.2) - 0.7 * penalty)
    expected = gradient(b.psi * now.log_pi - 0.7 * penalty, theta)
    torch.testing.assert_close(gradient(out, theta), expected, rtol=1e-12, atol=1e-12)


def test_the_weight_of_the_kl_follows_the_state():
    _, now, b = softmax_rows(seed=8)
    now.kl_old, now.kl_new = randn(STEPS, seed=1).square(), randn(STEPS, seed=2).square()
    surrogate = objective.ratio(now.log_pi, b.log_pi, b.psi)
    out = METHODS["ppo_kl"](beta=1.0, entropy=0.0).objective(now, b, {"beta": 3.0})
    torch.testing.assert_close(out, surrogate - 3.0 * now.kl_old)
    for progress, eta in ((0.0, 0.5), (0.5, 0.25), (1.0, 0.05)):
        out = METHODS["mdpo"](eta=0.5, eta_floor=0.05, entropy=0.0).objective(now, b, {"progress": progress})
        torch.testing.assert_close(out, surrogate - now.kl_new / eta)


@pytest.mark.parametrize("name", METHODS)
def test_average_of_every_page_weighs_no_masked_slot(name):
    mask = torch.rand(4, 6, generator=torch.Generator().manual_seed(0)) < 0.6
    weights = METHODS[name]().average(mask)
    assert weights.shape == mask.shape
    assert (weights[~mask] == 0).all()
    assert (weights[mask] > 0).all()


def test_public_keywords_are_those_of_the_design():
    expected = {
        "score": "log_pi psi",
        "ratio": "log_pi log_pi_old psi",
        "clip": "log_pi log_pi_old psi low high",
        "mirror": "log_pi log_pi_old psi eta",
    }
    for name, words in expected.items():
        assert list(inspect.signature(getattr(objective, name)).parameters) == words.split(), name
