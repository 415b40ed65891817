"""What the kernels say of actions, and the way back: log pi, entropy, KL(old || pi), KL(pi || old), of every head."""

import math
from typing import Any

import pytest
import torch

pytest.importorskip("numba")

from twins import Asked, batch, check_gradient, fused_gradient, pair, plain_gradient

HEADS = [("categorical", 2), ("categorical", 3), ("categorical", 5), ("categorical", 17)]
HEADS += [(head, d) for head in ("gaussian", "squashed", "beta") for d in (1, 2, 5)]
ANSWERS = ["log_pi", "entropy", "kl_old", "kl_new"]


def page(name: str) -> Any:
    return Asked(lambda now, b: getattr(now, name) * b.psi)


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize(("head", "size"), HEADS)
def test_each_answer_and_its_gradient_are_torchs(head: str, size: int, name: str) -> None:
    policy, critic = pair(head, size, seed=size)
    check_gradient(page(name), policy, critic, batch(policy, 150, seed=size), 2e-5)


@pytest.mark.parametrize(("head", "size"), HEADS)
def test_all_of_them_at_once(head: str, size: int) -> None:
    policy, critic = pair(head, size, seed=size)
    every = Asked(lambda now, b: now.log_pi * b.psi + 2 * now.entropy - 3 * now.kl_old + 5 * now.kl_new * b.reward)
    check_gradient(every, policy, critic, batch(policy, 131, seed=size), 2e-5)


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("size", [2, 17])
@pytest.mark.parametrize("loud", [30.0, 200.0])
def test_extreme_logits(size: int, name: str, loud: float) -> None:
    policy, critic = pair("categorical", size, hidden=(), seed=size)
    b = batch(policy, 140, seed=size, loud=loud)
    assert float(policy(b.obs).detach().abs().max()) > loud / 2
    check_gradient(page(name), policy, critic, b, 2e-5)


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("head", ["gaussian", "squashed", "beta"])
def test_extreme_outputs_of_a_box(head: str, name: str) -> None:
    policy, critic = pair(head, 2, hidden=(), seed=2)
    b = batch(policy, 140, loud=8.0)
    check_gradient(page(name), policy, critic, b, 5e-5)


def test_an_action_that_was_all_but_impossible() -> None:
    policy, critic = pair("categorical", 4, hidden=(), seed=1)
    b = batch(policy, 64, loud=60.0)
    worst = policy(b.obs).argmin(-1)
    b = b.with_(action=worst)
    assert float(policy.log_prob(b.obs, worst).detach().min()) < -60
    for name in ANSWERS:
        check_gradient(page(name), policy, critic, b, 2e-5)


def test_squashed_actions_far_out_have_a_finite_density() -> None:
    policy, critic = pair("squashed", 2, seed=1)
    b = batch(policy, 40)
    b = b.with_(action=torch.cat([b.action[:20] * 40, b.action[20:] * 0]))
    assert float(b.action.abs().max()) > 40
    for name in ("log_pi", "entropy"):
        check_gradient(page(name), policy, critic, b, 2e-5)


def test_beta_actions_at_the_edge_of_the_box() -> None:
    policy, critic = pair("beta", 2, seed=1)
    b, edge = batch(policy, 40), torch.finfo(torch.float32).eps
    b = b.with_(action=torch.where(b.action > 0.5, 1 - edge, edge))
    for name in ANSWERS:
        check_gradient(page(name), policy, critic, b, 2e-5)


@pytest.mark.parametrize(("head", "size"), [("categorical", 3), ("gaussian", 2), ("beta", 2)])
def test_policies_that_are_the_same_have_no_divergence_and_no_slope_of_it(head: str, size: int) -> None:
    policy, critic = pair(head, size)
    b = batch(policy, 50, apart=0.0)
    for name in ("kl_old", "kl_new"):
        check_gradient(page(name), policy, critic, b, 1e-5)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize(("head", "size"), [("categorical", 2), ("categorical", 3), ("gaussian", 2), ("beta", 2)])
def test_what_is_not_finite_in_one_output_is_not_hidden(head: str, size: int, bad: float) -> None:
    policy, critic = pair(head, size)
    b = batch(policy, 9)
    if head == "categorical":
        b = b.with_(action=torch.ones_like(b.action))  # not the action whose logit is ill
    with torch.no_grad():
        policy.network[-1].bias[0] = bad
    for name in ("log_pi", "kl_old") + (("entropy",) if head != "gaussian" else ()):
        value, _ = plain_gradient(page(name), policy, critic, b)
        found, _ = fused_gradient(page(name), policy, critic, b)
        assert math.isfinite(found) == math.isfinite(value), (name, found, value)
