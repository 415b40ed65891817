"""The gradient by enumeration: what REINFORCE estimates, under every trajectory, is the gradient of J; planted twins are not."""

import pytest
import torch
from enumerate_mdp import (
    episodes,
    exact_gradient,
    layered,
    looping,
    probabilities,
    solve,
    tabular_policy,
    trajectories,
    unroll,
)
from made import rows_for
from torch import Tensor

from logpi import average, objective, psi
from logpi.loop import credited
from logpi.methods import RLOO, ActorCritic, Baseline, Reinforce
from logpi.now import Surrogate, row_scores

GAMMA = 0.7


def world(table=None, seed=0):
    table = layered() if table is None else table
    policy = tabular_policy(table, seed)
    rows = trajectories(table)
    pi = probabilities(policy).detach()
    return table, policy, rows, torch.stack([x.probability(pi) for x in rows])


def gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def gradient(value: Tensor, policy) -> Tensor:
    return torch.autograd.grad(value, policy.network.weight)[0]


def page_gradient(method, policy, batch, state=None) -> Tensor:
    """The gradient that the page would follow on this batch, through `credited`, `Rows` and `Surrogate`."""
    rows = rows_for(method, credited(method, batch, state or {}))
    return gradient(sum(Surrogate(method, policy, None, rows, {})(rows.batch)), policy)


def expected(method, table, policy, rows, chance, V=None) -> Tensor:
    """The expectation of the page's gradient on a batch of one episode."""
    each = [
        p * page_gradient(method, policy, episodes(table, policy, [x], V)) for x, p in zip(rows, chance, strict=True)
    ]
    return torch.stack(each).sum(0)


def expected_of_pairs(method, table, policy, rows, chance, group=False, state=None) -> Tensor:
    """The same on a batch of two independent episodes, or of a group of two from one start."""
    total = torch.zeros_like(policy.network.weight)
    for p, x in zip(chance, rows, strict=True):
        for q, y in zip(chance, rows, strict=True):
            if group and x.states[0] != y.states[0]:
                continue
            same_start = float(sum(r for r, z in zip(chance, rows, strict=True) if z.states[0] == x.states[0]))
            b = episodes(table, policy, [x, y])
            b = b.map(lambda z: z[None]) if group else b
            total = total + p * q / (same_start if group else 1) * page_gradient(method, policy, b, state)
    return total


def exact(gamma=GAMMA, from_start=True, table=None, seed=0):
    table, policy, rows, chance = world(table, seed)
    return exact_gradient(table, policy, gamma, from_start), table, policy, rows, chance


def test_the_trajectories_are_all_of_them_and_their_mean_return_is_J():
    table, policy, rows, chance = world()
    assert len({len(x) for x in rows}) >= 3 and abs(float(chance.sum()) - 1) < 1e-14
    exactly = sum(p * sum(GAMMA**t * r for t, r in enumerate(x.rewards)) for x, p in zip(rows, chance, strict=True))
    assert abs(float(exactly - solve(table, probabilities(policy).detach(), GAMMA)[2])) < 1e-14


def test_the_policy_gradient_theorem_is_the_derivative_of_the_linear_solve():
    table, policy, *_ = world()
    J = solve(table, probabilities(policy), GAMMA)[2]
    assert gap(gradient(J, policy), exact_gradient(table, policy, GAMMA)) < 1e-13


def test_the_limit_in_the_state_gives_J_of_the_cut_process():
    table, policy, rows, chance = world(looping(4))
    pi = probabilities(policy).detach()
    unrolled = unroll(table)
    J = solve(unrolled, torch.cat([pi.repeat(4, 1), pi[:1]]), GAMMA)[2]
    mean = sum(p * sum(GAMMA**t * r for t, r in enumerate(x.rewards)) for x, p in zip(rows, chance, strict=True))
    assert abs(float(J - mean)) < 1e-14 and not all(x.terminated for x in rows)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_score_has_mean_zero_in_every_state(seed):
    policy = tabular_policy(layered(), seed)
    obs, action = torch.eye(6, dtype=torch.float64)[:, None].expand(6, 2, 6), torch.arange(2).expand(6, 2)
    pi, zero = probabilities(policy).detach(), torch.zeros(())
    for weight in torch.eye(6, dtype=torch.float64):  # one state at a time
        mean = gradient((weight[:, None] * pi * policy.log_prob(obs, action)).sum(), policy)
        weighed = gradient(
            (weight[:, None] * pi * policy.log_prob(obs, action) * torch.tensor([1.0, 2.0])).sum(), policy
        )
        assert gap(mean, zero) < 1e-15 and gap(weighed, zero) > 1e-3


def sum_of_scores(policy, batch, credit, chance) -> Tensor:
    log_pi = policy.log_prob(batch.obs, batch.action)
    return gradient((torch.where(batch.mask, objective.score(log_pi, credit), 0.0).sum(-1) * chance).sum(), policy)


def test_credit_that_knows_neither_the_action_nor_the_future_adds_nothing():
    table, policy, rows, chance = world()
    b = episodes(table, policy, rows)
    state = b.obs.argmax(-1)
    past = torch.nn.functional.pad(b.reward.cumsum(-1)[:, :-1], (1, 0))
    free = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    of_state_and_time = free[state, torch.arange(4).expand_as(state)]
    for credit in (of_state_and_time, past, past * of_state_and_time):
        assert gap(sum_of_scores(policy, b, credit, chance), torch.zeros(())) < 1e-14
    for credit in (b.reward, free[state, b.action], psi.reward_to_go(b.reward, b.ended)):
        assert gap(sum_of_scores(policy, b, credit, chance), torch.zeros(())) > 1e-2


def test_the_library_functions_in_expectation_are_the_exact_gradient():
    truth, table, policy, rows, chance = exact()
    mean = torch.zeros_like(truth)
    for x, p in zip(rows, chance, strict=True):
        b = episodes(table, policy, [x])
        credit = psi.discount_from_start(psi.reward_to_go(b.reward, b.ended, GAMMA), b.ended, GAMMA, b.start)
        value = average.per_episode(objective.score(policy.log_prob(b.obs, b.action), credit), b.mask)
        mean += p * gradient(value, policy)
    assert gap(mean, truth) < 1e-12


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("gamma", [0.0, 0.7, 1.0])
def test_reinforce_with_the_discount_from_the_start_is_unbiased(seed, gamma):
    truth, *setting = exact(gamma, seed=seed)
    assert gap(expected(Reinforce(gamma=gamma, from_start=True), *setting), truth) < 1e-12


def test_reinforce_on_all_trajectories_at_once_weighted_by_probability():
    truth, table, policy, rows, chance = exact()
    method = Reinforce(gamma=GAMMA, from_start=True)
    b = credited(method, episodes(table, policy, rows), {})
    b = b.with_(psi=b.psi * chance[:, None] * len(rows))
    made = rows_for(method, b)
    assert gap(gradient(sum(Surrogate(method, policy, None, made, {})(made.batch)), policy), truth) < 1e-12


def test_total_return_is_unbiased_too():
    truth, *setting = exact()
    assert gap(expected(Reinforce(gamma=GAMMA, credit="total"), *setting), truth) < 1e-12


def test_without_gamma_to_the_t_it_is_the_other_gradient_and_a_biased_one():
    truth, *setting = exact()
    without = expected(Reinforce(gamma=GAMMA), *setting)
    assert gap(without, exact_gradient(*setting[:2], GAMMA, from_start=False)) < 1e-12
    assert gap(without, truth) > 1e-3
    at_one = exact(1.0)
    assert gap(expected(Reinforce(gamma=1.0), *at_one[1:]), at_one[0]) < 1e-12


def test_the_average_per_action_is_biased():
    truth, table, policy, rows, chance = exact()

    class PerAction(Reinforce):
        def average(self, mask):
            return average.weights("per_action", mask)

    page = PerAction(gamma=GAMMA, from_start=True)
    direction = expected(page, table, policy, rows, chance)
    along = (direction * truth).sum() / truth.square().sum()
    assert gap(direction, along * truth) > 1e-2  # not even the direction is right
    direction = expected_of_pairs(page, table, policy, rows, chance)
    along = (direction * truth).sum() / truth.square().sum()
    assert gap(direction, along * truth) > 1e-3


@pytest.mark.parametrize("merge", [False, True])
def test_a_cut_episode_keeps_its_bootstrap_and_an_ended_one_does_not(merge):
    """With V true, TD credit is unbiased though episodes are cut; with the two ends merged into one it is not."""
    endless, limit = looping(400), 4
    policy = tabular_policy(endless)
    V, Q, _ = solve(endless, probabilities(policy).detach(), GAMMA)
    V = V + 3 * endless.terminal  # what a critic says of a terminal state means nothing
    table, policy, rows, chance = world(looping(limit))
    b = episodes(table, policy, rows, V)
    terminated, truncated = (b.ended, b.truncated & False) if merge else (b.terminated, b.truncated)
    credit = psi.gae(b.reward, b.value, b.value_next, terminated, truncated, GAMMA, 1.0)
    state, first = b.obs.argmax(-1)[:, 0], torch.zeros(3, 2, dtype=torch.float64)
    for p, s, a, x in zip(chance, state, b.action[:, 0], credit[:, 0], strict=True):
        first[s, a] += p * x
    truth = (probabilities(policy).detach() * (Q - V[:, None]))[0]
    assert (gap(first[0], truth) < 1e-12) is not merge
    cut_only = psi.gae(b.reward, b.value, b.value_next, b.terminated & False, b.ended, GAMMA, 1.0)
    assert gap((cut_only[:, 0] * chance).sum(), (credit[:, 0] * chance).sum()) > 1e-2


@pytest.mark.parametrize("baseline", ["none", "value", "leave_one_out", "previous"])
def test_a_baseline_that_does_not_know_the_episode_is_unbiased(baseline):
    truth, table, policy, rows, chance = exact()
    if baseline == "value":
        V = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        found = expected(Baseline(gamma=GAMMA, from_start=True), table, policy, rows, chance, V)
    elif baseline == "previous":
        page = Baseline(baseline="previous_mean", gamma=GAMMA, from_start=True)
        found = expected_of_pairs(page, table, policy, rows, chance, state={"baseline": 0.8})
    else:
        page = Baseline(baseline=baseline, gamma=GAMMA, from_start=True)
        found = expected_of_pairs(page, table, policy, rows, chance)
    assert gap(found, truth) < 1e-12


@pytest.mark.parametrize("baseline", ["mean", "time"])
def test_the_mean_of_the_same_batch_is_biased(baseline):
    truth, *setting = exact()
    page = Baseline(baseline=baseline, gamma=GAMMA, from_start=True)
    assert gap(expected_of_pairs(page, *setting), truth) > 1e-2


def test_the_optimal_constant_is_unbiased_from_elsewhere_and_has_the_least_variance():
    _, table, policy, rows, chance = exact()
    b = episodes(table, policy, rows)
    credit = psi.reward_to_go(b.reward, b.ended, GAMMA)
    S, U = row_scores(policy, b, torch.ones_like(credit)), row_scores(policy, b, credit)
    best = psi.optimal_constant(S * chance[:, None].sqrt(), U * chance[:, None].sqrt())

    def variance(constant):
        g = U - constant * S
        return float((chance * g.square().sum(-1)).sum() - (chance[:, None] * g).sum(0).square().sum())

    assert variance(best) < min(variance(best + 0.05), variance(best - 0.05), variance(0.0))
    assert gap((chance[:, None] * (U - best * S)).sum(0), (chance[:, None] * U).sum(0)) < 1e-13


@pytest.mark.parametrize("credit", ["q", "advantage", "td"])
def test_true_values_as_credit_give_the_exact_gradient(credit):
    """Q(s,a), A(s,a) and the TD error of the true V have one expectation; so has the page `actor_critic`, per episode."""
    truth, table, policy, rows, chance = exact()
    V, Q, _ = solve(table, probabilities(policy).detach(), GAMMA)
    page = ActorCritic(credit=credit, gamma=GAMMA, from_start=True)
    total = torch.zeros_like(truth)
    for x, p in zip(rows, chance, strict=True):
        b = episodes(table, policy, [x], V)
        q = Q[x.states[:-1], x.actions][None]
        b = credited(page, b.with_(q=q, q_next=torch.zeros_like(q)), {})
        value = average.per_episode(objective.score(policy.log_prob(b.obs, b.action), b.psi), b.mask)
        total += p * gradient(value, policy)
    assert gap(total, truth) < 1e-12


def test_rloo_is_unbiased_and_the_group_mean_is_shrunk():
    """(R_i - mean of the others): exact; (R_i - mean of all G): (G - 1) / G of it."""
    truth, table, policy, rows, chance = exact(1.0)
    setting = table, policy, rows, chance
    assert gap(expected_of_pairs(RLOO(starts=1, group=2), *setting, group=True), truth) < 1e-12

    class Centred(RLOO):
        def psi(self, b, state):
            return psi.group_mean(b.reward.sum(-1))[..., None].expand_as(b.reward), None

    assert gap(expected_of_pairs(Centred(starts=1, group=2), *setting, group=True), truth / 2) < 1e-12
