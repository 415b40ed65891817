"""The four averages against plain loops; masked slots may hold anything."""

import inspect

import pytest
import torch

from logpi import average

F64 = torch.float64
KINDS = ("per_episode", "per_action", "per_sequence", "per_budget")
BUDGET = 7


def case(*shape, seed=0, dtype=F64):
    """x, mask; the last row has no action of ours."""
    g = torch.Generator().manual_seed(seed)
    x, mask = torch.randn(shape, generator=g, dtype=F64).to(dtype), torch.rand(shape, generator=g) < 0.6
    mask.view(-1, shape[-1])[-1] = False
    return x, mask


def one_shot(kind, x, mask):
    return getattr(average, kind)(x, mask, *([BUDGET] if kind == "per_budget" else []))


def weights(kind, mask):
    return average.weights(kind, mask, BUDGET if kind == "per_budget" else None)


def loop(kind, x, mask):
    rows = [[v for v, ours in zip(r, m, strict=True) if ours] for r, m in zip(x.tolist(), mask.tolist(), strict=True)]
    n, actions = len(rows), sum(len(r) for r in rows)
    return {
        "per_episode": sum(sum(r) for r in rows) / n,
        "per_action": sum(sum(r) for r in rows) / actions,
        "per_sequence": sum(sum(r) / max(1, len(r)) for r in rows) / n,
        "per_budget": sum(sum(r) for r in rows) / (n * BUDGET),
    }[kind]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", KINDS)
def test_each_average_by_a_plain_loop(kind, seed):
    x, mask = case(5, 9, seed=seed)
    expected = loop(kind, x, mask)
    assert float(one_shot(kind, x, mask)) == pytest.approx(expected, rel=1e-13)
    assert float((weights(kind, mask) * x).sum()) == pytest.approx(expected, rel=1e-13)
    assert all(abs(loop(other, x, mask) - expected) > 1e-9 for other in KINDS if other != kind)


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_weights_sum_to(kind):
    _, mask = case(5, 9)
    total = {
        "per_episode": int(mask.sum()) / 5,
        "per_action": 1.0,
        "per_sequence": 4 / 5,
        "per_budget": int(mask.sum()) / (5 * BUDGET),
    }
    assert float(weights(kind, mask).sum()) == pytest.approx(total[kind], rel=1e-14)
    assert (weights(kind, mask)[~mask] == 0).all()
    assert (weights(kind, mask)[mask] > 0).all()


@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
@pytest.mark.parametrize("kind", KINDS)
def test_masked_slots_change_neither_value_nor_gradient(kind, poison):
    x, mask = case(5, 9)
    clean, dirty = torch.where(mask, x, 0.0).requires_grad_(), torch.where(mask, x, poison).requires_grad_()
    values = [one_shot(kind, y, mask) for y in (clean, dirty)]
    assert torch.equal(*values)
    assert torch.equal(*(torch.autograd.grad(v, y)[0] for v, y in zip(values, (clean, dirty), strict=True)))


@pytest.mark.parametrize("kind", KINDS)
def test_leading_axes_are_free(kind):
    x, mask = case(2, 3, 9)
    whole = one_shot(kind, x, mask)
    torch.testing.assert_close(whole, one_shot(kind, x.view(6, 9), mask.view(6, 9)), rtol=1e-14, atol=0)
    assert weights(kind, mask).shape == mask.shape
    row = one_shot(kind, x[0, 0], mask[0, 0])  # [T] is one row
    torch.testing.assert_close(row, one_shot(kind, x[0, :1], mask[0, :1]), rtol=1e-14, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("kind", KINDS)
def test_the_float_type_of_x_is_kept(kind, dtype):
    assert one_shot(kind, *case(5, 9, dtype=dtype)).dtype == dtype


def test_weights_are_float64():
    mask = torch.tensor([True, True, True])
    assert average.weights("per_action", mask).tolist() == [1 / 3] * 3
    assert average.weights("per_sequence", mask).dtype == F64
    assert average.per_action(torch.ones(3, dtype=F64), mask).item() == pytest.approx(1.0, abs=1e-15)
    assert torch.tensor(1 / 3, dtype=torch.float32).item() != 1 / 3  # what float32 weights would give


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_a_minibatch_are_independent_of_its_split(kind):
    x, mask = case(8, 6)
    whole, w = one_shot(kind, x, mask), weights(kind, mask)
    for size in (1, 3):
        parts = [(a * b)[m].sum() for a, b, m in zip(x.split(size), w.split(size), mask.split(size), strict=True)]
        torch.testing.assert_close(sum(parts), whole, rtol=1e-13, atol=1e-13)
    if kind == "per_action":  # averaging each part by itself is another number
        alone = torch.stack([one_shot(kind, a, m) for a, m in zip(x.split(3), mask.split(3), strict=True)]).mean()
        assert not torch.allclose(alone, whole)


@pytest.mark.parametrize("kind", KINDS)
def test_no_action_at_all_gives_0(kind):
    x, mask = torch.full((2, 3), torch.nan), torch.zeros(2, 3, dtype=torch.bool)
    assert one_shot(kind, x, mask) == 0


def test_per_episode_does_not_favour_short_rows_and_per_sequence_does():
    mask = torch.tensor([[True, False, False, False], [True, True, True, True]])
    assert average.weights("per_episode", mask)[:, 0].tolist() == [0.5, 0.5]
    assert average.weights("per_action", mask)[:, 0].tolist() == [0.2, 0.2]
    assert average.weights("per_sequence", mask)[:, 0].tolist() == [0.5, 0.125]
    assert average.weights("per_budget", mask, budget=4)[:, 0].tolist() == [0.125, 0.125]


@pytest.mark.parametrize("kind", ["per_budget", "per_token"])
def test_an_unknown_kind_or_a_missing_budget_is_named(kind):
    with pytest.raises(ValueError, match=kind) as error:
        average.weights(kind, torch.ones(2, 3, dtype=torch.bool))
    assert all(name in str(error.value) for name in KINDS)


def test_public_keywords_are_those_of_the_design():
    expected = {
        "per_episode": "x mask",
        "per_action": "x mask",
        "per_sequence": "x mask",
        "per_budget": "x mask budget",
        "weights": "kind mask budget",
    }
    for name, words in expected.items():
        assert list(inspect.signature(getattr(average, name)).parameters) == words.split(), name
