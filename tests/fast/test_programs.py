"""An objective read as a program has torch's value and torch's gradient, ties and bounds included; or it is not read at all."""

from typing import Any

import pytest
import torch
from torch import where

pytest.importorskip("numba")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import PAGES, case
from reading import STEPS, batch, check_reading

from logpi import kl, objective
from logpi.fast.program import NotCovered, written

X, Y = (lambda now, b: now.log_pi), (lambda now, b: b.psi)
OPERATIONS: dict[str, Any] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": lambda x, y: x / (y.square() + 1),
    "divided": lambda x, y: y / (x * x + 0.5),
    "neg": lambda x, y: -x,
    "plus a number": lambda x, y: x + 2,
    "a number plus": lambda x, y: 2 + x,
    "minus a number": lambda x, y: x - 0.5,
    "a number minus": lambda x, y: 0.5 - x,
    "times a number": lambda x, y: x * 3,
    "a number times": lambda x, y: 3 * x,
    "over a number": lambda x, y: x / 3,
    "a number over": lambda x, y: 3 / (x + 5),
    "square": lambda x, y: x**2 + x.pow(2) + torch.pow(x, 2.0) + torch.square(x),
    "roots": lambda x, y: (x + 3) ** 0.5 + (x + 4).sqrt() + (x + 5).rsqrt() + (x + 6) ** -1 + (x + 7).reciprocal(),
    "exp": lambda x, y: x.exp() * y.exp() + torch.exp(x),
    "log": lambda x, y: (x + 3).log() + torch.log(x + 4),
    "log of zero and less": lambda x, y: x.log(),
    "roots of less than zero": lambda x, y: y.sqrt() * x,
    "expm1": lambda x, y: x.expm1() - torch.expm1(x * y),
    "log1p": lambda x, y: (x + 2).log1p(),
    "abs": lambda x, y: x.abs() + abs(x * y) + torch.abs(x),
    "tanh": lambda x, y: x.tanh() * torch.tanh(y),
    "sigmoid": lambda x, y: torch.sigmoid(x) + (x * y).sigmoid(),
    "sign": lambda x, y: x.sign() * x,
    "relu": lambda x, y: x.relu() + (y - x).relu() + torch.relu(x * y),
    "minimum": lambda x, y: x.minimum(y) + torch.min(x, y * y) + torch.minimum(2 * x, x * x),
    "maximum": lambda x, y: x.maximum(y) + torch.max(x, y * y) + torch.maximum(x, -x),
    "a tie with itself": lambda x, y: torch.minimum(x, x) + torch.maximum(x, 1.0 * x),
    "clamp": lambda x, y: x.clamp(-0.5, 0.75) + torch.clamp(y * x, min=-0.25) + x.clamp(max=0.25) + x.clip(-1, 1),
    "clamp the wrong way round": lambda x, y: x.clamp(0.5, -0.5),
    "clamp by tensors": lambda x, y: torch.clamp(x, min=y, max=y + 1) + torch.clamp(y, min=x),
    "clamp_min": lambda x, y: x.clamp_min(0.25) + torch.clamp_max(x, -0.25),
    "where": lambda x, y: where(x > 0.25, x * y, -x) + where(y >= x, 2.0, x),
    "where with numbers": lambda x, y: where(x <= y, 1.0, x) + where(x < y, x, 0.0),
    "and, or, not": lambda x, y: where((x > 0) & (y > 0) | ~(x < y), x, 3 * x),
    "logical": lambda x, y: where(
        torch.logical_and(x > 0, y > 0), x, torch.where(torch.logical_not(x >= y), -x, 2 * x)
    ),
    "masked_fill": lambda x, y: x.masked_fill(y > 0, 0.5) * x,
    "detach": lambda x, y: x.detach() * x + (x * y).detach().exp() * x,
    "likes": lambda x, y: x * torch.ones_like(x) + torch.zeros_like(y) + torch.full_like(x, 2.0),
    "comparisons as numbers": lambda x, y: (x > y).float() * x + (y >= 0.25).to(torch.float32) * x,
    "changes nothing": lambda x, y: x.clone().contiguous().float() * y,
    "numbers of torch": lambda x, y: torch.tensor(2.0) * x + x * torch.tensor([3.0]),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_has_torchs_value_and_slope(name: str) -> None:
    f = OPERATIONS[name]
    check_reading(lambda now, b: f(now.log_pi, b.psi))
    check_reading(lambda now, b: f(now.log_pi, now.entropy))
    check_reading(lambda now, b: f(now.kl_old, now.log_pi) * 0.5 + b.value * now.log_pi, seed=5)


@pytest.mark.parametrize("name", ["log_pi", "entropy", "kl_old", "kl_new", "value"])
def test_every_answer_may_be_the_objective_itself(name: str) -> None:
    assert check_reading(lambda now, b: getattr(now, name)).asked == {name}


def test_data_and_flags_of_the_batch_are_read() -> None:
    check_reading(lambda now, b: where(b.terminated, now.log_pi, b.reward) * where(~b.ended, 2.0, b.target))
    check_reading(lambda now, b: now.log_pi * (b.terminated | b.truncated) + b.mask * now.value * b.value_next)
    check_reading(lambda now, b: now.log_pi * b.log_ref + b.q - b.q_next)


@pytest.mark.parametrize("x", [0.0, 1.5])
def test_an_objective_without_the_policy_has_no_slope(x: float) -> None:
    assert check_reading(lambda now, b: b.psi * x + x).asked == frozenset()


FACTORS = {
    "score": lambda now, b: objective.score(now.log_pi, b.psi),
    "ratio": lambda now, b: objective.ratio(now.log_pi, b.log_pi, b.psi),
    "clip": lambda now, b: objective.clip(now.log_pi, b.log_pi, b.psi, 0.25, 0.5),
    "mirror": lambda now, b: objective.mirror(now.log_pi, b.log_pi, b.psi, 0.7),
    "clipped_weight": lambda now, b: objective.clipped_weight(now.log_pi, b.log_pi, b.psi, 0.2, 0.3),
    "truncated": lambda now, b: objective.truncated_correction(now.log_pi, b.log_pi, 1.5) * now.log_pi,
    "masked": lambda now, b: objective.masked_correction(now.log_pi, b.log_pi, 2.0) * now.log_pi,
    "value_error": lambda now, b: -objective.value_error(now.value, b.target),
    "value_clip": lambda now, b: -objective.value_error(now.value, b.target, b.value, 0.25),
    "k1": lambda now, b: kl.k1(now.log_pi, b.log_ref),
    "k2": lambda now, b: kl.k2(now.log_pi, b.log_ref),
    "k3": lambda now, b: kl.live(kl.k3(now.log_pi, b.log_ref), now.log_pi, b.log_pi),
}


@pytest.mark.parametrize("name", FACTORS)
def test_every_factor_of_the_library_is_read(name: str) -> None:
    check_reading(FACTORS[name])


@pytest.mark.parametrize("name", PAGES)
def test_the_objective_of_every_shipped_page_is_read(name: str) -> None:
    page, b = PAGES[name], case(PAGES[name])[2]
    b = b.with_(psi=b.reward, target=b.reward)
    program = written(lambda now, rows: page.objective(now, rows, {"progress": 0.3}), b)
    assert "log_pi" in program.asked


exact = st.deferred(
    lambda: st.one_of(
        st.sampled_from(["log_pi", "entropy", "kl_old", "value"]).map(lambda name: lambda now, b: getattr(now, name)),
        st.sampled_from(["psi", "reward", "log_pi", "target"]).map(lambda name: lambda now, b: getattr(b, name)),
        st.sampled_from(STEPS).map(lambda x: lambda now, b: now.log_pi * 0 + x),
        st.tuples(
            exact, st.sampled_from([abs, lambda x: -x, lambda x: x * 0.5, lambda x: x.detach(), lambda x: x + x])
        ).map(lambda t: lambda now, b: t[1](t[0](now, b))),
        st.tuples(exact, exact, st.sampled_from(["add", "sub", "mul", "minimum", "maximum"])).map(
            lambda t: lambda now, b: getattr(torch, t[2])(t[0](now, b), t[1](now, b))
        ),
        st.tuples(exact, st.sampled_from(STEPS), st.sampled_from(STEPS)).map(
            lambda t: lambda now, b: t[0](now, b).clamp(*t[1:])
        ),
        st.tuples(exact, exact, exact, exact, st.sampled_from(["gt", "ge", "lt", "le"])).map(
            lambda t: lambda now, b: where(getattr(torch, t[4])(t[0](now, b), t[1](now, b)), t[2](now, b), t[3](now, b))
        ),
    )
)
smooth = st.sampled_from(
    [
        lambda x: x,
        lambda x: x.tanh().exp(),
        lambda x: (x.abs() + 1).log(),
        lambda x: x.sigmoid() * x,
        lambda x: (x.square() + 1).sqrt(),
        lambda x: x.clamp(-5, 5).expm1() / (1 + x.square()),
        lambda x: 1 / (2 + x.abs()) - x,
    ]
)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(exact, exact, smooth, smooth)
def test_expressions_at_random(f: Any, g: Any, outer: Any, other: Any) -> None:
    check_reading(lambda now, b: outer(f(now, b)) * other(g(now, b)) + now.log_pi)


def test_equal_operations_are_made_once() -> None:
    once = written(lambda now, b: (now.log_pi - b.log_pi).exp() * b.psi, batch())
    twice = written(lambda now, b: (now.log_pi - b.log_pi).exp() * b.psi + 0 * (now.log_pi - b.log_pi).exp(), batch())
    assert len(twice.tape) == len(once.tape) + 2


def test_a_reading_that_is_wrong_is_seen() -> None:
    calls = []

    def turns(now: Any, b: Any) -> Any:
        calls.append(None)
        return now.log_pi * b.psi.clamp(max=2.0 - len(calls))

    with pytest.raises(AssertionError, match="value"):
        check_reading(turns)
    with pytest.raises(NotCovered):
        check_reading(lambda now, b: now.log_pi.mean())
