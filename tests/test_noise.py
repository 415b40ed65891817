"""The noise of a gradient: against closed forms, by enumeration, and inside the loop, where it must change nothing."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from enumerate_mdp import episodes, layered, solve, tabular_policy, trajectories
from made import PAGES, Drift, batch_for, case, critic_for, parts_for, policy_for, rows_for

import logpi
from logpi import noise
from logpi.batch import Rows
from logpi.errors import LogpiError
from logpi.exact.estimators import Choice, Estimator
from logpi.loop import credited, update
from logpi.methods import METHODS
from logpi.now import Surrogate, row_scores
from logpi.run.checkpoint import choose
from logpi.run.config import read
from logpi.run.resume import reopen
from logpi.run.variance import UNBIASED, compare, estimators

STD = torch.tensor([2.0, 1.0, 0.5, 0.1], dtype=torch.float64)
MEAN = torch.tensor([0.3, -0.1, 0.0, 0.2], dtype=torch.float64)
VARIANCE, SIGNAL = float(STD.square().sum()), float(MEAN.square().sum())


def drawn(n: list[int], generator: torch.Generator) -> torch.Tensor:
    """[K, 4]: the means of parts of n Gaussian rows."""
    root = torch.tensor(n, dtype=torch.float64).sqrt()[:, None]
    return MEAN + STD * torch.randn(len(n), 4, dtype=torch.float64, generator=generator) / root


@pytest.mark.parametrize("n", [[4] * 8, [1, 2, 3, 10], [5, 1]])
def test_variance_and_signal_are_unbiased_and_the_plain_square_is_not(n):
    generator, sizes = torch.Generator().manual_seed(0), torch.tensor(n)
    found, plain = [], []
    for _ in range(3000):
        inner = noise.gram(drawn(n, generator))
        found.append(torch.stack(noise.moments(inner, sizes)))
        plain.append(sizes.double() @ inner @ sizes.double() / sizes.sum() ** 2)
    mean, error = torch.stack(found).mean(0), torch.stack(found).std(0) / 3000**0.5
    truth = torch.tensor([VARIANCE, SIGNAL], dtype=torch.float64)
    assert bool(((mean - truth).abs() < 4 * error).all())
    square = torch.stack(plain)
    assert float(square.mean() - SIGNAL) > 4 * float(square.std() / 3000**0.5)


def test_with_equal_parts_it_is_what_two_batch_sizes_tell():
    """|G|^2 = (B |G_B|^2 - b |G_b|^2) / (B - b), S = (|G_b|^2 - |G_B|^2) / (1/b - 1/B): McCandlish et al., appendix A."""
    g, b, B = drawn([4] * 8, torch.Generator().manual_seed(1)), 4, 32
    small, big = g.square().sum(1).mean(), g.mean(0).square().sum()
    variance, signal = noise.moments(noise.gram(g), torch.full((8,), 4))
    assert torch.allclose(signal, (B * big - b * small) / (B - b), rtol=1e-12)
    assert torch.allclose(variance, (small - big) / (1 / b - 1 / B), rtol=1e-12)


def test_the_noise_scale_is_the_number_of_units_whose_snr_is_one():
    variance, signal = torch.tensor(12.0), torch.tensor(3.0)
    assert noise.noise_scale(variance, signal) == 4.0
    assert noise.noise_scale(variance, -signal) == math.inf


def test_halves_and_alignment_are_cosines():
    g, h = drawn([1, 2, 3, 4, 5], torch.Generator().manual_seed(2)), drawn([1] * 5, torch.Generator().manual_seed(3))
    n = torch.arange(1, 6).double()
    cosine = torch.nn.functional.cosine_similarity
    by_hand = cosine(n[:2] @ g[:2], n[2:] @ g[2:], dim=0)
    assert torch.allclose(noise.halves(noise.gram(g), n), by_hand, rtol=1e-12)
    assert noise.halves(noise.gram(g[:1]), n[:1]).isnan() and noise.moments(noise.gram(g[:1]), n[:1])[0].isnan()
    each = torch.stack([cosine(g[k], h.sum(0) - h[k], dim=0) for k in range(5)])
    assert torch.allclose(noise.alignment(noise.gram(g), noise.gram(g, h), noise.gram(h)), each.mean(), rtol=1e-12)


def test_the_jackknife_of_a_mean_is_its_standard_error_and_its_intervals_cover():
    x = torch.randn(20, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    value, low, high = noise.jackknife(lambda x: x.mean(), x)
    assert torch.allclose(high - value, 2.093024 * x.std() / 20**0.5, rtol=1e-6) and torch.allclose(
        value - low, high - value
    )
    generator, n, hits = torch.Generator().manual_seed(5), torch.full((24,), 4), 0
    for _ in range(200):
        inner = noise.gram(drawn(n.tolist(), generator))
        _, low, high = noise.jackknife(lambda g, n: noise.moments(g, n)[0].log(), inner, n)
        hits += bool(low.exp() < VARIANCE < high.exp())
    assert 0.87 <= hits / 200 <= 0.99


def test_intervals_of_few_parts_are_those_of_students_t():
    known = {1: 12.7062, 2: 4.3027, 5: 2.5706, 10: 2.2281, 11: 2.2010, 15: 2.1314, 30: 2.0423, 120: 1.9799}
    assert all(noise.student(k) == pytest.approx(t, abs=6e-5) for k, t in known.items())
    each = [noise.student(k) for k in range(1, 200)]
    assert each == sorted(each, reverse=True) and noise.student(10**9) == pytest.approx(1.959964, abs=1e-6)
    generator = torch.Generator().manual_seed(6)
    for parts in (3, 6):
        x = torch.randn(parts, 20_000, dtype=torch.float64, generator=generator)
        half = noise.half_interval((x.sum(0) - x) / (parts - 1))
        assert half.shape == (20_000,)
        assert float((x.mean(0).abs() < half).double().mean()) == pytest.approx(0.95, abs=0.008)
    assert bool(noise.half_interval(torch.ones(1, 2)).isnan().all())


def test_the_effective_share_of_actions():
    assert abs(float(noise.ess(torch.full((7,), 0.3))) - 1) < 1e-12
    assert abs(float(noise.ess(torch.tensor([1000.0, 0.0, -5.0, 3.0]))) - 0.25) < 1e-12
    log_rho = torch.tensor([0.1, -0.4, 0.2], dtype=torch.float64)
    rho = log_rho.exp()
    assert torch.allclose(noise.ess(log_rho), rho.sum() ** 2 / (3 * (rho**2).sum()), rtol=1e-12)


def kinds(name):
    """(head, whether policy and critic share a trunk) that a page is tried with."""
    critic = PAGES[name].critic
    return [("categorical", False), *{"v": [("gaussian", True)], None: [("gaussian", False)]}.get(critic, [])]


@pytest.mark.parametrize("micro", [None, 2])
@pytest.mark.parametrize(("name", "head", "shared"), [(name, *kind) for name in PAGES for kind in kinds(name)])
def test_the_parts_make_up_the_policys_gradient_and_nothing_is_touched(name, head, shared, micro):
    method, policy = PAGES[name], policy_for(head, shared=shared)
    b = batch_for(method, policy, critic_for(method.critic, policy))
    b = b.with_(scores=partial(row_scores, policy, b))
    b = credited(method, b, {"progress": 0.0})
    rows, state = rows_for(method, b, micro), {"progress": 0.0}
    shuffler = rows.generator.get_state()
    g, n = noise.part_gradients(method, policy, b, rows, state)
    whole = sum(Surrogate(method, policy, None, rows_for(method, b), state)(rows.batch))
    truth = torch.cat([x.flatten() for x in torch.autograd.grad(whole, list(policy.parameters()))])
    assert torch.allclose(n.double() @ g / n.sum(), truth, rtol=1e-9, atol=1e-12)
    assert int(n.sum()) == len(b) and len(n) == min(8, len(b)) and float(truth.norm()) > 1e-6
    assert all(p.grad is None for p in policy.parameters()) and torch.equal(shuffler, rows.generator.get_state())


def test_a_part_is_a_segment_or_an_episode_or_a_group_never_a_piece_of_one():
    for method in (replace(PAGES["a2c"], entropy=0.0), PAGES["baseline-none"], PAGES["rloo"]):
        policy, _, b = case(method)
        b = credited(method, b, {})
        g, n = noise.part_gradients(method, policy, b, rows_for(method, b), {})
        assert n.tolist() == [1] * len(b)
        for k in range(len(b)):
            alone = torch.zeros_like(b.psi)
            alone[k] = b.psi[k]
            by_hand = row_scores(policy, b, method.average(b.mask) * alone).sum(0) * len(b)
            assert torch.allclose(g[k], by_hand, atol=1e-12) and float(by_hand.norm()) > 1e-6


def test_memory_is_bounded_whatever_the_number_of_parts(monkeypatch):
    method = PAGES["baseline-none"]
    policy, _, b = case(method)
    b = credited(method, b, {})
    monkeypatch.setattr(noise, "LIMIT", 10)
    g, n = noise.part_gradients(method, policy, b, rows_for(method, b), {})
    assert len(g) == 2 and n.tolist() == [3, 3]


def test_the_measured_variance_is_the_one_of_all_trajectories():
    """tr Cov of one episode's gradient, exactly, from every trajectory and its probability; then from 4000 drawn ones."""
    table = layered()
    policy = tabular_policy(table)
    every = trajectories(table)
    page = Estimator(Choice(psi="to_go", gamma=0.9))
    pi = policy.network.weight.T.softmax(-1).detach()
    chance = torch.stack([x.probability(pi) for x in every]).detach()
    b = credited(page, episodes(table, policy, every), {})
    each = row_scores(policy, b, b.psi)
    signal = (chance @ each).square().sum()
    variance = chance @ each.square().sum(1) - signal
    drawn = torch.multinomial(chance, 4000, replacement=True, generator=torch.Generator().manual_seed(0)).tolist()
    b = credited(page, episodes(table, policy, [every[i] for i in drawn]), {})
    rows = Rows(b, torch.Generator(), whole=True)
    g, n = noise.part_gradients(page, policy, b, rows, {}, parts=200)
    inner = noise.gram(g)
    for i, truth in enumerate((variance, signal)):
        value, low, high = noise.jackknife(lambda inner, n, i=i: noise.moments(inner, n)[i], inner, n)
        assert low < truth < high and (high - low) / value < 0.5
    assert not low < (n.double() @ inner @ n.double()) / n.sum() ** 2 * 1.5 < high


def test_the_table_of_estimators_tells_the_variances_of_all_trajectories():
    """The exact trace of the covariance of one episode's gradient lies in the interval that drawn episodes give."""
    table = layered()
    policy = tabular_policy(table)
    every, pi = trajectories(table), policy.network.weight.T.softmax(-1).detach()
    V = solve(table, pi, 1.0)[0]
    chance = torch.stack([x.probability(pi) for x in every])
    drawn = torch.multinomial(chance, 2400, replacement=True, generator=torch.Generator().manual_seed(1)).tolist()
    batches = [episodes(table, policy, [every[i] for i in drawn[k : k + 16]], V) for k in range(0, 2400, 16)]
    pages = estimators([("total", "none"), ("to_go", "none"), ("to_go", "value"), ("td", "none"), ("gae", "none")])
    lines, reference, certainty = compare(pages, policy, batches, estimators(UNBIASED))
    assert reference == "to_go - value" and certainty > 0.95
    whole = episodes(table, policy, every, V)
    for x, page in zip(lines, pages.values(), strict=True):
        each = row_scores(policy, whole, credited(page, whole, {}).psi)
        signal = (chance @ each).square().sum()
        variance = chance @ each.square().sum(1) - signal
        assert x.variance.low < variance < x.variance.high and x.variance.high / x.variance.low < 1.6
        assert x.snr.low < 16 * signal / variance < x.snr.high
        assert x.noise_scale.low < variance / signal < x.noise_scale.high


SMALL = {
    "envs": 3,
    "length": 16,
    "episodes": 3,
    "starts": 3,
    "group": 2,
    "epochs": 2,
    "minibatches": 2,
    "critic_epochs": 2,
}
COLUMNS = ["grad_variance", "grad_signal", "grad_snr", "grad_noise_scale", "grad_cosine_halves", "ess"]


def learnt(name, measure_gradient, env="CartPole-v1", iterations=4, **settings):
    fields = {k: v for k, v in SMALL.items() if k in METHODS[name].__dataclass_fields__}
    records = logpi.learn(name, env, steps=10**6, hidden=(8,), measure_gradient=measure_gradient, **fields, **settings)
    return [(record, dict(record.metrics)) for _, record in zip(range(iterations), records, strict=False)]


@pytest.mark.parametrize("name", METHODS)
def test_a_measurement_changes_no_bit_of_what_is_learnt(name):
    boxed = {"env": Drift, "shared": METHODS[name].critic == "v", "normalise_obs": True}
    for settings in ({}, boxed):
        plain, measured = (learnt(name, every, **settings) for every in (0, 3))
        for (_, a), (_, b) in zip(plain, measured, strict=True):
            assert str(a) == str({k: v for k, v in b.items() if k in a})
        assert [sorted({*b} & {*COLUMNS}) for _, b in measured] == [sorted(COLUMNS), [], [], sorted(COLUMNS)]
        one, two = (x[-1][0].parts for x in (plain, measured))
        for p, q in zip(one.policy.parameters(), two.policy.parameters(), strict=True):
            assert torch.equal(p, q) and (p.grad is None) == (q.grad is None)
            assert p.grad is None or torch.equal(p.grad, q.grad)
        assert torch.equal(one.generator.get_state(), two.generator.get_state())
        for _, b in (measured[0], measured[3]):
            assert 0 < b["ess"] <= 1 and b["grad_variance"] > 0


def test_what_is_logged_is_what_the_parts_say():
    method = PAGES["ppo"]
    policy, critic, b = case(method)
    parts = parts_for(method, policy, critic)
    parts.measure_gradient = 10
    done, info = update(parts, b)
    g, n = noise.part_gradients(method, policy, done, rows_for(method, done), parts.state)
    mean, total = n.double() @ g / n.sum(), int(n.sum())
    variance = float((n * (g - mean).square().sum(1)).sum() / (len(n) - 1))
    signal = float(mean.square().sum()) - variance / total
    assert info["grad_variance"] == pytest.approx(variance) and info["grad_signal"] == pytest.approx(signal)
    assert info["grad_snr"] == pytest.approx(total * signal / variance)
    rho = (parts.policy.log_prob(b.obs, b.action) - b.log_pi)[b.mask].exp().detach()
    assert info["ess"] == pytest.approx(float(rho.sum() ** 2 / rho.square().sum() / len(rho)))


def test_a_resumed_run_measures_at_the_same_iterations_and_may_measure_more(tmp_path):
    whole = learnt("ppo", 3, iterations=7)
    half = learnt("ppo", 3, iterations=2)
    saved = half[-1][0].save(tmp_path)
    again = [dict(r.metrics) for _, r in zip(range(5), logpi.resume(saved), strict=False)]
    assert [str(m) for m in again] == [str(m) for _, m in whole[2:]] and "ess" in again[1]
    folder, _ = choose(tmp_path)
    parts, settings, _ = reopen(folder, read(folder / "config.toml"), typed={"measure_gradient": 1})
    parts.collect.envs.close()
    assert parts.measure_gradient == settings.measure_gradient == 1


@pytest.mark.parametrize(("name", "field"), [("ppo", "envs"), ("reinforce", "episodes"), ("grpo", "starts")])
def test_one_row_has_no_noise_to_be_seen(name, field):
    with pytest.raises(LogpiError, match=f"give --{field} 2 or more"):
        next(logpi.learn(name, "CartPole-v1", measure_gradient=1, **{field: 1}))
