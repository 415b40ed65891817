"""Processes solved: against the plain twin, Bellman's equation by hand, finite differences, autograd, enumeration."""

import itertools

import pytest
import torch
from enumerate_mdp import exact_gradient, layered, looping, solve, tabular_policy, trajectories, unroll
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, hessian

from logpi.envs.tabular import Table, bandit, chain, gridworld
from logpi.errors import LogpiError
from logpi.exact import mdp
from logpi.exact.problems import changed, find, five_states, from_table, linear, softmax
from logpi.policy.networks import mlp
from logpi.step.natural import flat

F64 = torch.float64
SMALL = settings(derandomize=True, database=None, deadline=None, max_examples=25)


def gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def random_table(S: int, A: int, seed: int, third: bool = False) -> Table:
    """Dense and sparse rows, the last state terminal (with rewards that must never count), every state a start."""
    g = torch.Generator().manual_seed(seed)
    P = torch.rand(S, A, S, dtype=F64, generator=g) * (torch.rand(S, A, S, generator=g) < 0.6)
    P[..., -1] += 0.1
    R = torch.randn(S, A, S, dtype=F64, generator=g)
    start = torch.rand(S, dtype=F64, generator=g)
    return Table(P / P.sum(-1, keepdim=True), R if third else R[..., 0], start / start.sum(), torch.arange(S) == S - 1)


def neural(S: int, A: int, seed: int = 0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return softmax(mlp(S, A, (4,), gain=1.0).double(), A)


tables = st.builds(random_table, st.integers(2, 4), st.integers(2, 3), st.integers(0, 10**6), st.booleans())


@pytest.mark.parametrize("from_start", [True, False])
@pytest.mark.parametrize("gamma", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("table", [layered(), looping(9)], ids=["layered", "looping"])
def test_values_j_and_gradient_are_those_of_the_plain_twin(table, gamma, from_start):
    policy, obs = tabular_policy(table, 3), torch.eye(len(table.start), dtype=F64)
    pi = mdp.probabilities(policy, obs).detach()
    V, Q, J = solve(table, pi, gamma)
    ours = mdp.values(table, pi, gamma)
    alive = ~table.terminal
    assert gap(ours[0], V) < 1e-13 and gap(ours[1][alive], Q[alive]) < 1e-13 and not ours[1][~alive].any()
    assert gap(mdp.expected_return(table, pi, gamma), J) < 1e-13
    g = mdp.gradient(table, policy, obs, gamma, from_start)
    assert gap(g, exact_gradient(table, policy, gamma, from_start).flatten()) < 1e-12


@SMALL
@given(tables, st.floats(0, 0.95), st.one_of(st.none(), st.integers(1, 4)))
def test_values_solve_bellmans_equation_on_any_table(table, gamma, limit):
    S, A = table.P.shape[:2]
    pi = randn(S, A, seed=S).softmax(-1)
    V, Q = mdp.values(table, pi, gamma, limit)
    V, Q = (V, Q) if limit else (V.expand(2, S), Q.expand(2, S, A))
    after = torch.cat([V[1:], torch.zeros(1, S, dtype=F64)]) if limit else V
    for t, s, a in itertools.product(range(limit or 1), range(S - 1), range(A)):
        mean = 0.0
        for x in range(S):
            r = table.R[s, a, x] if table.R.dim() == 3 else table.R[s, a]
            mean += float(table.P[s, a, x] * (r + gamma * (after[t, x] if x < S - 1 else 0.0)))
        assert abs(mean - float(Q[t, s, a])) < 1e-12
    assert gap((pi * Q).sum(-1), V) < 1e-12 and not V[:, -1].any()


@SMALL
@given(tables, st.floats(0, 0.95), st.one_of(st.none(), st.integers(1, 4)), st.booleans())
def test_the_gradient_is_autograds_through_the_solve(table, gamma, limit, network):
    S, A = table.P.shape[:2]
    obs = randn(S, 3, seed=1) if network else torch.eye(S, dtype=F64)
    policy = neural(3, A) if network else linear(randn(S, A))
    J = mdp.expected_return(table, mdp.probabilities(policy, obs), gamma, limit)
    through = flat(torch.autograd.grad(J, list(policy.parameters()), materialize_grads=True))
    assert gap(mdp.gradient(table, policy, obs, gamma, limit=limit), through) < 1e-12


def by_differences(policy: nn.Module, J, h: float = 1e-5) -> Tensor:
    found = []
    for p in policy.parameters():
        for i in range(p.numel()):
            sides = []
            for step in (h, -h):
                with torch.no_grad():
                    p.view(-1)[i] += step
                    sides.append(float(J()))
                    p.view(-1)[i] -= step
            found.append((sides[0] - sides[1]) / (2 * h))
    return torch.tensor(found, dtype=F64)


@pytest.mark.parametrize("limit", [None, 3])
def test_the_gradient_is_that_of_finite_differences_and_without_gamma_t_it_is_not(limit):
    table, policy, obs = five_states(), neural(6, 2), torch.eye(6, dtype=F64)
    slope = by_differences(
        policy, lambda: mdp.expected_return(table, mdp.probabilities(policy, obs), 0.8, limit).detach()
    )
    assert gap(mdp.gradient(table, policy, obs, 0.8, limit=limit), slope) < 1e-9
    assert gap(mdp.gradient(table, policy, obs, 0.8, False, limit), slope) > 1e-3


@pytest.mark.parametrize("gamma", [0.7, 1.0])
def test_with_a_limit_it_is_the_process_with_the_step_in_its_state(gamma):
    table = looping(4)
    policy, obs = tabular_policy(table, 1), torch.eye(3, dtype=F64)
    pi = mdp.probabilities(policy, obs).detach()
    unrolled, long = unroll(table), torch.cat([pi.repeat(4, 1), pi[:1]])
    V, Q, J = solve(unrolled, long, gamma)
    ours = mdp.values(table, pi, gamma, 4)
    assert gap(ours[0].flatten(), V[:-1]) < 1e-13
    assert gap(mdp.expected_return(table, pi, gamma, 4), J) < 1e-13
    d = mdp.visits(unrolled, long, gamma)[:-1].reshape(4, 3)
    assert gap(mdp.visits(table, pi, gamma, 4), d) < 1e-13


def test_a_distant_limit_is_none_and_a_near_one_is_another_process():
    for table in (chain(), gridworld(3)):
        S, A = table.R.shape
        pi = randn(S, A).softmax(-1)
        endless = mdp.values(table, pi, 0.9)[0]
        assert gap(mdp.values(table, pi, 0.9, 400)[0][0], endless) < 1e-12
        assert gap(mdp.values(table, pi, 0.9, 3)[0][0], endless) > 1e-2
        assert gap(mdp.visits(table, pi, 0.9, 400).sum(0), mdp.visits(table, pi, 0.9)) < 1e-12


@SMALL
@given(tables, st.sampled_from([0.0, 0.6, 1.0]), st.integers(1, 4))
def test_visits_are_the_chances_step_by_step(table, gamma, limit):
    S, A = table.P.shape[:2]
    pi, here, total = randn(S, A, seed=2).softmax(-1), table.start.tolist(), []
    for t in range(limit):
        total.append([gamma**t * p * (s < S - 1) for s, p in enumerate(here)])
        here = [
            sum(here[s] * float(pi[s, a] * table.P[s, a, x]) for s in range(S - 1) for a in range(A)) for x in range(S)
        ]
    assert gap(mdp.visits(table, pi, gamma, limit), torch.tensor(total, dtype=F64)) < 1e-13


@SMALL
@given(tables)
def test_only_the_mean_of_a_reward_matters_and_none_in_a_terminal_state(table):
    S, A = table.P.shape[:2]
    pi = randn(S, A).softmax(-1)
    R = (table.P * table.R).sum(-1) if table.R.dim() == 3 else table.R
    mean = Table(table.P, R, table.start, table.terminal)
    R = R.clone()
    R[-1] = 1e6
    loud = Table(table.P, R, table.start, table.terminal)
    for other in (mean, loud):
        assert gap(mdp.values(other, pi, 0.9)[0], mdp.values(table, pi, 0.9)[0]) < 1e-12


@pytest.mark.parametrize("policy", [linear(randn(6, 2)), neural(6, 2)], ids=["table", "network"])
def test_the_fisher_matrix_is_the_mean_of_score_times_score_and_the_curvature_of_the_kl(policy):
    table, obs = five_states(), torch.eye(6, dtype=F64)
    pi = mdp.probabilities(policy, obs).detach()
    weight = mdp.visits(table, pi, 0.9)
    weight = weight / weight.sum()
    plain, params = 0.0, list(policy.parameters())
    for s, a in itertools.product(range(6), range(2)):
        score = flat(torch.autograd.grad(policy.log_prob(obs[s], torch.tensor(a)), params, materialize_grads=True))
        plain = plain + weight[s] * pi[s, a] * torch.outer(score, score)
    F = mdp.fisher(policy, obs, weight)
    assert gap(F, plain) < 1e-14 and float(plain.abs().max()) > 1e-3
    names, sizes = [n for n, _ in policy.named_parameters()], [p.numel() for p in params]

    def kl_to(theta: Tensor) -> Tensor:
        parts = theta.split(sizes)
        named = {n: x.view(p.shape) for n, x, p in zip(names, parts, params, strict=True)}
        return mdp.kl(pi, functional_call(policy, named, (obs,)).softmax(-1), weight)

    theta = flat([p.detach() for p in params])
    assert gap(F, hessian(kl_to)(theta)) < 1e-12


def test_the_natural_gradient_moves_the_policy_alike_whatever_its_parameters_are():
    """Two parametrisations of one policy: logits W x_s with x_s one-hot, and W M^-1 (M x_s)."""
    table, logits, M = five_states(), randn(6, 2), randn(6, 6, seed=5)
    moved, plainly = [], []
    for policy, obs in ((linear(logits), torch.eye(6, dtype=F64)), (linear(torch.linalg.inv(M) @ logits), M)):
        pi = mdp.probabilities(policy, obs).detach()
        assert gap(pi, logits.softmax(-1)) < 1e-13
        g = mdp.gradient(table, policy, obs, 0.9)
        F = mdp.fisher(policy, obs, mdp.visits(table, pi, 0.9))
        for x, out in ((mdp.natural_gradient(F, g), moved), (g, plainly)):
            change = mdp.jacobian(policy, obs).detach() @ x
            out.append((change - change.mean(-1, keepdim=True))[:5])  # the last state is terminal: never visited
        assert gap(F @ mdp.natural_gradient(F, g), g) < 1e-10
    assert gap(*moved) < 1e-9 and gap(*plainly) > 1e-2
    V, Q = mdp.values(table, pi, 0.9)  # for a softmax table it is the advantage (Kakade 2001)
    A = Q - V[:, None]
    assert gap(moved[0], (A - A.mean(-1, keepdim=True))[:5]) < 1e-9


def test_kl_weighted_by_the_visits_is_that_of_whole_episodes():
    table, obs = layered(), torch.eye(6, dtype=F64)
    policy, ref = tabular_policy(table, 0), tabular_policy(table, 1)
    pi, other = (mdp.probabilities(x, obs).detach() for x in (policy, ref))
    episodes = sum(float(x.probability(pi) * (x.log_pi(pi) - x.log_pi(other)).sum()) for x in trajectories(table))
    assert abs(float(mdp.kl(pi, other, mdp.visits(table, pi, 1.0))) - episodes) < 1e-13 and episodes > 0.1
    assert abs(float(mdp.kl(other, pi, mdp.visits(table, other, 1.0))) - episodes) > 1e-2  # the direction matters
    by_hand = sum(float(pi[s, a] * (pi[s, a] / other[s, a]).log()) for s in (0, 2) for a in (0, 1))
    assert abs(float(mdp.kl(pi, other, torch.tensor([1.0, 0, 1, 0, 0, 0], dtype=F64))) - by_hand) < 1e-14


@pytest.mark.parametrize("limit", [None, 4])
def test_the_gradient_of_that_kl_and_with_the_visits_held(limit):
    table, obs = layered(), torch.eye(6, dtype=F64)
    policy, rows = tabular_policy(table, 0), trajectories(table)
    other = mdp.probabilities(tabular_policy(table, 1), obs).detach()
    pi = mdp.probabilities(policy, obs)
    whole = sum(x.probability(pi) * (x.log_pi(pi) - x.log_pi(other)).sum() for x in rows)
    per_state = (pi * (pi / other).log()).sum(-1)
    held = sum(x.probability(pi).detach() * per_state[x.states[:-1]].sum() for x in rows)
    (sequence,) = torch.autograd.grad(whole, policy.network.weight, retain_graph=True)
    (action,) = torch.autograd.grad(held, policy.network.weight)
    assert gap(mdp.kl_gradient(table, policy, obs, other, False, limit=limit), sequence.flatten()) < 1e-13
    assert gap(mdp.kl_gradient(table, policy, obs, other, True, limit=limit), action.flatten()) < 1e-13
    assert gap(sequence, action) > 1e-2


def test_an_action_of_probability_zero_adds_nothing_to_a_kl():
    p, q, w = torch.tensor([[0.5, 0.5, 0.0]], dtype=F64), torch.tensor([[0.2, 0.4, 0.4]], dtype=F64), torch.ones(1)
    assert abs(float(mdp.kl(p, q, w)) - (0.5 * torch.tensor([2.5, 1.25]).log()).sum()) < 1e-7


def test_a_process_that_may_never_end_is_told_so_and_how_to_end_it():
    P = torch.zeros(2, 2, 2, dtype=F64)
    P[:, :, 0] = 1.0
    stays = Table(P, torch.ones(2, 2, dtype=F64), torch.tensor([1.0, 0.0], dtype=F64), torch.tensor([False, True]))
    pi = torch.full((2, 2), 0.5, dtype=F64)
    for answer in (mdp.values, mdp.visits, mdp.expected_return):
        with pytest.raises(LogpiError, match="may never end, and gamma is 1: use a gamma below 1, or a limit"):
            answer(stays, pi, 1.0)
    assert abs(float(mdp.expected_return(stays, pi, 0.9)) - 10) < 1e-12
    assert float(mdp.expected_return(stays, pi, 1.0, 7)) == 7
    hardly = Table(torch.tensor([1 - 1e-15, 1e-15], dtype=F64).expand(2, 2, 2), stays.R, stays.start, stays.terminal)
    with pytest.raises(LogpiError, match="may never end"):
        mdp.values(hardly, pi, 1.0)


@pytest.mark.parametrize("name", ["five-states", "bandit", "sequences", "prompts", "chain", "gridworld"])
def test_the_shipped_problems_have_the_gradient_of_their_j(name):
    for problem in (find(name), changed(find(name), hidden=(3,))):
        params = list(problem.policy.parameters())
        pi = mdp.probabilities(problem.policy, problem.obs)
        J = mdp.expected_return(problem.table, pi, problem.gamma, problem.limit)
        through = flat(torch.autograd.grad(J, params, materialize_grads=True))
        truth = problem.directions()[0]
        assert truth.name == "J" and gap(truth.gradient, through) < 1e-11 and float(through.norm()) > 1e-3


def test_a_bandit_is_known_in_closed_form():
    rewards = torch.tensor([0.0, 0.2, 0.5, 1.0], dtype=F64)
    problem = from_table(bandit(rewards.tolist()), gamma=1.0)
    pi = problem.pi[0]
    truth = pi * (rewards - pi @ rewards)
    g = problem.directions()[0].gradient.reshape(4, 2)  # theta [A, S]
    assert gap(g[:, 0], truth) < 1e-15 and not g[:, 1].any()
    assert len(problem.directions()) == 1 and len(from_table(bandit()).directions()) == 3  # at gamma 1 they coincide
