"""Every credit written again as a plain loop over one row, and compared in float64."""

import inspect

import pytest
import torch

from logpi import psi

F64 = torch.float64
GAMMA, LAM = 0.97, 0.7  # neither is a float32: a detour through float32 shows
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


def segment(*shape, seed=0, ends=0.15, dtype=F64):
    """A random segment whose value_next is the next step's value wherever nothing ended."""
    g = torch.Generator().manual_seed(seed)
    reward, value, value_next = (torch.randn(shape, generator=g, dtype=F64).to(dtype) for _ in range(3))
    terminated = torch.rand(shape, generator=g) < ends
    truncated = (torch.rand(shape, generator=g) < ends) & ~terminated
    value_next[..., :-1] = torch.where((terminated | truncated)[..., :-1], value_next[..., :-1], value[..., 1:])
    return {
        "reward": reward,
        "value": value,
        "value_next": value_next,
        "terminated": terminated,
        "truncated": truncated,
    }


def by_row(f, s):
    """f(row, t) for every slot of every row."""
    length = s["reward"].shape[-1]
    flat = {k: x.reshape(-1, length) for k, x in s.items()}
    rows = [{k: x[i].tolist() for k, x in flat.items()} for i in range(len(flat["reward"]))]
    return torch.tensor([[f(row, t) for t in range(length)] for row in rows], dtype=F64).reshape(s["reward"].shape)


def ended(s):
    return s["terminated"] | s["truncated"]


def delta(row, t, gamma):
    return row["reward"][t] + (0 if row["terminated"][t] else gamma * row["value_next"][t]) - row["value"][t]


def loop_n_step(row, t, gamma, n):
    """n rewards, then the critic; fewer where an end or the row's end comes first."""
    total = -row["value"][t]
    for k, i in enumerate(range(t, len(row["reward"]))):
        total += gamma**k * row["reward"][i]
        if row["terminated"][i]:
            return total
        if row["truncated"][i] or k == n - 1 or i == len(row["reward"]) - 1:
            return total + gamma ** (k + 1) * row["value_next"][i]
    raise AssertionError(t)


def loop_gae(row, t, gamma, lam):
    total = 0.0
    for k, i in enumerate(range(t, len(row["reward"]))):
        total += (gamma * lam) ** k * delta(row, i, gamma)
        if row["terminated"][i] or row["truncated"][i]:
            break
    return total


def first_of(row, t):
    return max([i + 1 for i in range(t) if row["terminated"][i] or row["truncated"][i]], default=0)


def loop_to_go(row, t, gamma):
    total = 0.0
    for k, i in enumerate(range(t, len(row["reward"]))):
        total += gamma**k * row["reward"][i]
        if row["terminated"][i] or row["truncated"][i]:
            break
    return total


@pytest.mark.parametrize("seed", range(3))
def test_td_is_one_reward_then_the_critic(seed):
    s = segment(4, 12, seed=seed)
    out = psi.td(s["reward"], s["value"], s["value_next"], s["terminated"], GAMMA)
    torch.testing.assert_close(out, by_row(lambda r, t: delta(r, t, GAMMA), s), **CLOSE)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 12, 50])
def test_n_step_is_n_rewards_then_the_critic(n):
    s = segment(6, 12, seed=n)
    torch.testing.assert_close(
        psi.n_step(**s, gamma=GAMMA, n=n), by_row(lambda r, t: loop_n_step(r, t, GAMMA, n), s), **CLOSE
    )


@pytest.mark.parametrize("lam", [0.0, LAM, 1.0])
def test_gae_is_the_decaying_sum_of_td_errors(lam):
    s = segment(6, 12, seed=3)
    torch.testing.assert_close(
        psi.gae(**s, gamma=GAMMA, lam=lam), by_row(lambda r, t: loop_gae(r, t, GAMMA, lam), s), **CLOSE
    )


def test_gae_at_lam_1_is_the_bootstrapped_return_minus_the_value():
    s = segment(8, 12, seed=4)
    expected = by_row(lambda r, t: loop_n_step(r, t, GAMMA, 10**6), s)
    torch.testing.assert_close(psi.gae(**s, gamma=GAMMA, lam=1.0), expected, **CLOSE)
    swapped = s | {"terminated": s["truncated"], "truncated": s["terminated"]}  # the bug: the two ends exchanged
    assert not torch.allclose(psi.gae(**swapped, gamma=GAMMA, lam=1.0), expected)


def test_two_step_td_in_full():
    s = segment(9, seed=5, ends=0.0)
    r, v, v_next = s["reward"], s["value"], s["value_next"]
    by_hand = r[:-1] + GAMMA * r[1:] + GAMMA**2 * v_next[1:] - v[:-1]
    torch.testing.assert_close(psi.n_step(**s, gamma=GAMMA, n=2)[:-1], by_hand, **CLOSE)


def test_gae_is_the_exponential_average_of_n_step_advantages():
    s = segment(3, 9, seed=6, ends=0.0)
    s["terminated"][..., -1] = True
    length = 9
    steps = [psi.n_step(**s, gamma=GAMMA, n=n) for n in range(1, length + 1)]
    mixed = sum((1 - LAM) * LAM ** (n - 1) * a for n, a in enumerate(steps[:-1], 1)) + LAM ** (length - 1) * steps[-1]
    out = psi.gae(**s, gamma=GAMMA, lam=LAM)
    torch.testing.assert_close(out, mixed, **CLOSE)
    inverted = (
        sum(LAM ** (n - 1) / (1 - LAM) * a for n, a in enumerate(steps[:-1], 1)) + LAM ** (length - 1) * steps[-1]
    )
    assert not torch.allclose(out, inverted)


@pytest.mark.parametrize("gamma", [1.0, GAMMA, 0.0])
def test_returns_by_episode_with_several_episodes_in_a_row(gamma):
    s = segment(6, 15, seed=7)
    to_go = by_row(lambda r, t: loop_to_go(r, t, gamma), s)
    total = by_row(lambda r, t: loop_to_go(r, first_of(r, t), gamma), s)
    torch.testing.assert_close(psi.reward_to_go(s["reward"], ended(s), gamma), to_go, **CLOSE)
    torch.testing.assert_close(psi.total_return(s["reward"], ended(s), gamma), total, **CLOSE)
    assert not torch.allclose(to_go, total)


@pytest.mark.parametrize("gamma", [1.0, GAMMA, 0.0])
@pytest.mark.parametrize("with_start", [False, True])
def test_discount_from_start_counts_from_the_episodes_first_step(gamma, with_start):
    s, start = segment(5, 15, seed=8), torch.tensor([0, 3, 1, 7, 2])
    s["start"] = start[:, None].expand(5, 15) * with_start
    age = by_row(lambda r, t: t - first_of(r, t) + (r["start"][0] if first_of(r, t) == 0 else 0), s)
    out = psi.discount_from_start(s["reward"], ended(s), gamma, start if with_start else None)
    torch.testing.assert_close(out, s["reward"] * gamma**age, **CLOSE)


def test_cutting_an_episode_into_two_rows_keeps_its_discount():
    x, no_end = segment(10, seed=9)["reward"], torch.zeros(10, dtype=torch.bool)
    halves = psi.discount_from_start(x.view(2, 5), no_end.view(2, 5), GAMMA, torch.tensor([0, 5]))
    torch.testing.assert_close(halves.view(10), psi.discount_from_start(x, no_end, GAMMA), **CLOSE)


def loop_vtrace(s, rho, gamma, lam, rho_clip, c_clip):
    """Espeholt et al. 2018, eq. 1, as a sum of products over each row."""

    def target(row, t):
        total, c = row["value"][t], 1.0
        for k, i in enumerate(range(t, len(row["reward"]))):
            total += gamma**k * c * min(row["rho"][i], rho_clip) * delta(row, i, gamma)
            if row["terminated"][i] or row["truncated"][i]:
                break
            c *= lam * min(row["rho"][i], c_clip)
        return total

    def credit(row, t):
        v_next = row["value_next"][t]
        if t + 1 < len(row["reward"]) and not row["terminated"][t] and not row["truncated"][t]:
            v_next = lam * target(row, t + 1) + (1 - lam) * row["value"][t + 1]
        return min(row["rho"][t], rho_clip) * (
            row["reward"][t] + (0 if row["terminated"][t] else gamma * v_next) - row["value"][t]
        )

    return by_row(target, s | {"rho": rho}), by_row(credit, s | {"rho": rho})


@pytest.mark.parametrize(
    ("lam", "rho_clip", "c_clip"), [(1.0, 1.0, 1.0), (0.8, 1.0, 1.0), (1.0, 2.0, 0.7), (0.6, 0.9, 1.5)]
)
def test_vtrace_is_its_definition(lam, rho_clip, c_clip):
    s = segment(6, 10, seed=10)
    rho = torch.randn(6, 10, generator=torch.Generator().manual_seed(1), dtype=F64).exp()
    out = psi.vtrace(**s, gamma=GAMMA, rho=rho, lam=lam, rho_clip=rho_clip, c_clip=c_clip)
    for ours, theirs in zip(out, loop_vtrace(s, rho, GAMMA, lam, rho_clip, c_clip), strict=True):
        torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.mark.parametrize("lam", [0.0, LAM, 1.0])
def test_vtrace_on_policy_is_gae_and_at_lam_1_the_n_step_return(lam):
    s = segment(6, 10, seed=11)
    target, credit = psi.vtrace(**s, gamma=GAMMA, rho=torch.ones(6, 10, dtype=F64), lam=lam)
    gae = psi.gae(**s, gamma=GAMMA, lam=lam)
    torch.testing.assert_close(target, s["value"] + gae, **CLOSE)
    torch.testing.assert_close(credit, gae, **CLOSE)
    if lam == 1:
        torch.testing.assert_close(credit, psi.n_step(**s, gamma=GAMMA, n=10), **CLOSE)


CREDITS = {
    "total_return": lambda s: psi.total_return(s["reward"], ended(s), GAMMA),
    "reward_to_go": lambda s: psi.reward_to_go(s["reward"], ended(s), GAMMA),
    "discount_from_start": lambda s: psi.discount_from_start(s["reward"], ended(s), GAMMA),
    "td": lambda s: psi.td(s["reward"], s["value"], s["value_next"], s["terminated"], GAMMA),
    "n_step": lambda s: psi.n_step(**s, gamma=GAMMA, n=3),
    "gae": lambda s: psi.gae(**s, gamma=GAMMA, lam=LAM),
    "vtrace": lambda s: psi.vtrace(**s, gamma=GAMMA, rho=s["value"].exp(), lam=LAM)[1],
    "vtrace_target": lambda s: psi.vtrace(**s, gamma=GAMMA, rho=s["value"].exp(), lam=LAM)[0],
}


@pytest.mark.parametrize("name", CREDITS)
def test_leading_axes_are_free(name):
    s = segment(2, 3, 8, seed=13)
    whole = CREDITS[name](s)
    torch.testing.assert_close(whole.view(6, 8), CREDITS[name]({k: x.view(6, 8) for k, x in s.items()}), **CLOSE)
    torch.testing.assert_close(whole[1, 2], CREDITS[name]({k: x[1, 2] for k, x in s.items()}), **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("name", CREDITS)
def test_the_float_type_is_kept_down_to_a_row_of_one_step(name, dtype):
    for steps in (1, 5):
        out = CREDITS[name](segment(2, steps, dtype=dtype))
        assert out.dtype == dtype
        assert out.isfinite().all()


@pytest.mark.parametrize("name", CREDITS)
def test_the_arguments_are_left_as_they_were(name):
    s = segment(2, 8, seed=14)
    before = {k: x.clone() for k, x in s.items()}
    CREDITS[name](s)
    assert all(torch.equal(s[k], before[k]) for k in s)


def test_value_next_after_termination_may_be_nan():
    s = segment(4, 10, seed=15)
    hidden = s | {"value_next": torch.where(s["terminated"], torch.nan, s["value_next"])}
    for name in ("td", "n_step", "gae", "vtrace", "vtrace_target"):
        assert torch.equal(CREDITS[name](hidden), CREDITS[name](s)), name


def test_public_keywords_are_those_of_the_design():
    expected = {
        "total_return": "reward ended gamma",
        "reward_to_go": "reward ended gamma",
        "discount_from_start": "psi ended gamma start",
        "td": "reward value value_next terminated gamma",
        "n_step": "reward value value_next terminated truncated gamma n",
        "gae": "reward value value_next terminated truncated gamma lam",
        "vtrace": "reward value value_next terminated truncated gamma rho lam rho_clip c_clip",
        "group_mean": "ret",
        "leave_one_out": "ret",
        "group_standardise": "ret eps correction",
        "standardise": "psi mask eps",
    }
    for name, words in expected.items():
        assert list(inspect.signature(getattr(psi, name)).parameters) == words.split(), name


def two_step_episodes():
    """S, U of every episode of two independent softmax steps; probabilities in quarters, so rows repeat and the mean is exact."""
    actions, p = (0, 0, 1, 2), torch.tensor([0.5, 0.25, 0.25], dtype=F64)
    first, second = torch.tensor([2.0, 7.0, -1.0], dtype=F64), torch.tensor([5.0, 0.0, 3.0], dtype=F64)
    s, u = [], []
    for a in actions:
        for b in actions:
            scores = [torch.nn.functional.one_hot(torch.tensor(x), 3) - p for x in (a, b)]
            s.append(torch.cat(scores))
            u.append(torch.cat([scores[0] * (first[a] + second[b]), scores[1] * second[b]]))
    return torch.stack(s), torch.stack(u)


def test_optimal_constant_truly_has_the_least_total_variance_and_no_bias():
    s, u = two_step_episodes()

    def variance(b):
        return float((u - b * s).var(0, correction=0).sum())

    best = float(psi.optimal_constant(s, u))
    assert best == pytest.approx(float((s * u).sum(-1).mean() / s.square().sum(-1).mean()), rel=1e-12)
    for b in (*range(-3, 13), best - 1e-3, best + 1e-3):
        assert variance(best) <= variance(b) + 1e-12
        torch.testing.assert_close((u - b * s).mean(0), u.mean(0), **CLOSE)
    assert variance(best) < variance(float(u.mean())) < float("inf")
    assert variance(best) < 0.9 * variance(0.0)


def test_optimal_constant_of_scores_of_0_is_0():
    assert psi.optimal_constant(torch.zeros(3, 2), torch.zeros(3, 2)) == 0
