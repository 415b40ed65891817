"""The vectorised expectation and variance against a plain loop over batches that runs the library's own training code."""

import dataclasses
import itertools
import math
from functools import cache, partial

import pytest
import torch
from torch import Tensor

from logpi import METHODS
from logpi.batch import Batch, Rows
from logpi.errors import LogpiError
from logpi.exact import Choice, Estimator, Moments, batches, figures, find, intervals, moments, sequences, surrogate_of
from logpi.exact.batches import Draws, Shape, exhaust, size
from logpi.exact.expectation import gradients
from logpi.exact.problem import Direction
from logpi.exact.problems import changed
from logpi.loop import credited
from logpi.now import Surrogate, reference_log_prob, row_scores
from logpi.step.natural import flat

F64 = torch.float64


@cache
def small(hidden: tuple[int, ...] = (), drift: float = 0.0):
    """Two starts, three episodes from each: two that end, one that is cut; a discount, a critic that errs, a reference."""
    pays = {0: 1.0, 1: -0.7, 2: 2.0, 3: 0.4, 4: -1.5, 5: 0.9}
    problem = sequences(2, 2, lambda m, x: pays[3 * m + len(x) + x[-1] - 1], prompts=2, seed=4)
    table = dataclasses.replace(problem.table, R=problem.table.R + 0.3 * torch.arange(2.0, dtype=F64))
    problem = dataclasses.replace(problem, table=table)
    return changed(problem, gamma=0.8, critic_error=0.5, hidden=hidden, drift=drift)


def real_batch(problem, index: tuple[int, ...], page) -> Batch:
    """Those trajectories as a rollout would hand them to the loop: observations, no state numbers, nothing prepared."""
    x, behaviour = problem.every.at(torch.tensor(index)), problem.behaviour or problem.policy
    last = x.mask & ~torch.nn.functional.pad(x.mask[:, 1:], (0, 1))
    ends, obs, ours = problem.table.terminal[x.after], problem.obs[x.state], x.mask
    with torch.no_grad():
        params = behaviour(obs)
        log_pi = behaviour.head.log_prob(params, x.action)
    (V, Q), t = problem.critic, torch.arange(x.state.shape[1])
    q = torch.where(ours, Q[t, x.state, x.action], 0.0)
    b = Batch(
        obs=obs,
        action=x.action,
        log_pi=torch.where(ours, log_pi, 0.0),
        params=params,
        reward=torch.where(ours, problem.table.R[x.state, x.action], 0.0),
        terminated=last & ends,
        truncated=last & ~ends,
        mask=ours,
        version=torch.zeros_like(x.state),
        start=torch.zeros(len(index), dtype=torch.long),
        value=torch.where(ours, V[t, x.state], 0.0),
        value_next=torch.where(ours, V[t + 1, x.after], 0.0),
        q=q,
        q_next=torch.nn.functional.pad(q[:, 1:], (0, 1)),
    )
    b = b.with_(log_ref=reference_log_prob(problem.reference, problem.policy, b))
    if page.rows == "groups":
        b = b.map(lambda z: z[None])
    return b.with_(scores=partial(row_scores, problem.policy, b)) if page.rows == "episodes" else b


def page_gradient(page, problem, index: tuple[int, ...]) -> Tensor:
    """What a training iteration's first gradient would be, through `credited`, `Rows` and `Surrogate`."""
    state = {"progress": 0.0}
    b = credited(page, real_batch(problem, index, page), state)
    rows = Rows(b, torch.Generator(), whole=page.rows != "segments")
    value = sum(Surrogate(page, problem.policy, None, rows, state)(rows.batch))
    return flat(torch.autograd.grad(value, list(problem.policy.parameters()), materialize_grads=True))


def plainly(page, problem, n: int) -> tuple[Tensor, float]:
    """(mean, variance) by a loop over every batch of n trajectories and its probability."""
    p, first = problem.probability, problem.every.state[:, 0]
    mean, square = torch.zeros(problem.jacobian.shape[-1], dtype=F64), 0.0
    for index in itertools.product(range(len(p)), repeat=n):
        chance = float(p[list(index)].prod())
        if page.rows == "groups":  # one start, drawn once
            if len({int(first[i]) for i in index}) > 1:
                continue
            chance /= float(p[first == first[index[0]]].sum()) ** (n - 1)
        g = page_gradient(page, problem, index)
        mean, square = mean + chance * g, square + chance * float(g @ g)
    return mean, square - float(mean @ mean)


CHOICES = {
    "base": Choice(gamma=0.8),
    "total, clip, per action": Choice(gamma=0.8, psi="total", objective="clip", average="per_action"),
    "gae, standardised": Choice(gamma=0.8, psi="gae", baseline="standardised", objective="mirror", from_start=False),
    "vtrace, budget": Choice(gamma=0.8, psi="vtrace", lam=0.7, average="per_budget", budget=3),
    "n-step, optimal": Choice(gamma=0.8, psi="n_step", baseline="optimal"),
    "advantage, gspo": Choice(gamma=0.8, psi="advantage", objective="sequence_clip", average="per_sequence"),
    "time, cispo, k3 live": Choice(gamma=0.8, baseline="time", objective="clipped_weight", kl="k3_live", beta=0.3),
    "group, k1 in the reward": Choice(gamma=0.8, psi="total", baseline="group_standardised", kl="k1_reward", correction=1),
    "group loo, k2": Choice(gamma=0.8, psi="total", baseline="group_leave_one_out", kl="k2", objective="ratio"),
}  # fmt: skip
OPTIONS = {
    "reinforce": {"from_start": True},
    "baseline": {"baseline": "optimal", "from_start": True},
    "actor_critic": {"entropy": 0.2},
    "a2c": {"from_start": True, "n": 1},
    "grpo": {"kl": 0.3, "kl_live": True, "entropy": 0.1},
    "rloo": {"kl": 0.3},
    "dr_grpo": {"budget": 3},
    "mdpo": {"entropy": 0.1, "kl": "estimate"},
}
PAGES = {name: page(**OPTIONS.get(name, {})) for name, page in METHODS.items()}
PAGES |= {name: Estimator(choice) for name, choice in CHOICES.items()}


@pytest.mark.parametrize("name", PAGES)
def test_the_expectation_and_the_variance_are_those_of_the_training_code_on_every_batch(name):
    page, problem = PAGES[name], small()
    mean, variance = plainly(page, problem, 2)
    found = moments(problem, surrogate_of(page), page.rows, 2)
    assert not found.measured and found.batches == (18 if page.rows == "groups" else 36)
    assert float((found.mean - mean).abs().max()) < 1e-13 and abs(found.variance - variance) < 1e-12
    assert variance > 1e-4


DRIFTED = ("ppo", "grpo", "mdpo", "ppo_kl", "total, clip, per action", "advantage, gspo", "time, cispo, k3 live")


@pytest.mark.parametrize("name", DRIFTED)
def test_so_they_are_where_another_policy_drew_the_actions(name):
    page, problem = PAGES[name], small(drift=0.6)
    mean, variance = plainly(page, problem, 2)
    found = moments(problem, surrogate_of(page), page.rows, 2)
    assert float((found.mean - mean).abs().max()) < 1e-13 and abs(found.variance - variance) < 1e-12
    still = moments(small(), surrogate_of(page), page.rows, 2)
    assert float((still.mean - mean).abs().max()) > 1e-3


@pytest.mark.parametrize("name", ["ppo", "rloo", "n-step, optimal"])
def test_and_of_a_network_whose_states_share_parameters(name):
    page, problem = PAGES[name], small(hidden=(3,))
    mean, variance = plainly(page, problem, 2)
    found = moments(problem, surrogate_of(page), page.rows, 2)
    assert float((found.mean - mean).abs().max()) < 1e-13 and abs(found.variance - variance) < 1e-12


def test_and_in_batches_of_three():
    page = PAGES["group, k1 in the reward"]
    mean, variance = plainly(page, small(), 3)
    found = moments(small(), surrogate_of(page), page.rows, 3)
    assert found.batches == 54 and float((found.mean - mean).abs().max()) < 1e-13
    assert abs(found.variance - variance) < 1e-12


def test_the_plain_loop_finds_out_a_page_that_is_not_the_one_it_runs():
    page, other = PAGES["base"], Estimator(dataclasses.replace(CHOICES["base"], average="per_action"))
    mean, _ = plainly(other, small(), 2)
    assert float((moments(small(), surrogate_of(page), page.rows, 2).mean - mean).abs().max()) > 1e-3


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("n", [2, 3])
def test_looking_once_at_batches_of_other_order_changes_nothing(name, n):
    page = PAGES[name]
    whole, once = (moments(small(), surrogate_of(page), page.rows, n, symmetric=s) for s in (False, True))
    assert once.batches < whole.batches
    assert float((whole.mean - once.mean).abs().max()) < 1e-13 and abs(whole.variance - once.variance) < 1e-12


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("shape", [Shape(1, 3), Shape(3, 1), Shape(2, 2)], ids=str)
def test_the_weights_are_probabilities_and_the_count_is_right(shape, symmetric):
    """Groups from one start: p(start) prod p(tau | start); the chance of a start is not raised to the group's power."""
    problem = small()
    draws = list(exhaust(problem, shape, symmetric))
    weight = torch.cat([d.weight for d in draws])
    assert len(weight) == size(problem, shape, symmetric) and abs(float(weight.sum()) - 1) < 1e-14
    start = torch.cat([d.rows.state for d in draws])[..., 0]  # [C, P, G]
    assert (start == start[..., :1]).all()
    if not symmetric:
        assert abs(float(weight[start[:, 0, 0] == start.min()].sum()) - 0.5) < 1e-14


def test_a_group_of_64_is_enumerated_by_what_is_in_it():
    problem = small()
    draws = [*exhaust(problem, Shape(1, 64), True)]
    weight = torch.cat([d.weight for d in draws])
    assert len(weight) == 2 * math.comb(66, 2) and abs(float(weight.sum()) - 1) < 1e-12
    bare = Estimator(Choice(gamma=0.8))
    one, many = (moments(problem, surrogate_of(bare), "groups", n, symmetric=True) for n in (1, 64))
    assert float((one.mean - many.mean).abs().max()) < 1e-13 and many.variance < one.variance


def test_many_chunks_are_one_sum(monkeypatch):
    page = PAGES["base"]
    whole = moments(small(), surrogate_of(page), page.rows, 2)
    monkeypatch.setattr(batches, "CHUNK", 7)
    parts = moments(small(), surrogate_of(page), page.rows, 2)
    assert parts.batches == 36 and float((whole.mean - parts.mean).abs().max()) < 1e-15
    assert abs(whole.variance - parts.variance) < 1e-13


def test_too_many_batches_are_refused_or_measured():
    page = Estimator(Choice(gamma=0.9))
    with pytest.raises(
        LogpiError, match=r"gridworld has about 10\^30 trajectories: batches of 4 are too many.*--samples 20000"
    ):
        moments(find("gridworld"), surrogate_of(page), page.rows, 4)
    with pytest.raises(LogpiError, match="sequences has 15 trajectories: batches of 6 are too many"):
        moments(find("sequences"), surrogate_of(page), page.rows, 6)
    found = moments(find("gridworld"), surrogate_of(page), page.rows, 2, samples=60)
    assert found.measured and found.batches == 60


@pytest.fixture(scope="module")
def drawn():
    """{name: (exact moments, per-batch gradients of 12,000 drawn batches)} of an unbiased and two biased estimators."""
    problem, out = find("five-states"), {}
    for name, choice in {
        "unbiased": Choice(gamma=0.9),
        "per action": Choice(gamma=0.9, average="per_action"),
        "group": Choice(gamma=0.9, psi="total", baseline="group_standardised"),
    }.items():
        page = Estimator(choice)
        draws = batches.sample(problem, Shape.of(page.rows, 2), 12_000, torch.Generator().manual_seed(5))
        rows = list(draws)
        T = max(d.rows.state.shape[-1] for d in rows)
        wide = [[torch.nn.functional.pad(x, (0, T - x.shape[-1])) for x in d.rows[:-1]] for d in rows]
        state, action, after, mask = (torch.cat(x) for x in zip(*wide, strict=True))
        joined = Draws(type(rows[0].rows)(state, action, after, mask, torch.ones(len(state))), torch.ones(len(state)))
        g = gradients(problem, surrogate_of(page), page.rows, joined)
        out[name] = moments(problem, surrogate_of(page), page.rows, 2), g
    return problem.directions()[0], out


def measured(g: Tensor) -> Moments:
    """As `moments` would: 20 blocks of drawn batches."""
    sums = g.reshape(20, -1, g.shape[1]).sum(1)
    squares = g.square().sum(-1).reshape(20, -1).sum(1)
    n, mean = len(g), g.mean(0)
    variance = float(squares.sum() / n - mean @ mean) * n / (n - 1)
    return Moments(mean, variance, n, True, (sums, squares))


@pytest.mark.parametrize("name", ["unbiased", "per action", "group"])
def test_the_intervals_of_drawn_batches_hold_the_truth_about_as_often_as_they_say(drawn, name):
    """30 measurements of 400 batches each: every figure is inside at least 80 % of the time, and not of an absurd width."""
    to, out = drawn
    exact, g = out[name]
    truth, inside, halves, found = figures(exact, to), {}, {}, {}
    for part in g.split(400):
        m = measured(part)
        said, half = figures(m, to), intervals(m, to)
        for x in truth:
            inside.setdefault(x, []).append(abs(said[x] - truth[x]) <= half[x])
            halves.setdefault(x, []).append(half[x])
            found.setdefault(x, []).append(said[x])
    assert len(inside["scale"]) == 30
    assert all(sum(x) >= 24 for x in inside.values()), {k: sum(x) for k, x in inside.items()}
    width = {k: sum(x) / 30 for k, x in halves.items()}
    for x in ("scale", "variance", "mse"):  # figures without a corner (a bias of 0, a cosine of 1)
        assert 0.6 < width[x] / (1.96 * float(torch.tensor(found[x]).std())) < 1.6
    assert width["scale"] < 0.25 and width["cosine"] < 0.1


def test_a_shifted_truth_is_outside_those_intervals(drawn):
    to, out = drawn
    exact, g = out["per action"]
    shifted = Direction("elsewhere", 1.5 * to.gradient)
    truth, m = figures(exact, shifted), measured(g)
    said, half = figures(m, to), intervals(m, to)
    assert abs(said["scale"] - truth["scale"]) > half["scale"]
    assert abs(said["relative_bias"] - truth["relative_bias"]) > half["relative_bias"]


@pytest.mark.parametrize("seed", [0, 1])
def test_measuring_agrees_with_enumerating_within_its_interval(seed, monkeypatch):
    problem, page = find("five-states"), Estimator(Choice(gamma=0.9, baseline="time", average="per_sequence"))
    exact, to = moments(problem, surrogate_of(page), page.rows, 2), problem.directions()[0]
    monkeypatch.setattr(batches, "MOST", 13)  # too many to enumerate: 169
    m = moments(problem, surrogate_of(page), page.rows, 2, samples=4000, seed=seed)
    assert m.measured and m.batches == 4000 and not exact.measured
    truth, said, half = figures(exact, to), figures(m, to), intervals(m, to)
    assert all(abs(said[x] - truth[x]) <= 1.3 * half[x] for x in truth)
    assert 0 < half["scale"] < 0.1 and set(intervals(exact, to).values()) == {0.0}


def test_the_figures_are_what_they_are_called():
    to = Direction("g", torch.tensor([3.0, 4.0], dtype=F64))
    f = figures(Moments(torch.tensor([3.0, 0.0], dtype=F64), 18.0, 1, False), to)
    assert f == pytest.approx(
        {"relative_bias": 0.8, "cosine": 0.6, "scale": 9 / 25, "mse": 34, "variance": 18, "snr": 0.5}
    )
    none = figures(Moments(torch.zeros(2, dtype=F64), 0.0, 1, False), Direction("0", torch.zeros(2, dtype=F64)))
    assert none["relative_bias"] != none["relative_bias"] and none["cosine"] != none["cosine"]
