"""The two tables of the appendix of field/language.md, to the digits that are printed there: the same toy, the same seed.

Written in NumPy by other hands before this room was: central differences for the KL's gradient, loops over sequences.
"""

import dataclasses
import math

import pytest
import torch
from torch.autograd import grad

from logpi import kl
from logpi.exact import Choice, Estimator, figures, find, mdp, moments, surrogate_of
from logpi.exact.batches import Draws
from logpi.exact.expectation import coefficients

# KL term: (kl, psi, relative bias to the sequence KL's gradient, to the per-token one, cosine to the first, variance)
KL_TABLE = {
    "k1 in the loss": ("k1", "to_go", "1.00", "1.00", "-", "1.255"),
    "k2 in the loss": ("k2", "to_go", "0.116", "0", "0.995", "0.253"),
    "k3 in the loss": ("k3", "to_go", "0.250", "0.246", "0.969", "0.220"),
    "k3 x live ratio": ("k3_live", "to_go", "0.116", "0", "0.995", "0.253"),
    "k1 in the reward, full sum": ("k1_reward", "total", "0", "0.125", "1.000", "0.716"),
    "k1 in the reward, reward-to-go": ("k1_reward", "to_go", "0", "0.125", "1.000", "0.441"),
    "k3 in the reward, reward-to-go": ("k3_reward", "to_go", "0.926", "0.929", "0.410", "0.077"),
}
# advantage: ((baseline, more), then for the sum, the mean of token means, the token mean: cosine, scale, noise/signal)
AVERAGES = ("per_episode", "per_sequence", "per_action")
REWARD_TABLE = {
    "none (REINFORCE)": (
        {"baseline": "none"},
        ("1.0000, 1.000, 2.02", "0.9920, 0.392, 1.97", "0.9993, 0.465, 1.98"),
    ),
    "minus group mean": (
        {"baseline": "group_mean"},
        ("1.0000, 0.750, 1.82", "0.9363, 0.319, 1.94", "0.9983, 0.353, 1.84"),
    ),
    "leave-one-out": (
        {"baseline": "group_leave_one_out"},
        ("1.0000, 1.000, 1.82", "0.9363, 0.426, 1.94", "0.9983, 0.471, 1.84"),
    ),
    "(minus mean) / (std + 1e-4)": (
        {"baseline": "group_standardised", "correction": 1, "eps": 1e-4},
        ("1.0000, 1.430, 1.80", "0.9363, 0.609, 1.91", "0.9983, 0.675, 1.84"),
    ),
}


def same(found: float, printed: str) -> bool:
    """To the digits printed; '0' is what an enumeration calls 0."""
    if printed == "0":
        return abs(found) < 1e-12
    return f"{found:.{len(printed.split('.')[1])}f}" == printed


@pytest.fixture(scope="module")
def toy():
    return find("sequences")


@pytest.fixture(scope="module")
def silent(toy):
    """Without rewards: the gradient is that of minus the KL."""
    return dataclasses.replace(toy.without_reward(), gamma=1.0)


def test_it_is_the_toy_of_the_appendix(toy):
    """15 sequences, 7 prefixes, sequence KL 0.2004, the norm of its gradient 0.3006, P(reward = 1) = 0.224."""
    assert len(toy.probability) == 15 and len(toy.states) - 2 == 7
    assert abs(float(toy.probability.sum()) - 1) < 1e-12
    d = mdp.visits(toy.table, toy.pi, 1.0, toy.limit).sum(0)
    assert same(float(mdp.kl(toy.pi, toy.ref.softmax(-1), d)), "0.2004")
    assert same(float(toy.kl_gradient().norm()), "0.3006")
    assert same(float(mdp.expected_return(toy.table, toy.pi, 1.0, toy.limit)), "0.224")
    b = toy.batch(toy.every)
    assert set(b.reward.sum(-1).tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("name", KL_TABLE)
def test_the_table_of_kl_terms(silent, name):
    place, psi, *printed = KL_TABLE[name]
    page = Estimator(Choice(kl=place, psi=psi))
    found = moments(silent, surrogate_of(page), page.rows, 1)
    sequence, token = (figures(found, to) for to in silent.directions(beta=1.0))
    assert same(sequence["relative_bias"], printed[0]) and same(token["relative_bias"], printed[1])
    assert same(found.variance, printed[3])
    if printed[2] == "-":  # no direction: the expected gradient is 0
        assert float(found.mean.norm()) < 1e-15 and math.isnan(sequence["cosine"])
    else:
        assert same(sequence["cosine"], printed[2])


def test_k3_with_the_live_ratio_is_k2_sample_by_sample(silent):
    x = silent.every.at(torch.arange(15)[:, None, None])  # batches of one
    draws = Draws(x, torch.ones(15))
    each = {
        kl: coefficients(silent, surrogate_of(Estimator(Choice(kl=kl))), "episodes", draws)
        for kl in ("k2", "k3_live", "k3")
    }
    assert torch.allclose(each["k2"], each["k3_live"], rtol=0, atol=1e-14)
    assert not torch.allclose(each["k2"], each["k3"], rtol=0, atol=1e-2)


@pytest.mark.parametrize("name", REWARD_TABLE)
def test_the_table_of_rewards_in_groups_of_four(toy, name):
    """Cosine with the true gradient, scale, noise over signal; over all 15^4 groups, each order counted."""
    more, printed = REWARD_TABLE[name]
    for average, three in zip(AVERAGES, printed, strict=True):
        page = Estimator(Choice(psi="total", average=average, **more))
        found = moments(toy, surrogate_of(page), "groups", 4, symmetric=True)
        told = figures(found, toy.directions()[0])
        cosine, scale, noise = three.split(", ")
        assert same(told["cosine"], cosine), (average, told)
        assert same(told["scale"], scale), (average, told)
        assert same(1 / told["snr"], noise), (average, told)


def test_another_std_or_eps_is_another_table(toy):
    """The population's std, or the library's own eps of 1e-6, gives other digits: the table tells them apart."""
    for more in ({"correction": 0, "eps": 1e-4}, {"correction": 1, "eps": 1e-2}):
        page = Estimator(Choice(psi="total", baseline="group_standardised", **more))
        found = moments(toy, surrogate_of(page), "groups", 4, symmetric=True)
        assert not same(figures(found, toy.directions()[0])["scale"], "1.430")


# The KL estimates by hand, over the actions of one state (the proofs that test_claims names)
F64 = torch.float64
ESTIMATES = {"k1": (kl.k1, True, "zero"), "k2": (kl.k2, False, "forward"), "k3": (kl.k3, True, "reverse")}


def near(a, b):
    return float((a - b).abs().max()) < 1e-12


def normal(*shape, seed=0):
    return torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def by_actions(estimate, z, other, drawn):
    """(value, gradient in z) of E_{a ~ drawn} estimate(log pi, log other, log drawn), in one state."""
    z = z.clone().requires_grad_(True)
    value = (drawn.softmax(-1) * estimate(*(x.log_softmax(-1) for x in (z, other, drawn)))).sum()
    return value.detach(), grad(value, z)[0]


def exactly(z, other):
    """(KL(z || other), its gradient in z, that of KL(other || z))."""
    z = z.clone().requires_grad_(True)
    value = kl.categorical(z, other)
    return value.detach(), grad(value, z, retain_graph=True)[0], grad(kl.categorical(other, z), z)[0]


def test_the_estimates_on_policy():
    for seed in (0, 10, 20):
        z, other = normal(4, seed=seed), normal(4, seed=seed + 1)
        value, forward, reverse = exactly(z, other)
        slopes = {"zero": torch.zeros(4, dtype=F64), "forward": forward, "reverse": reverse}
        for estimate, right, slope in ESTIMATES.values():
            found, slanted = by_actions(lambda p, q, _, f=estimate: f(p, q), z, other, z)
            assert near(found, value) is right and [k for k, x in slopes.items() if near(slanted, x)] == [slope]
    p, q = z.log_softmax(-1), (z + 0.1 * other).log_softmax(-1)
    spread = {k: float((p.exp() * f(p, q).square()).sum() - (p.exp() * f(p, q)).sum() ** 2) for k, (f, *_) in ESTIMATES.items()}  # fmt: skip
    assert spread["k1"] > 10 * spread["k3"] and spread["k1"] > 10 * spread["k2"]  # noisy, where the two are near
    x = torch.linspace(-20, 20, 401, dtype=F64)
    assert bool((kl.k3(x, 0 * x) >= 0).all()) and bool((kl.k1(x, 0 * x) < 0).any())


def test_live_makes_what_is_right_in_value_right_in_gradient():
    for z, other, old in ((normal(4, seed=s), normal(4, seed=s + 1), normal(4, seed=s + 2)) for s in (0, 10)):
        value, forward, _ = exactly(z, other)
        for f, right, _ in ESTIMATES.values():
            found, slope = by_actions(lambda p, q, mu, f=f: kl.live(f(p, q), p, mu), z, other, old)
            assert near(found, value) is right and near(slope, forward) is right
            found, slope = by_actions(lambda p, q, mu, f=f: f(p, q), z, other, old)
            assert not near(found, value) and not near(slope, forward)


def test_from_old_is_right_both_ways():
    for z, old in ((normal(4, seed=s), normal(4, seed=s + 1)) for s in (0, 10)):
        value, forward, _ = exactly(z, old)
        found, slope = by_actions(lambda p, q, mu: kl.from_old(p, mu), z, old, old)
        assert near(found, value) and near(slope, forward)
    x = torch.linspace(-20, 5, 301, dtype=F64)
    assert bool((kl.from_old(x, 0 * x) >= 0).all())
