"""An objective by torch and by its program, on the same numbers."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from kernels import follow
from torch import Tensor

from logpi.batch import Batch
from logpi.fast.machine import Loaded
from logpi.fast.program import ANSWERS, FLAGS, SCALARS, Program, written

# Few numbers, exact in a float, many of them equal: ties and bounds come up all the time.
STEPS = [-2.0, -1.25, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 2.0]
N = 97


def batch(seed: int = 0, n: int = N) -> Batch:
    g = torch.Generator().manual_seed(seed)

    def draw() -> Tensor:
        return torch.tensor(STEPS)[torch.randint(len(STEPS), (n,), generator=g)]

    def flip() -> Tensor:
        return torch.rand(n, generator=g) < 0.4

    fields = {name: draw() for name in SCALARS} | {"terminated": flip(), "truncated": flip()}
    mask, version = torch.ones(n, dtype=torch.bool), torch.zeros(n, dtype=torch.long)
    return Batch(
        torch.zeros(n, 1), torch.zeros(n), params=torch.zeros(n, 2), mask=mask, version=version, start=None, **fields
    )


def now(seed: int = 1, n: int = N) -> SimpleNamespace:
    g = torch.Generator().manual_seed(seed)
    drawn = {name: torch.tensor(STEPS)[torch.randint(len(STEPS), (n,), generator=g)] for name in ANSWERS}
    return SimpleNamespace(**{name: x.requires_grad_() for name, x in drawn.items()})


def by_torch(objective: Callable[[Any, Any], Any], b: Batch, weight: Tensor, seed: int = 1) -> tuple[Tensor, Tensor]:
    """(the objective [N], its weighted slopes by the answers [5, N])."""
    said = now(seed)
    value = torch.as_tensor(objective(said, b)) * torch.ones(N)
    answers = [getattr(said, name) for name in ANSWERS]
    total = (value * weight).sum()
    if not total.requires_grad:
        return value, torch.zeros(len(ANSWERS), N)
    slopes = torch.autograd.grad(total, answers, allow_unused=True, materialize_grads=True)
    return value.detach(), torch.stack(slopes)


def by_program(program: Program, b: Batch, weight: Tensor, seed: int = 1) -> tuple[Tensor, Tensor]:
    fields = tuple(dict.fromkeys(("log_pi", *program.data)))
    assert {*fields} <= {*SCALARS, *FLAGS}
    said = now(seed)
    given = [getattr(said, name).detach() for name in ANSWERS] + [getattr(b, name).float() for name in fields]
    value, slopes = follow(Loaded(program, fields), torch.stack(given).numpy(), weight.numpy())
    return torch.from_numpy(value), torch.from_numpy(slopes)


def check_reading(objective: Callable[[Any, Any], Any], seed: int = 0) -> Program:
    """The program says what torch says, and slopes as it slopes, at every element."""
    b, weight = batch(seed), torch.linspace(-1, 2, N)
    program = written(objective, b)
    wanted, found = (f(x, b, weight) for f, x in ((by_torch, objective), (by_program, program)))
    for name, exact, own in zip(("value", "slope"), wanted, found, strict=True):
        live = exact.isfinite() | own.isfinite()
        assert bool(live.any()), "an example that says something"
        off = torch.where(live, (own - exact).abs() / exact.abs().clamp(min=1), 0.0)
        worst = divmod(int(off.nan_to_num(torch.inf).argmax()), N)
        assert float(off.amax()) < 2e-5, f"{name} at {worst}: {own.flatten()[worst[0] * N + worst[1]]}"
        assert torch.equal(own.isnan(), exact.isnan()), name
    return program
