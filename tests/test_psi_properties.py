"""Identities of credit and baselines that hold for any input, searched by Hypothesis in float64."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from logpi import psi

F64 = torch.float64
CLOSE = {"rtol": 1e-9, "atol": 1e-9}
examples = settings(derandomize=True, database=None, deadline=None, max_examples=40)
number = st.floats(-10, 10, width=64).map(lambda x: round(x, 6))
fraction = st.floats(0, 1)


@st.composite
def segments(draw, steps=12):
    """[T] tensors; value_next agrees with the next value where nothing ended."""
    n = draw(st.integers(1, steps))
    reward, value, value_next = (
        torch.tensor(draw(st.lists(number, min_size=n, max_size=n)), dtype=F64) for _ in range(3)
    )
    end = torch.tensor(draw(st.lists(st.sampled_from([0, 0, 0, 1, 2]), min_size=n, max_size=n)))
    value_next[:-1] = torch.where(end[:-1] > 0, value_next[:-1], value[1:])
    return {"reward": reward, "value": value, "value_next": value_next, "terminated": end == 1, "truncated": end == 2}


def ended(s):
    return s["terminated"] | s["truncated"]


def td(s, gamma):
    return psi.td(s["reward"], s["value"], s["value_next"], s["terminated"], gamma)


@examples
@given(segments(), fraction)
def test_gae_at_lam_0_is_td(s, gamma):
    torch.testing.assert_close(psi.gae(**s, gamma=gamma, lam=0.0), td(s, gamma), **CLOSE)


@examples
@given(segments(), fraction)
def test_n_step_at_n_1_is_td(s, gamma):
    torch.testing.assert_close(psi.n_step(**s, gamma=gamma, n=1), td(s, gamma), **CLOSE)


@examples
@given(segments(), fraction, st.integers(0, 3))
def test_gae_at_lam_1_is_n_step_of_the_whole_row(s, gamma, more):
    torch.testing.assert_close(
        psi.gae(**s, gamma=gamma, lam=1.0), psi.n_step(**s, gamma=gamma, n=len(s["reward"]) + more), **CLOSE
    )


@examples
@given(segments(), fraction)
def test_gae_at_lam_1_is_reward_to_go_minus_value_where_every_episode_terminates(s, gamma):
    s = s | {"terminated": ended(s), "truncated": torch.zeros_like(s["truncated"])}
    s["terminated"][-1] = True
    expected = psi.reward_to_go(s["reward"], ended(s), gamma) - s["value"]
    torch.testing.assert_close(psi.gae(**s, gamma=gamma, lam=1.0), expected, **CLOSE)


@examples
@given(segments(), fraction)
def test_vtrace_on_policy_is_the_n_step_return(s, gamma):
    target, credit = psi.vtrace(**s, gamma=gamma, rho=torch.ones_like(s["reward"]))
    full = psi.n_step(**s, gamma=gamma, n=len(s["reward"]))
    torch.testing.assert_close(credit, full, **CLOSE)
    torch.testing.assert_close(target, s["value"] + full, **CLOSE)


@examples
@given(segments(), segments(), fraction, fraction)
def test_nothing_passes_an_end(a, b, gamma, lam):
    """Two segments behind one another, the first ended, give what each gives alone."""
    if not ended(a)[-1]:
        a["truncated"][-1] = True
    both = {k: torch.cat([a[k], b[k]]) for k in a}
    calls = {
        "gae": lambda s: psi.gae(**s, gamma=gamma, lam=lam),
        "n_step": lambda s: psi.n_step(**s, gamma=gamma, n=3),
        "vtrace": lambda s: psi.vtrace(**s, gamma=gamma, rho=s["value"].exp().clamp(max=3), lam=lam)[1],
        "to_go": lambda s: psi.reward_to_go(s["reward"], ended(s), gamma),
        "total": lambda s: psi.total_return(s["reward"], ended(s), gamma),
        "discount": lambda s: psi.discount_from_start(s["reward"], ended(s), gamma),
    }
    for f in calls.values():
        torch.testing.assert_close(f(both), torch.cat([f(a), f(b)]), **CLOSE)


@examples
@given(segments(), fraction, fraction, number)
def test_credit_is_linear_in_rewards_and_values(s, gamma, lam, c):
    scaled = s | {k: c * s[k] for k in ("reward", "value", "value_next")}
    torch.testing.assert_close(
        psi.gae(**scaled, gamma=gamma, lam=lam), c * psi.gae(**s, gamma=gamma, lam=lam), rtol=1e-8, atol=1e-8
    )


@examples
@given(segments(), fraction)
def test_total_return_is_one_number_for_each_episode_and_to_go_at_its_start(s, gamma):
    total, to_go, first = (
        psi.total_return(s["reward"], ended(s), gamma),
        psi.reward_to_go(s["reward"], ended(s), gamma),
        0,
    )
    for t, end in enumerate(ended(s).tolist()):
        assert total[t] == to_go[first]
        first = t + 1 if end else first


groups = (
    st.integers(2, 8)
    .flatmap(lambda n: st.lists(number, min_size=n, max_size=n))
    .map(lambda x: torch.tensor(x, dtype=F64))
)


@examples
@given(groups)
def test_leave_one_out_by_brute_force_and_as_a_multiple_of_group_mean(ret):
    n = len(ret)
    by_hand = torch.stack([ret[i] - torch.cat([ret[:i], ret[i + 1 :]]).mean() for i in range(n)])
    torch.testing.assert_close(psi.leave_one_out(ret), by_hand, **CLOSE)
    torch.testing.assert_close(psi.leave_one_out(ret), n / (n - 1) * psi.group_mean(ret), **CLOSE)


@examples
@given(groups, number)
def test_group_credit_ignores_a_constant_reward(ret, shift):
    for f in (psi.group_mean, psi.leave_one_out):
        torch.testing.assert_close(f(ret + shift), f(ret), rtol=1e-8, atol=1e-8)
        assert abs(float(f(ret).sum())) < 1e-9


@examples
@given(
    st.floats(-1e6, 1e6, width=32), st.integers(1, 9), st.sampled_from([0, 1]), st.sampled_from([torch.float32, F64])
)
def test_equal_rewards_give_exactly_0(r, n, correction, dtype):
    out = psi.group_standardise(torch.full((3, n), r, dtype=dtype), correction=correction)
    assert (out == 0).all()
    assert out.dtype == dtype


def test_equal_rewards_give_0_by_where_and_not_by_luck():
    ret = torch.full((7,), 0.7)
    naive = (ret - ret.mean()) / (ret.std(correction=0) + 1e-12)
    assert (naive != 0).any()
    assert (psi.group_standardise(ret, eps=1e-12) == 0).all()


@examples
@given(groups, st.sampled_from([0, 1]), st.sampled_from([1e-6, 0.1]))
def test_group_standardise_by_brute_force(ret, correction, eps):
    assume(float(ret.max() - ret.min()) > 1e-3)
    n, mean = len(ret), float(ret.mean())
    std = (sum((x - mean) ** 2 for x in ret.tolist()) / (n - correction)) ** 0.5
    torch.testing.assert_close(psi.group_standardise(ret, eps, correction), (ret - mean) / (std + eps), **CLOSE)


def test_leave_one_out_refuses_a_group_of_one():
    with pytest.raises(ValueError, match="2 or more"):
        psi.leave_one_out(torch.ones(3, 1))


@st.composite
def masked(draw):
    """x, mask [3, T], at least one slot ours."""
    n = draw(st.integers(1, 8))
    x = torch.tensor(draw(st.lists(number, min_size=3 * n, max_size=3 * n)), dtype=F64)
    mask = torch.tensor(draw(st.lists(st.booleans(), min_size=3 * n, max_size=3 * n)))
    assume(bool(mask.any()))
    return x.view(3, n), mask.view(3, n)


MASKED = {
    "mean": psi.mean,
    "time_mean": psi.time_mean,
    "others_time_mean": psi.others_time_mean,
    "centre": psi.centre,
    "scale": psi.scale,
    "standardise": psi.standardise,
}


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("poison", [torch.nan, torch.inf, -1e30])
@examples
@given(masked())
def test_masked_slots_change_nothing(name, poison, case):
    x, mask = case
    expected = MASKED[name](torch.where(mask, x, 0.0), mask)
    assert torch.equal(MASKED[name](torch.where(mask, x, poison), mask), expected)
    assert expected.isfinite().all()


@examples
@given(masked())
def test_standardise_gives_mean_0_and_std_1_and_is_scale_after_centre(case):
    x, mask = case
    ours = x[mask]
    assume(float(ours.std(correction=0)) > 0.01)
    out = psi.standardise(x, mask)
    torch.testing.assert_close(out[mask].mean(), torch.zeros((), dtype=F64), atol=1e-8, rtol=0)
    torch.testing.assert_close(out[mask].std(correction=0), torch.ones((), dtype=F64), atol=1e-5, rtol=0)
    torch.testing.assert_close(out, psi.scale(psi.centre(x, mask), mask), **CLOSE)
    assert (out[~mask] == 0).all()


@examples
@given(masked())
def test_scale_divides_by_the_population_std_and_leaves_the_mean(case):
    x, mask = case
    std = x[mask].std(correction=0)
    assume(float(std) > 0.01)
    torch.testing.assert_close(psi.scale(x, mask)[mask], x[mask] / (std + 1e-8), **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_one_sample_standardises_to_0_and_not_to_nan(dtype):
    x, mask = torch.tensor([3.0, torch.nan], dtype=dtype), torch.tensor([True, False])
    out = psi.standardise(x, mask)
    assert out.tolist() == [0.0, 0.0]
    assert out.dtype == dtype


def test_no_sample_at_all_is_0():
    x, mask = torch.full((2, 3), torch.nan), torch.zeros(2, 3, dtype=torch.bool)
    assert all((f(x, mask) == 0).all() for f in MASKED.values())


@examples
@given(masked())
def test_means_by_brute_force(case):
    x, mask = case
    rows, steps = x.shape
    ours = [[float(x[i, t]) if mask[i, t] else None for t in range(steps)] for i in range(rows)]

    def mean(numbers):
        numbers = [z for z in numbers if z is not None]
        return sum(numbers) / max(1, len(numbers))

    everything = mean(z for row in ours for z in row)
    time = [mean(row[t] for row in ours) for t in range(steps)]
    others = [[mean(ours[j][t] for j in range(rows) if j != i) for t in range(steps)] for i in range(rows)]
    torch.testing.assert_close(psi.mean(x, mask), torch.tensor(everything, dtype=F64), **CLOSE)
    torch.testing.assert_close(psi.time_mean(x, mask), torch.tensor(time, dtype=F64), **CLOSE)
    torch.testing.assert_close(psi.others_time_mean(x, mask), torch.tensor(others, dtype=F64), **CLOSE)


@examples
@given(masked(), number)
def test_others_time_mean_does_not_see_its_own_row(case, other):
    x, mask = case
    changed = x.clone()
    changed[0] = other
    torch.testing.assert_close(psi.others_time_mean(changed, mask)[0], psi.others_time_mean(x, mask)[0], **CLOSE)
    everyone = psi.time_mean(changed, mask) != psi.time_mean(x, mask)
    assert torch.equal(everyone, mask[0] & (changed[0] != x[0]))  # time_mean does


def test_leading_axes_of_the_means_are_free():
    g = torch.Generator().manual_seed(0)
    x, mask = torch.randn(2, 3, 5, generator=g, dtype=F64), torch.rand(2, 3, 5, generator=g) < 0.7
    for name, f in MASKED.items():
        whole, flat = f(x, mask), f(x.view(6, 5), mask.view(6, 5))
        torch.testing.assert_close(whole.reshape(flat.shape), flat, msg=name)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_the_float_type_of_means_and_groups_is_kept(dtype):
    x, mask = torch.randn(3, 4, dtype=dtype), torch.ones(3, 4, dtype=torch.bool)
    assert all(f(x, mask).dtype == dtype for f in MASKED.values())
    assert all(f(x).dtype == dtype for f in (psi.group_mean, psi.leave_one_out, psi.group_standardise))
    assert psi.optimal_constant(x, x).dtype == dtype
