"""Every trajectory against the plain twin's, drawn ones against their chances, and what a batch of them holds."""

import math

import pytest
import torch
from enumerate_mdp import episodes, layered, looping, probabilities, solve, tabular_policy
from enumerate_mdp import trajectories as plainly
from hypothesis import given, settings
from hypothesis import strategies as st

from logpi.envs.tabular import Table, bandit, chain, gridworld
from logpi.errors import LogpiError
from logpi.exact import Problem, trajectories
from logpi.exact.mdp import expected_return
from logpi.exact.problems import changed, find, five_states, from_table, linear

F64 = torch.float64


def told(x: trajectories.Trajectories) -> set:
    """{(states, actions, chance)}, as plain tuples."""
    found = set()
    for i in range(len(x.chance)):
        n = int(x.mask[i].sum())
        assert x.mask[i, :n].all() and not (x.state[i, n:] | x.action[i, n:] | x.after[i, n:]).any()
        assert x.state[i, 1:n].tolist() == x.after[i, : n - 1].tolist()
        states = (*x.state[i, :n].tolist(), int(x.after[i, n - 1]))
        found.add((states, tuple(x.action[i, :n].tolist()), round(float(x.chance[i]), 14)))
    return found


def random_table(S: int, seed: int, limit: int) -> Table:
    g = torch.Generator().manual_seed(seed)
    P = torch.rand(S, 2, S, dtype=F64, generator=g) * (torch.rand(S, 2, S, generator=g) < 0.6)
    P[..., -1] += 0.1
    start = torch.rand(S, dtype=F64, generator=g) * (torch.arange(S) < S - 1)
    terminal = torch.arange(S) == S - 1
    return Table(
        P / P.sum(-1, keepdim=True), torch.randn(S, 2, dtype=F64, generator=g), start / start.sum(), terminal, limit
    )


@settings(derandomize=True, database=None, deadline=None, max_examples=20)
@given(st.builds(random_table, st.integers(2, 4), st.integers(0, 10**6), st.integers(1, 3)))
def test_every_trajectory_of_any_table_is_there_once_with_its_chance(table):
    found, plain = trajectories.every(table), plainly(table)
    assert len(found.chance) == len(plain) == trajectories.count(table)
    assert told(found) == {(tuple(x.states), tuple(x.actions), round(x.chance, 14)) for x in plain}


@pytest.mark.parametrize("table", [layered(4), looping(4), five_states()], ids=["layered", "looping", "five-states"])
def test_their_probabilities_sum_to_one_and_their_mean_return_is_j(table):
    problem = from_table(table, gamma=0.8)
    b = problem.batch(problem.every)
    weight = 0.8 ** torch.arange(b.reward.shape[1], dtype=F64)
    J = problem.probability @ (b.reward * weight).sum(-1)
    assert abs(float(problem.probability.sum()) - 1) < 1e-14
    if table.limit == 4 and len(table.start) == 6:  # always over by then
        assert abs(float(J - solve(table, problem.pi, 0.8)[2])) < 1e-14
    assert abs(float(J - expected_return(table, problem.pi, 0.8, table.limit))) < 1e-14


def test_there_may_be_very_many_and_the_count_is_told_before_any_is_made():
    assert trajectories.count(bandit()) == 4
    grid = gridworld()
    assert trajectories.count(grid) > 1e20
    with pytest.raises(LogpiError, match=r"about 10\^30 trajectories, too many to enumerate \(at most 1,000,000\)"):
        trajectories.every(grid)
    with pytest.raises(LogpiError, match=r"There are 13 trajectories, too many to enumerate \(at most 12\)"):
        trajectories.every(five_states(), most=12)
    assert len(trajectories.every(five_states(), most=13).chance) == 13
    assert trajectories.amount(12345) == "12,345" and trajectories.amount(2e40) == "about 10^40"


def test_a_start_that_is_over_is_refused():
    table = five_states()
    start = table.start.clone()
    start[0], start[5] = 0.5, 0.3  # 5 is terminal
    with pytest.raises(LogpiError, match="starts on a terminal state with probability 0.3"):
        from_table(Table(table.P, table.R, start, table.terminal, table.limit))
    with pytest.raises(LogpiError, match="over at every start"):
        trajectories.every(Table(table.P, table.R, (torch.arange(6) == 5).double(), table.terminal, 1))


def test_the_rows_of_a_batch_are_those_of_the_plain_twin():
    table = looping(3)
    policy, problem = tabular_policy(table, 2), from_table(table, gamma=0.9)
    policy.network.weight.data.copy_(problem.policy.network.weight.data)
    problem = changed(problem, critic_error=0.3)
    rows = plainly(table)
    order = {(tuple(x.states), tuple(x.actions)): i for i, x in enumerate(rows)}
    ours = problem.batch(problem.every)
    V, t = problem.critic[0], torch.arange(table.limit)
    twin = episodes(table, policy, rows, torch.arange(len(table.start), dtype=F64))  # the states' numbers
    twin = twin.with_(value=V[t, twin.value.long()], value_next=V[t + 1, twin.value_next.long()])
    keys = [k[:2] for k in sorted_told(problem.every)]
    index = torch.tensor([order[k] for k in keys])
    for name in ("reward", "log_pi", "value", "value_next"):
        mine, theirs = getattr(ours, name), getattr(twin, name)[index]
        assert torch.allclose(mine, torch.where(ours.mask, theirs, 0.0), rtol=0, atol=1e-14), name
    for name in ("action", "terminated", "truncated", "mask"):
        assert torch.equal(getattr(ours, name), getattr(twin, name)[index]), name
    assert ours.truncated.any() and ours.terminated.any() and not (ours.truncated & ours.terminated).any()
    chance = torch.stack([x.probability(probabilities(policy).detach()) for x in rows])[index]
    assert torch.allclose(problem.probability, chance, rtol=0, atol=1e-15)
    assert ours.log_ref is not None and ours.q is not None and not ours.q_next[:, -1].any()


def sorted_told(x: trajectories.Trajectories) -> list:
    """As they stand."""
    return [next(iter(told(x.at(torch.tensor([i]))))) for i in range(len(x.chance))]


def test_a_terminal_states_value_means_nothing_and_is_not_zero():
    problem = changed(find("five-states"), critic_error=0.0)
    V, Q = problem.critic
    assert bool((V[:, 5] == 7).all())
    truth = solve(problem.table, problem.pi, problem.gamma)
    assert torch.allclose(V[0, :5], truth[0][:5], rtol=0, atol=1e-13)
    assert torch.allclose(Q[0, :5], truth[1][:5], rtol=0, atol=1e-13)
    wrong = changed(problem, critic_error=0.5).critic
    assert float((wrong[0] - V)[:, :5].abs().min()) > 1e-3 and float((wrong[1] - Q).abs().min()) > 1e-3


def test_the_critic_knows_how_many_steps_are_left_and_that_nothing_follows_the_limit():
    table = looping(3)
    V, Q = from_table(table, gamma=0.9).critic
    assert V.shape == (4, 3) and Q.shape == (3, 3, 2) and not V[3, :2].any()
    assert torch.allclose(Q[2], table.R, rtol=0, atol=0) and bool((V[0, :2] != V[1, :2]).all())


def test_a_reward_may_depend_on_where_it_leads():
    table = five_states()
    R = table.R[..., None] + torch.arange(6.0, dtype=F64)
    b = (problem := from_table(Table(table.P, R, table.start, table.terminal, 4))).batch(problem.every)
    x = problem.every
    assert torch.equal(b.reward, torch.where(x.mask, table.R[x.state, x.action] + x.after, 0.0))


def number(x: trajectories.Trajectories) -> torch.Tensor:
    """Another one for each trajectory, whatever its padding."""
    step = torch.where(x.mask, 1 + x.action + 2 * x.after, 0)
    return x.state[:, 0] + 8 * (step * 16 ** torch.arange(step.shape[1])).sum(-1)


def test_drawn_trajectories_come_with_their_probabilities():
    """Pearson's chi-square over all 13 of them; a policy that is a little another one is found out."""
    problem, n, g = find("five-states"), 20_000, torch.Generator().manual_seed(0)
    start = torch.multinomial(problem.table.start, n, replacement=True, generator=g)
    drawn = number(trajectories.drawn(problem.table, problem.pi, start, g))
    seen = (drawn[:, None] == number(problem.every)).sum(0).double()
    assert int(seen.sum()) == n and len(number(problem.every).unique()) == 13

    def chi(p):
        return float(((seen - n * p).square() / (n * p)).sum())

    assert chi(problem.probability) < 32.9  # 12 degrees of freedom: 1 in 1000
    assert chi(changed(problem, drift=0.1).probability) > 32.9


@pytest.mark.parametrize("table", [chain(), gridworld(3)], ids=["chain", "gridworld"])
def test_the_mean_of_drawn_returns_is_j_within_its_interval(table):
    problem = from_table(table, gamma=0.95)
    g = torch.Generator().manual_seed(1)
    start = torch.multinomial(table.start, 4000, replacement=True, generator=g)
    b = problem.batch(trajectories.drawn(table, problem.pi, start, g))
    ret = (b.reward * 0.95 ** torch.arange(b.reward.shape[1], dtype=F64)).sum(-1)
    error, J = float(ret.std()) / math.sqrt(4000), float(expected_return(table, problem.pi, 0.95, table.limit))
    assert abs(float(ret.mean()) - J) < 3 * error and error < 0.03
    assert b.terminated.any() and b.mask.shape[1] <= table.limit


def test_drawing_is_repeatable_and_stops_where_all_are_over():
    table, g = five_states(), torch.Generator()
    pi, start = find("five-states").pi, torch.tensor([0, 4, 5, 0])
    first, second = (trajectories.drawn(table, pi, start, g.manual_seed(3)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not first.mask[2].any() and first.mask[[0, 1, 3], 0].all() and first.mask.shape[1] <= 4
    last = first.mask.sum(1) - 1
    ends = first.after[torch.arange(4), last.clamp(min=0)]
    assert table.terminal[ends[[0, 1, 3]]].all()


def test_a_policy_of_another_shape_or_precision_is_refused():
    table = five_states()
    with pytest.raises(
        LogpiError, match=r"The policy of x gives float64 \[6, 3\]: it must give float64 logits \[6, 2\]"
    ):
        _problem(table, linear(torch.zeros(6, 3, dtype=F64)))
    with pytest.raises(LogpiError, match=r"gives float32 \[6, 2\]: it must give float64"):
        _problem(table, linear(torch.zeros(6, 2, dtype=F64)).float(), torch.eye(6))


def _problem(table, policy, obs=None):
    return Problem("x", table, policy, torch.eye(6, dtype=F64) if obs is None else obs)
