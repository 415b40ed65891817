"""What is not elementwise is refused, with a reason that names it; what is read, is read as torch does it; when it is read again."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("numba")

from reading import batch, check_reading
from twins import check_alike, parts, run, weights

from logpi.fast import cover
from logpi.fast.program import NotCovered, written
from logpi.methods import PPOKL
from logpi.page import Count, page

REFUSED: dict[str, tuple[Any, str]] = {
    "mean": (lambda now, b: now.log_pi - now.log_pi.mean(), "mean"),
    "sum": (lambda now, b: now.log_pi * b.psi.sum(), "sum"),
    "torch.sum": (lambda now, b: now.log_pi * torch.sum(b.psi), "sum"),
    "cumsum": (lambda now, b: now.log_pi.cumsum(-1), "cumsum"),
    "softmax": (lambda now, b: torch.softmax(now.log_pi, -1), "softmax"),
    "std": (lambda now, b: now.log_pi / b.psi.std(), "std"),
    "item": (lambda now, b: now.log_pi * b.psi.item(), "item"),
    "one step": (lambda now, b: now.log_pi[0] * b.psi, "index"),
    "a slice": (lambda now, b: now.log_pi * b.psi[..., 1:], "index"),
    "a loop": (lambda now, b: sum(x for x in now.log_pi), "loop|iterat|index|value of a tensor"),
    "parameters": (lambda now, b: now.params.sum(-1), r"now\.params"),
    "the policy": (lambda now, b: now.policy.head.log_std * now.log_pi, r"now\.policy"),
    "observations": (lambda now, b: now.log_pi * b.obs, r"b\.obs"),
    "actions": (lambda now, b: now.log_pi * b.action, r"b\.action"),
    "versions": (lambda now, b: now.log_pi * b.version, r"b\.version"),
    "an if": (lambda now, b: now.log_pi if now.log_pi > 0 else b.psi, "value of a tensor"),
    "a chain of comparisons": (lambda now, b: now.log_pi * (0 < b.psi < 1), "value of a tensor"),
    "a float": (lambda now, b: now.log_pi * float(b.psi), "value of a tensor"),
    "a shape": (lambda now, b: now.log_pi / b.psi.shape[-1], "shape"),
    "chance": (lambda now, b: now.log_pi + torch.randn_like(b.psi), "randn_like"),
    "an argument that is not known": (lambda now, b: torch.add(now.log_pi, b.psi, alpha=2), "add"),
    "rounding": (lambda now, b: now.log_pi * b.psi.round(), "round"),
    "a cube": (lambda now, b: now.log_pi**3, "power 3"),
    "a tensor of its own": (lambda now, b: now.log_pi * torch.ones(7), "tensor of its own"),
    "text": (lambda now, b: now.log_pi * "a", "str"),
    "nothing": (lambda now, b: None, "NoneType"),
    "infinity": (lambda now, b: torch.where(b.psi > 0, now.log_pi, float("inf")), "infinite"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_elementwise_is_refused_by_its_name(name: str) -> None:
    objective, reason = REFUSED[name]
    with pytest.raises(NotCovered, match=reason) as told:
        written(objective, batch())
    assert len(str(told.value)) < 160 and "\n" not in str(told.value) and " at 0x" not in str(told.value)


def test_a_reason_is_the_same_each_time_so_that_it_is_told_once() -> None:
    found = set()
    for _ in range(3):
        with pytest.raises(NotCovered) as told:
            written(lambda now, b: now.log_pi.exp() ** b.psi, batch())
        found.add(str(told.value))
    assert len(found) == 1


def weighed_without_gradient(now: Any, b: Any) -> Any:
    with torch.no_grad():
        rho = (now.log_pi - b.log_pi).exp().clamp(0.5, 2.0)
    return rho * (now.log_pi - b.log_pi) * b.psi


def held_in_place(now: Any, b: Any) -> Any:
    gap = now.log_pi - b.log_pi
    gap.clamp_(-0.5, 0.5)
    return gap.exp() * b.psi


def only_tensors(now: Any, b: Any) -> Any:
    assert isinstance(b.psi, torch.Tensor), "checked, as jaxtyping would"
    return now.log_pi * b.psi


READ_OR_REFUSED: dict[str, Any] = {
    "a weight under no_grad": weighed_without_gradient,
    "a clamp in place": held_in_place,
    "an assertion": only_tensors,
    "equal to a number": lambda now, b: torch.where(b.reward == 0.25, now.log_pi, 2 * now.log_pi),
    "equal to a tensor": lambda now, b: torch.where(b.psi == b.reward, now.log_pi, 2 * now.log_pi),
    "not equal": lambda now, b: now.log_pi * (b.reward != 0.25),
    "torch.eq": lambda now, b: torch.where(torch.eq(b.psi, 0.5), now.log_pi, -now.log_pi),
    "the method where": lambda now, b: now.log_pi.where(b.psi > 0, b.reward),
    "fmin at a tie": lambda now, b: torch.fmin(now.log_pi, b.psi),
    "fmax at a tie": lambda now, b: torch.fmax(now.log_pi, now.entropy),
    "logical_not of numbers": lambda now, b: torch.where(torch.logical_not(b.psi), now.log_pi, -now.log_pi),
    "logical_and of numbers": lambda now, b: now.log_pi * torch.logical_and(b.psi, b.reward),
    "to whole numbers": lambda now, b: now.log_pi * b.psi.to(torch.int64),
    "to flags": lambda now, b: now.log_pi * b.psi.to(torch.bool),
    "in double precision": lambda now, b: (now.log_pi.double() * b.psi).float(),
    "logsigmoid": lambda now, b: F.logsigmoid(now.log_pi * b.psi),
    "logsigmoid far out": lambda now, b: F.logsigmoid(100 * now.log_pi),
    "softplus": lambda now, b: F.softplus(now.log_pi),
    "F.relu": lambda now, b: F.relu(now.log_pi - b.psi),
    "huber": lambda now, b: F.huber_loss(now.value, b.target, reduction="none"),
    "a state of the module": lambda now, b: torch.nn.Tanh()(now.log_pi) * b.psi,
    "augmented assignment": lambda now, b: [x := now.log_pi * 1, x := x + 1, x * b.psi][-1],
    "max over an axis": lambda now, b: now.log_pi.max(-1).values * b.psi,
    "max of everything": lambda now, b: now.log_pi - now.log_pi.max(),
    "norm of float64": lambda now, b: now.log_pi * torch.tensor(1e39, dtype=torch.float64).reciprocal(),
    "large number": lambda now, b: torch.where(b.psi > 9, 1e39, now.log_pi),
}


@pytest.mark.parametrize("name", READ_OR_REFUSED)
def test_what_could_be_misread_is_refused_or_read_as_torch_does_it(name: str) -> None:
    try:
        written(READ_OR_REFUSED[name], batch())
    except NotCovered:
        return
    check_reading(READ_OR_REFUSED[name])


def counting(monkeypatch: Any) -> list[float]:
    """One entry, the page's constants, for each program that is written of a page."""
    plain, found = cover.written, []

    def note(gain: Any, b: Any) -> Any:
        program = plain(gain, b)
        if "log_pi" in program.asked:
            found.append(tuple(program.constants.tolist()))
        return program

    monkeypatch.setattr(cover, "written", note)
    return found


BETAS = [1.0, 1.0, 2.0, 2.0, 2.0, 0.5, 1.0]


@page
class Scripted(PPOKL):
    """Its beta goes as it is told to."""

    epochs: Count = 1

    def adapt(self, state: Any, info: Any) -> Any:
        return state | {"beta": BETAS[state["iteration"] % len(BETAS)]}


def test_ppo_kl_is_read_again_exactly_when_beta_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    programs, read = counting(monkeypatch), list[Any]()
    made = parts(Scripted)
    for _ in range(7):
        read.append(made.state.get("beta"))
        before = len(programs)
        run(made, 1)
        assert (len(programs) > before) == (len(read) == 1 or read[-1] != read[-2])
        assert any(abs(c - (read[-1] or 1.0)) < 1e-7 for c in programs[-1])
    assert read == [None, *BETAS[:6]] and len(programs) == 4


def test_mdpo_is_read_again_as_long_as_its_progress_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = counting(monkeypatch)
    made = parts("mdpo", steps=64 * 5, epochs=1)
    run(made, 5)
    etas = [max(0.5 * (1 - i / 5), 0.05) for i in range(5)]
    assert len(programs) == 5
    assert all(any(abs(c - eta) < 1e-6 for c in constants) for constants, eta in zip(programs, etas, strict=True))


def test_ppo_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    programs = counting(monkeypatch)
    run(parts("ppo"), 4)
    assert len(programs) == 1


@pytest.mark.parametrize("method", ["ppo_kl", "mdpo"])
def test_what_has_changed_in_the_state_trains_as_on_the_plain_path(method: str) -> None:
    given = {"target": 1e-7, "beta": 3.0, "eta": 0.3, "epochs": 2, "steps": 64 * 6, "lr": 3e-3}
    fast, plain, still = (parts(method, fast=x, **given) for x in ("auto", "off", "auto"))
    check_alike(fast, plain, run(fast, 4), run(plain, 4))
    run(still, 1)
    fixed = [*still.fused.programs.values()][0][1]
    fixed.asked.clear()  # as if nothing had been read
    run(still, 3)
    assert max(float((p - q).abs().max()) for p, q in zip(weights(still), weights(plain), strict=True)) > 1e-4
