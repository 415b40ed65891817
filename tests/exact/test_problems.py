"""The problems: toy-text tables against Gymnasium itself, sequences against plain Python, and what is refused."""

import itertools
import math
from collections import defaultdict

import gymnasium as gym
import numpy as np
import pytest
import torch

from logpi.envs.tabular import Table, bandit
from logpi.errors import LogpiError
from logpi.exact import PROBLEMS, Choice, check, find, from_table, mdp, sequences
from logpi.exact.problems import changed, five_states, read_table
from logpi.step.natural import flat

F64 = torch.float64
TOY_TEXT = [x for x in gym.registry if "toy_text" in str(gym.registry[x].entry_point) and "Blackjack" not in x]


def merged(outcomes):
    """{(next state, over): (probability, mean reward)} of Gymnasium's list, which may name one outcome twice."""
    chance, gain = defaultdict(float), defaultdict(float)
    for p, after, reward, over in outcomes:
        if p > 0:
            chance[after, bool(over)] += p
            gain[after, bool(over)] += p * reward
    return {k: (p, gain[k] / p) for k, p in chance.items()}


@pytest.mark.parametrize("name", TOY_TEXT)
def test_a_toy_text_table_says_what_the_environment_says(name):
    problem, env = find(name), gym.make(name)
    told, table = env.unwrapped.P, problem.table
    n, ends_in = len(told), table.terminal.tolist()
    P, R = table.P.tolist(), table.R.tolist()
    twins = defaultdict(set)  # which of the table's states stand for one of the environment's
    for s, ways in told.items():
        for a, outcomes in ways.items():
            ours = {x: (p, R[s][a][x]) for x, p in enumerate(P[s][a]) if p > 0}
            plain = merged(outcomes)
            assert len(ours) == len(plain)
            for (after, over), (p, reward) in plain.items():
                fits = [
                    x
                    for x, (q, r) in ours.items()
                    if (x == after or x >= n) and abs(p - q) < 1e-12 and abs(r - reward) < 1e-12 and ends_in[x] == over
                ]
                assert len(fits) == 1, (s, a, after, over)
                twins[after, over].add(fits[0])
    assert all(len(x) == 1 for x in twins.values())
    assert len({*itertools.chain(*twins.values())}) == len(twins)  # no two ways into one state
    assert np.allclose(table.start[:n], env.unwrapped.initial_state_distrib) and not table.start[n:].any()
    assert problem.limit == (env.spec.max_episode_steps or 100)
    env.close()


def test_there_are_environments_to_read():
    assert {x.split("-")[0] for x in TOY_TEXT} >= {"FrozenLake", "CliffWalking", "Taxi"}


def test_j_of_the_frozen_lake_is_the_mean_return_of_really_stepping_it():
    problem, n = find("FrozenLake-v1"), 1500
    env, returns, random = gym.make("FrozenLake-v1"), [], np.random.default_rng(0)
    pi = problem.pi[: env.observation_space.n].numpy()
    s, _ = env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(n):
        total, t, over = 0.0, 0, False
        while not over:
            s, reward, terminated, truncated, _ = env.step(random.choice(4, p=pi[s]))
            total, t, over = total + 0.99**t * reward, t + 1, terminated or truncated
        returns.append(total)
        s, _ = env.reset()
    J = float(mdp.expected_return(problem.table, problem.pi, 0.99, problem.limit))
    error = np.std(returns) / math.sqrt(n)
    assert abs(np.mean(returns) - J) < 4 * error and 0 < error < J
    env.close()


def test_j_of_the_cliff_and_the_taxi_is_finite_and_its_gradient_solves():
    for name in (x for x in TOY_TEXT if "Frozen" not in x and "Slippery" not in x):
        problem = find(name)
        pi = problem.pi
        assert float(mdp.expected_return(problem.table, pi, 0.99)) < -10
        assert float(problem.directions()[0].gradient.norm()) > 0.1


def test_a_state_that_is_entered_both_ways_becomes_two():
    told = {
        0: {0: [(0.5, 1, 1.0, False), (0.5, 1, 3.0, True)], 1: [(0.25, 2, 4.0, True), (0.75, 2, 0.0, True)]},
        1: {0: [(1.0, 0, -1.0, False)], 1: [(0.0, 2, 9.0, False), (1.0, 2, 2.0, True)]},
        2: {0: [(1.0, 2, 0.0, True)], 1: [(1.0, 2, 0.0, True)]},
    }
    table = read_table(told, [1.0, 0.0, 0.0], 5)
    assert table.P.shape == (4, 2, 4) and table.terminal.tolist() == [False, False, True, True]
    assert table.P[0, 0].tolist() == [0, 0.5, 0, 0.5] and table.R[0, 0].tolist() == [0, 1, 0, 3]
    assert table.P[0, 1].tolist() == [0, 0, 1, 0] and table.R[0, 1, 2] == 1  # 0.25 x 4
    assert table.P[1, 1, 2] == 1 and table.R[1, 1, 2] == 2  # what cannot happen makes no state two
    assert table.start.tolist() == [1, 0, 0, 0] and table.limit == 5
    pi = torch.full((4, 2), 0.5, dtype=F64)
    V, _ = mdp.values(table, pi, 1.0)
    # V1 = (V0 - 1) / 2 + 1,  V0 = (2 + V1 / 2) / 2 + 1 / 2
    assert torch.allclose(V[:2], torch.tensor([13 / 7, 10 / 7], dtype=F64)), V
    starts_over = read_table(told, [0.5, 0.0, 0.5], 5)  # entered alive at the start, over later
    assert len(starts_over.start) == 5 and not starts_over.terminal[2] and float(starts_over.start[2]) == 0.5


@pytest.mark.parametrize("name", ["Blackjack-v1", "CartPole-v1"])
def test_an_environment_without_a_table_is_refused_in_one_sentence(name):
    with pytest.raises(LogpiError, match=f"{name} tells no table of transitions P: only toy-text environments do"):
        find(name)


def test_an_environment_that_cannot_be_made_says_why():
    def broken(**_):
        raise gym.error.DependencyNotInstalled("it needs a box")

    gym.register("Broken-v0", broken)
    try:
        with pytest.raises(LogpiError, match="^Broken-v0: it needs a box"):
            find("Broken-v0")
    finally:
        gym.registry.pop("Broken-v0")


def test_what_is_no_problem_is_refused_and_the_nearest_named():
    with pytest.raises(LogpiError, match="float is no problem: it takes a name, a Table or a Problem"):
        find(1.0)
    with pytest.raises(LogpiError, match="There is no problem 'five-state'. Did you mean five-states"):
        find("five-state")
    with pytest.raises(LogpiError, match="There is no problem 'Taxi-v0'. Did you mean Taxi-v"):
        find("Taxi-v0")
    problem = find(five_states())
    assert problem.name == "your table" and find(problem) is problem and find("bandit").name == "bandit"


def test_a_table_whose_rows_do_not_sum_to_one_never_becomes_a_problem():
    table = bandit()
    with pytest.raises(LogpiError, match=r"P\[0, 0\] sums to 0.9"):
        find(Table(table.P * 0.9, table.R, table.start, table.terminal, 1))
    with pytest.raises(LogpiError, match="start sums to 2"):
        find(Table(table.P, table.R, table.start * 2, table.terminal, 1))


def test_a_table_of_single_precision_is_held_to_double():
    """Its rows sum to 1 within 1e-8 alone: the truth and the enumeration must not differ by that."""
    P, R, start = (x.float() for x in (five_states().P, five_states().R, five_states().start))
    P[0, 0, 1], P[0, 0, 5] = 0.7000001, 0.3  # as far off as a table may be, and more than rounding
    table = Table(P, R, start, five_states().terminal, 4)
    problem = from_table(table)
    assert problem.table.P.dtype == problem.table.start.dtype == F64
    assert float((problem.table.P.sum(-1) - 1).abs().max()) < 1e-15
    check(Choice(gamma=0.9, baseline="leave_one_out"), problem, rows=2)


@pytest.mark.parametrize("bad", [(1, 2, 1), (2, 0, 1), (2, 2, 0)])
def test_sequences_need_something_to_choose(bad):
    with pytest.raises(LogpiError, match="Sequences need a vocabulary of 2 or more, a length and prompts of 1 or more"):
        sequences(*bad[:2], lambda m, x: 0.0, prompts=bad[2])


def all_sequences(vocabulary, length):
    """Plainly: those that end with 0 and hold no other, and those of full length without one."""
    for n in range(1, length + 1):
        for x in itertools.product(range(vocabulary), repeat=n):
            if 0 not in x[:-1] and (x[-1] == 0 or n == length):
                yield x


def reward(m, x):
    return math.sin(3 * m + sum((i + 2) * t for i, t in enumerate(x))) + len(x) / 5


SIZES = list(itertools.product((2, 3, 4), (1, 2, 3), (1, 2)))


@pytest.mark.parametrize("hidden", [(), (4,)], ids=["table", "network"])
@pytest.mark.parametrize(("vocabulary", "length", "prompts"), SIZES)
def test_sequences_are_those_of_a_plain_enumeration(vocabulary, length, prompts, hidden):
    """Probabilities, J, its gradient, the KL of sequences and of tokens and their gradients, by autograd."""
    problem = changed(sequences(vocabulary, length, reward, prompts, seed=vocabulary), hidden=hidden)
    prefixes = [
        (m, x) for m in range(prompts) for n in range(length) for x in itertools.product(range(1, vocabulary), repeat=n)
    ]
    number = {x: i for i, x in enumerate(prefixes)}
    log_pi, log_ref = problem.policy(problem.obs).log_softmax(-1), problem.ref.log_softmax(-1)
    J = KL = tokens = total = 0.0
    seen = []
    for m, x in itertools.product(range(prompts), all_sequences(vocabulary, length)):
        states = [number[m, x[:t]] for t in range(len(x))]
        log_p = sum(log_pi[s, a] for s, a in zip(states, x, strict=True))
        log_q = sum(log_ref[s, a] for s, a in zip(states, x, strict=True))
        p = log_p.exp() / prompts
        per_state = (log_pi.exp() * (log_pi - log_ref)).sum(-1)
        J, KL, total = J + p * reward(m, x), KL + p * (log_p - log_q), total + p
        tokens = tokens + p.detach() * per_state[states].sum()
        seen.append((tuple(states), x, float(p.detach())))
    params = list(problem.policy.parameters())

    def slope(value):
        return flat(torch.autograd.grad(value, params, retain_graph=True, materialize_grads=True))

    assert abs(float(total.detach()) - 1) < 1e-13 and len(problem.probability) == len(seen)
    x = problem.every
    ours = {
        (tuple(s[:n].tolist()), tuple(a[:n].tolist())): float(p)
        for s, a, n, p in zip(x.state, x.action, x.mask.sum(-1).tolist(), problem.probability, strict=True)
    }
    assert all(abs(ours[states, tokens_] - p) < 1e-15 for states, tokens_, p in seen)
    table, obs, pi = problem.table, problem.obs, problem.pi
    assert abs(float(mdp.expected_return(table, pi, 1.0, length) - J.detach())) < 1e-13
    assert torch.allclose(problem.directions()[0].gradient, slope(J), rtol=0, atol=1e-13)
    d = mdp.visits(table, pi, 1.0, length).sum(0)
    assert abs(float(mdp.kl(pi, problem.ref.softmax(-1), d) - KL.detach())) < 1e-13
    assert torch.allclose(problem.kl_gradient(), slope(KL), rtol=0, atol=1e-13)
    assert torch.allclose(problem.kl_gradient(per_action=True), slope(tokens), rtol=0, atol=1e-13)
    assert not torch.allclose(slope(KL), slope(J), rtol=0, atol=1e-3)
    assert (obs.shape[1] == len(obs)) and (length == 1 or not torch.allclose(slope(KL), slope(tokens), atol=1e-6))


def test_a_full_completion_without_the_end_token_is_cut_not_ended():
    problem = sequences(3, 2, reward)
    b = problem.batch(problem.every)
    last = b.mask & ~torch.nn.functional.pad(b.mask[:, 1:], (0, 1))
    assert torch.equal(b.terminated, last & (b.action == 0)) and torch.equal(b.truncated, last & (b.action != 0))
    assert not b.reward[~last].any() and b.reward[last].all()
    assert problem.states[1] == "after [1]" and problem.actions[:2] == ("the end token", "token 1")
    assert sequences(2, 1, reward, prompts=2).states[1] == "prompt 1, after []"


def test_a_problem_changes_in_the_named_thing_alone():
    problem = find("five-states")
    pi = problem.pi
    assert torch.equal(changed(problem, gamma=0.5).pi, pi) and changed(problem, gamma=0.5).gamma == 0.5
    drifted = changed(problem, drift=0.3)
    assert torch.equal(drifted.pi, pi) and not torch.allclose(drifted.drawing.softmax(-1), pi, atol=1e-2)
    assert torch.equal(problem.drawing.softmax(-1), pi)
    assert torch.equal(changed(problem, drift=0.3).drawing, drifted.drawing)  # seeded
    assert not torch.equal(changed(problem, drift=0.3, seed=1).drawing, drifted.drawing)
    before = torch.get_rng_state()
    changed(problem, hidden=(3,), drift=0.1)
    assert torch.equal(torch.get_rng_state(), before)
    short = changed(problem, limit=1)
    assert short.limit == 1 and problem.limit == 4 and len(short.every.chance) == 5
    assert changed(problem, hidden=(3,)).jacobian.shape == (6, 2, 6 * 3 + 3 + 3 * 2 + 2)
    silent = problem.without_reward()
    assert not silent.directions()[0].gradient.any() and problem.directions()[0].gradient.any()


def test_without_a_reference_there_is_no_kl():
    problem = from_table(five_states(), reference=None)
    assert problem.ref is None and problem.batch(problem.every).log_ref is None
    with pytest.raises(LogpiError, match="your table has no reference policy: a KL needs one"):
        problem.directions(beta=0.1)


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_shipped_problem_is_complete_and_named(name):
    problem = PROBLEMS[name]()
    assert problem.name == name and problem.reference is not None
    assert not problem.states or len(problem.states) == len(problem.obs)
    assert not problem.actions or len(problem.actions) == problem.pi.shape[1]
    assert float(problem.directions()[0].gradient.norm()) > 1e-3
