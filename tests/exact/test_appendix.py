"""The two tables of the appendix of field/language.md, to the digits that are printed there: the same toy, the same seed.

Written in NumPy by other hands before this room was: central differences for the KL's gradient, loops over sequences.
"""

import dataclasses
import math

import pytest
import torch

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
    kl, psi, *printed = KL_TABLE[name]
    page = Estimator(Choice(kl=kl, psi=psi))
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
