"""What is unbiased and what is not, every factor of every estimator: to 1e-10 against the linear solves."""

from functools import cache
from typing import get_args

import pytest
import torch

from logpi.errors import LogpiError
from logpi.exact import Choice, Estimator, check, estimators, figures, find, from_table, moments, surrogate_of
from logpi.exact.bench import table as bench_table
from logpi.exact.problems import changed, five_states

G = {"gamma": 0.9}
PROBLEMS = {
    "five-states": lambda: find("five-states"),
    "a critic that errs": lambda: changed(find("five-states"), critic_error=0.5),
    "a network": lambda: changed(find("five-states"), hidden=(4,)),
    "sequences": lambda: changed(find("sequences"), gamma=0.9),
    "prompts": lambda: changed(find("prompts"), gamma=0.9),
}
# unbiased wherever an episode ends, whatever the critic says
ALWAYS = {
    "to_go": Choice(**G),
    "total": Choice(psi="total", **G),
    "gae, all rewards": Choice(psi="gae", lam=1.0, **G),
    "n_step, all rewards": Choice(psi="n_step", n=9, **G),
    "vtrace, all rewards": Choice(psi="vtrace", lam=1.0, **G),
    "constant": Choice(baseline="constant", constant=3.0, **G),
    "constant, total": Choice(psi="total", baseline="constant", **G),
    "value": Choice(baseline="value", **G),
    "leave_one_out": Choice(baseline="leave_one_out", **G),
    "group_leave_one_out": Choice(psi="total", baseline="group_leave_one_out", **G),
    "ratio": Choice(objective="ratio", **G),
    "clip": Choice(objective="clip", **G),
    "mirror": Choice(objective="mirror", baseline="leave_one_out", **G),
    "clipped_weight": Choice(objective="clipped_weight", **G),
    "k1 in the loss": Choice(kl="k1", **G),  # adds nothing
}
# with the true V and Q
TRUE_CRITIC = {
    "td": Choice(psi="td", **G),
    "n_step": Choice(psi="n_step", **G),
    "gae": Choice(psi="gae", **G),
    "vtrace": Choice(psi="vtrace", lam=0.5, **G),
    "q": Choice(psi="q", **G),
    "advantage": Choice(psi="advantage", **G),
}
# name: (choice, the least relative bias, whether the direction is right all the same), on five states
BIASED = {
    "no gamma^t": (Choice(from_start=False, **G), 0.1, False),
    "another gamma": (Choice(gamma=1.0), 0.1, False),
    "mean": (Choice(baseline="mean", **G), 0.3, False),
    "time": (Choice(baseline="time", **G), 0.5, False),
    "optimal": (Choice(baseline="optimal", **G), 0.5, False),
    "standardised": (Choice(baseline="standardised", **G), 0.5, False),
    "group_mean": (Choice(psi="total", baseline="group_mean", **G), 0.4999, True),
    "group_standardised": (Choice(psi="total", baseline="group_standardised", **G), 0.3, False),
    "sequence_clip": (Choice(objective="sequence_clip", **G), 0.2, False),
    "per_action": (Choice(average="per_action", **G), 0.5, False),
    "per_sequence": (Choice(average="per_sequence", **G), 0.5, False),
    "per_budget": (Choice(average="per_budget", **G), 0.7499, True),
    "k2": (Choice(kl="k2", **G), 0.1, False),
    "k3": (Choice(kl="k3", **G), 0.1, False),
    "k1_live": (Choice(kl="k1_live", **G), 0.1, False),
    "k2_live": (Choice(kl="k2_live", **G), 0.1, False),
    "k3_live": (Choice(kl="k3_live", **G), 0.1, False),
    "exact": (Choice(kl="exact", **G), 0.1, False),
    "k1_reward": (Choice(kl="k1_reward", **G), 0.1, False),
    "k2_reward": (Choice(kl="k2_reward", **G), 0.1, False),
    "k3_reward": (Choice(kl="k3_reward", **G), 0.02, False),
}


@cache
def problem(name):
    return PROBLEMS[name]()


def told(choice, where, rows=2, to=None):
    page = Estimator(choice)
    found = moments(where, surrogate_of(page), page.rows, rows, symmetric=True)
    return figures(found, to or where.directions()[0])


@pytest.mark.parametrize("where", PROBLEMS)
def test_these_are_unbiased_whatever_the_critic_says(where):
    biases = {name: told(choice, problem(where))["relative_bias"] for name, choice in ALWAYS.items()}
    assert all(x <= 1e-10 for x in biases.values()), biases


@pytest.mark.parametrize("where", ["five-states", "a network", "sequences", "prompts"])
def test_and_these_with_the_true_values(where):
    biases = {name: told(choice, problem(where))["relative_bias"] for name, choice in TRUE_CRITIC.items()}
    assert all(x <= 1e-10 for x in biases.values()), biases


def test_but_not_with_those_of_a_critic_that_errs():
    where = problem("a critic that errs")
    biases = {name: told(choice, where)["relative_bias"] for name, choice in TRUE_CRITIC.items()}
    assert all(x > 1e-3 for x in biases.values()), biases
    twice = changed(find("five-states"), critic_error=1.0)
    for name in ("td", "q", "gae"):  # the bias is as large as the error
        assert told(TRUE_CRITIC[name], twice)["relative_bias"] == pytest.approx(2 * biases[name], rel=1e-9)


@pytest.mark.parametrize("name", BIASED)
def test_these_are_biased_by_at_least_so_much(name):
    choice, least, right_direction = BIASED[name]
    found = told(choice, problem("five-states"))
    assert found["relative_bias"] > least
    assert (abs(found["cosine"] - 1) < 1e-12) is right_direction


def test_no_factor_is_left_unjudged():
    """Whatever a choice can be is in one of the lists above: unbiased, or biased by a known amount."""
    every = [*ALWAYS.values(), *TRUE_CRITIC.values(), *(c for c, _, _ in BIASED.values())]
    kinds = {
        "psi": estimators.Credit,
        "objective": estimators.Form,
        "average": estimators.Average,
        "kl": estimators.KL,
    }
    for field, kind in kinds.items():
        assert {getattr(c, field) for c in every} == set(get_args(kind))
    baselines = {*get_args(estimators.Alone), *get_args(estimators.Grouped)}
    assert {c.baseline for c in every} == baselines


def test_without_gamma_t_it_is_the_other_direction_and_that_exactly():
    where = problem("five-states")
    _, without, undiscounted = where.directions()
    for choice in (Choice(from_start=False, **G), Choice(psi="advantage", from_start=False, **G)):
        assert told(choice, where, to=without)["relative_bias"] < 1e-12
    assert told(Choice(gamma=1.0), where, to=undiscounted)["relative_bias"] < 1e-12


KL_OF = {  # name: (unbiased for the KL of whole episodes, for that with the visits held)
    "k1": (False, False),
    "k2": (False, True),
    "k3": (False, False),
    "k1_live": (False, True),
    "k2_live": (False, False),
    "k3_live": (False, True),
    "exact": (False, True),
    "k1_reward": (True, False),
    "k2_reward": (False, False),
    "k3_reward": (False, False),
}


@pytest.mark.parametrize("where", ["five-states", "sequences", "a network"])
@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_where_a_kl_is_put_decides_which_gradient_it_has(where, beta):
    """With rewards, discounted; the KL is not, so it is not put into a discounted reward."""
    here = problem(where)
    for name in get_args(estimators.KL)[1:]:
        in_reward = name.endswith("_reward")
        gamma = 1.0 if in_reward else 0.9
        choice = Choice(kl=name, beta=beta, gamma=gamma)
        at = changed(here, gamma=gamma)
        whole, held = (told(choice, at, 1, to)["relative_bias"] < 1e-10 for to in at.directions(beta))
        assert (whole, held) == KL_OF[name], name


def test_a_group_that_is_its_own_mean_keeps_g_minus_1_of_g():
    for G_, where in ((2, problem("prompts")), (3, problem("five-states"))):
        found = told(Choice(psi="total", baseline="group_mean", **G), where, G_)
        assert found["scale"] == pytest.approx((G_ - 1) / G_, rel=1e-12) and abs(found["cosine"] - 1) < 1e-12


def test_drift_makes_a_score_biased_and_a_ratio_right_where_a_step_is_the_episode():
    bandit = changed(find("bandit"), drift=0.7)
    for form, right in (("score", False), ("ratio", True), ("clip", False), ("clipped_weight", False)):
        found = told(Choice(objective=form), bandit)
        assert (found["relative_bias"] < 1e-10) is right, form
    longer = told(Choice(objective="ratio", **G), changed(find("five-states"), drift=0.7))
    assert longer["relative_bias"] > 1e-2  # states were visited by the other policy


def test_every_row_of_the_bench_is_a_choice_of_these_lists():
    """No estimator of the shipped table is biased where the lists say it is not, at three rows as at two."""
    where = find("five-states")
    judged = dict.fromkeys((*ALWAYS.values(), *TRUE_CRITIC.values()), 0.0) | {c: x for c, x, _ in BIASED.values()}
    seen = 0
    for row in bench_table(where, Choice(**G), rows=2, factors=("psi", "baseline", "objective", "average")):
        least = judged.get(row.choice)
        if least is not None:
            seen += 1
            bias = row.figures()[0][1]["relative_bias"]
            assert bias > least if least else bias < 1e-10, row.name
    assert seen >= 15


def test_a_choice_that_makes_no_sense_is_refused():
    with pytest.raises(
        LogpiError, match="baseline group_mean compares whole returns: it goes with psi total, not to_go"
    ):
        Choice(baseline="group_mean")
    with pytest.raises(LogpiError, match="psi is 'togo': allowed is total, to_go"):
        Choice(psi="togo")
    with pytest.raises(LogpiError, match="gamma is 1.5: allowed is a number from 0 to 1"):
        Choice(gamma=1.5)
    alone = from_table(five_states(), reference=None)
    for kind in ("k3", "k1_reward", "exact"):
        page = Estimator(Choice(kl=kind, **G))
        with pytest.raises(LogpiError, match="A KL needs a reference policy, and there is none: use kl none"):
            moments(alone, surrogate_of(page), page.rows, 2)
        with pytest.raises(LogpiError, match="KL .*reference policy"):
            check(page.choice, alone)


def test_a_choice_says_which_critic_and_rows_it_needs():
    for choice, critic, rows in (
        (Choice(), None, "episodes"),
        (Choice(psi="td"), "v", "episodes"),
        (Choice(baseline="value"), "v", "episodes"),
        (Choice(psi="advantage"), "q", "episodes"),
        (Choice(psi="total", baseline="group_mean"), None, "groups"),
    ):
        page = Estimator(choice)
        assert (page.critic, page.rows, page.reference) == (critic, rows, False)
    assert Estimator(Choice(kl="k1")).reference


def test_the_budget_is_the_longest_row_unless_it_is_given():
    mask = torch.arange(4) < torch.tensor([[2], [4]])
    ours = Estimator(Choice(average="per_budget")).average(mask)
    assert torch.equal(ours, mask / 8.0)
    assert torch.equal(Estimator(Choice(average="per_budget", budget=3.0)).average(mask), mask.double() / 6)


def test_all_this_is_seen_by_an_estimator_with_a_planted_fault():
    """The same list through a page whose end of an episode is not an end to its credit."""

    class Leaks(Estimator):
        def psi(self, b, state):
            return super().psi(b.with_(terminated=b.terminated & False, truncated=b.truncated & False), state)

    where = problem("five-states")
    for page, faulty in ((Leaks, True), (Estimator, False)):
        found = moments(where, surrogate_of(page(Choice(psi="td", **G))), "episodes", 1)
        assert (figures(found, where.directions()[0])["relative_bias"] > 1e-2) is faulty
