"""Twins of plain functions: equal to them, used in a run and where kernels can take the tensors, and nowhere else."""

import threading
from typing import Any

import pytest
import torch

pytest.importorskip("numba")

from hypothesis import given, settings
from hypothesis import strategies as st
from twins import parts, run

from logpi import psi, trace
from logpi.fast import survey
from logpi.fast.switch import using
from logpi.finite import NotFinite


def noting(used: list[str]) -> dict[str, Any]:
    def noted(name: str, f: Any) -> Any:
        return lambda *args: used.append(name) or f(*args)

    return {name: noted(name, f) for name, f in survey.TWINS.items()}


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def flags(*shape: int, seed: int = 0, share: float = 0.2) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < share


SHAPES = [(1,), (9,), (1, 1), (4, 17), (2, 3, 5), (3, 128)]


def calls(shape: tuple[int, ...]) -> dict[str, Any]:
    x, value, after, decay = (numbers(*shape, seed=i) for i in range(4))
    over, cut, mask = flags(*shape, seed=5), flags(*shape, seed=6), flags(*shape, seed=7, share=0.7)
    mask.view(-1)[0] = True
    found = {
        "backward": lambda: psi.backward(x, decay),
        "gae": lambda: psi.gae(x, value, after, over, cut, 0.97, 0.9),
        "standardise": lambda: psi.standardise(7 + x, mask),
    }
    return {name: f for name, f in found.items() if name in survey.TWINS}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_credit_is_the_plain_functions(shape: tuple[int, ...]) -> None:
    for name, f in calls(shape).items():
        used: list[str] = []
        plain = f()
        with using(noting(used)):
            fast = f()
        assert used and used[0] == name
        assert fast.dtype == plain.dtype and fast.shape == plain.shape
        assert torch.allclose(fast, plain, rtol=1e-5, atol=2e-6), name


def test_views_and_strides_of_any_kind_are_read_rightly() -> None:
    x, decay = numbers(8, 5).T, numbers(5, 1, seed=1).expand(5, 8)
    with using(survey.TWINS):
        fast = psi.backward(x, decay), psi.backward(x.flip(-1), decay.flip(-1)), psi.standardise(x, decay > 0)
    plain = psi.backward(x, decay), psi.backward(x.flip(-1), decay.flip(-1)), psi.standardise(x, decay > 0)
    assert all(torch.allclose(f, p, atol=1e-5) for f, p in zip(fast, plain, strict=True))


def test_masked_slots_may_hold_anything() -> None:
    x, mask = numbers(4, 9), flags(4, 9, share=0.6)
    spoilt = torch.where(mask, x, torch.nan)
    with using(survey.TWINS):
        assert torch.equal(psi.standardise(spoilt, mask), psi.standardise(x, mask))
        assert not psi.standardise(x, torch.zeros_like(mask)).any()
        same = psi.standardise(torch.full((3, 4), 2.5), torch.ones(3, 4, dtype=torch.bool))
    assert not same.any()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(st.lists(st.floats(width=32, allow_subnormal=True), min_size=1, max_size=40), min_size=1, max_size=4),
)
def test_finite_says_what_the_plain_function_says(rows: list[list[float]]) -> None:
    tensors = [torch.tensor(row) for row in rows]
    plain, used = trace.finite(tensors), list[str]()
    with using(noting(used)):
        assert trace.finite(tensors) == plain
    assert used == ["finite"] and plain == all(bool(x.isfinite().all()) for x in tensors)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_one_bad_number_anywhere_is_found(bad: float) -> None:
    with using(survey.TWINS):
        for n in (1, 2, 63, 64, 65, 1000):
            for place in {0, n // 2, n - 1}:
                tensors = [torch.full((7, 3), 3e38), torch.full((n,), -3e38), torch.zeros(5)]
                assert trace.finite(tensors)
                tensors[1][place] = bad
                assert not trace.finite(tensors)
        view = torch.zeros(6, 4)
        view[3, 1] = bad
        assert not trace.finite([view[:, 1]]) and trace.finite([view[:, 0]])


NOT_FOR_KERNELS = {
    "a graph": (lambda: numbers(3, 4).requires_grad_(), torch.float32),
    "half": (lambda: numbers(3, 4).half(), torch.float16),
}


@pytest.mark.parametrize("kind", NOT_FOR_KERNELS)
def test_what_kernels_cannot_take_is_the_plain_functions(kind: str) -> None:
    make, dtype = NOT_FOR_KERNELS[kind]
    used: list[str] = []
    x, never = make(), torch.zeros(3, 4, dtype=torch.bool)
    with using(noting(used)):
        found = psi.backward(x, torch.full_like(x, 0.5)), psi.gae(x, x, x, never, never, 0.9, 0.9)
        assert found[0].dtype == dtype and found[1].dtype == dtype
        psi.standardise(x, ~never)
        if kind == "a graph":
            found[1].sum().backward()
            assert x.grad is not None and bool(x.grad.any())
    assert used == []


def test_what_is_not_finite_stays_in_its_row() -> None:
    x, decay = numbers(3, 5), torch.full((3, 5), 0.5)
    x[0, 0] = torch.nan
    with using(survey.TWINS):
        fast = psi.backward(x, decay)
    assert fast.isnan().nonzero().tolist() == [[0, 0]] and torch.allclose(fast[1:], psi.backward(x, decay)[1:])


def test_flags_as_numbers_and_numbers_as_flags_are_what_they_are_on_the_plain_path() -> None:
    used: list[str] = []
    x, flag = numbers(2, 6), flags(2, 6, share=0.5)
    plain = psi.gae(flag, x, x, flag, flag, 0.9, 0.9)
    with using(noting(used)):
        with pytest.raises(RuntimeError):
            psi.backward(x, flag)
        assert torch.allclose(psi.gae(flag, x, x, flag, flag, 0.9, 0.9), plain)
    assert used == ["gae"]


def test_the_recursion_alone_is_taken_in_double_precision() -> None:
    used: list[str] = []
    x, decay, never = numbers(3, 40).double(), numbers(3, 1, seed=1).double(), torch.zeros(3, 40, dtype=torch.bool)
    plain = psi.backward(x, decay.expand(3, 40)), psi.gae(x, x, x, never, never, 0.9, 0.9)
    with using(noting(used)):
        fast = psi.backward(x, decay.expand(3, 40)), psi.gae(x, x, x, never, never, 0.9, 0.9)
        psi.standardise(x, ~never)
    assert used == ["backward", "backward"]
    assert all(f.dtype == p.dtype and torch.allclose(f, p, rtol=1e-13) for f, p in zip(fast, plain, strict=True))


def test_another_device_is_the_plain_functions() -> None:
    used: list[str] = []
    x = torch.empty(3, 4, device="meta")
    with using(noting(used)):
        assert psi.backward(x, x).device.type == "meta"
    assert used == []


def test_without_a_gradient_asked_for_a_parameter_is_a_tensor_like_any_other() -> None:
    used: list[str] = []
    p = torch.nn.Parameter(numbers(3, 4))
    with using(noting(used)):
        assert trace.finite([p])
        with torch.no_grad():
            assert torch.allclose(psi.backward(p, p * 0), p)
    assert used == ["finite", "backward"]


def test_whole_numbers_and_numbers_by_name_are_taken_as_ever() -> None:
    reward, ended = torch.ones(2, 5, dtype=torch.long), torch.zeros(2, 5, dtype=torch.bool)
    plain = psi.reward_to_go(reward, ended, 0.5)
    with using(survey.TWINS):
        assert torch.allclose(psi.reward_to_go(reward, ended, gamma=0.5), plain)
        x = numbers(2, 5)
        named = psi.gae(reward=x, value=x, value_next=x, terminated=ended, truncated=ended, gamma=0.9, lam=0.5)
        assert torch.allclose(named, psi.gae(x, x, x, ended, ended, 0.9, 0.5), atol=1e-6)
        tensors = psi.gae(x, x, x, ended, ended, torch.tensor(0.9), torch.tensor(0.5))
        assert torch.allclose(named, tensors, atol=1e-6)


def test_the_switch_is_off_again_after_it_and_after_an_error() -> None:
    used: list[str] = []
    twins, x = noting(used), numbers(3, 4)
    with using(twins):
        with using({}):
            pass
        psi.backward(x, x)
    assert used == ["backward"]
    with pytest.raises(KeyError), using(twins):
        raise KeyError
    psi.backward(x, x)
    assert used == ["backward"]


def test_the_switch_is_of_one_thread() -> None:
    used: list[str] = []
    x = numbers(3, 4)
    with using(noting(used)):
        other = threading.Thread(target=lambda: psi.backward(x, x))
        other.start()
        other.join()
        assert used == []
        psi.backward(x, x)
    assert used == ["backward"]


def test_a_run_switches_them_on_for_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[str] = []
    made, plain = parts("ppo"), parts("ppo", fast="off")
    made.fused.twins = noting(used)
    run(plain, 1)
    psi.backward(numbers(2), numbers(2))
    assert used == []
    run(made, 1)
    assert "finite" in used and {"backward", "gae"} & {*used}
    monkeypatch.setattr(type(made.method), "psi", lambda self, b, state: (b.psi * torch.nan, b.reward))
    count = len(used)
    with pytest.raises((NotFinite, TypeError)):
        run(made, 1)
    after = len(used)
    psi.backward(numbers(2), numbers(2))
    assert len(used) == after >= count
