"""Programs in NumPy are torch's operations, and psi's recursion in passes is the plain one."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from logpi import psi
from logpi.fast import arrays
from logpi.fast.arrays import backward
from logpi.fast.arrays_math import Tape
from logpi.fast.program import ANSWERS, written

OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "products": lambda x, y: x * y / (y * y + 1) - (-x) * 3 + (2 - x) / 4,
    "exponentials": lambda x, y: x.exp() + x.expm1() * (y * y).log1p() + (x * x + 1).log() * (y * y + 1).sqrt(),
    "curves": lambda x, y: x.tanh() * y.sigmoid() + x.abs() + x.square() + x.sign() * y,
    "extremes": lambda x, y: torch.minimum(x, y) * 2 + torch.maximum(x, y) + torch.min(x, x) + torch.max(y, y * 1.0),
    "choices": lambda x, y: (
        torch.where((x > 0) & (y <= 0.5), x * y, x.clamp(-0.5, 0.25)) + torch.where(torch.eq(x, y), x, 2 * y)
    ),
    "detached": lambda x, y: x.detach() * y + (x * y).relu() + (x >= y) * y + (x < y) * x,
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_and_their_slopes_are_torchs(name: str) -> None:
    g = torch.Generator().manual_seed(1)
    x, y = (torch.randn(64, generator=g).requires_grad_() for _ in range(2))
    with torch.no_grad():  # bounds and ties
        x[:4], y[:4] = torch.tensor([0.0, -0.5, 0.25, 0.7]), torch.tensor([0.0, 0.5, 0.25, -0.7])
    weight = torch.rand(64, generator=g)
    plain = OPERATIONS[name](x, y)
    tape = Tape(written(lambda now, b: OPERATIONS[name](now.log_pi, now.entropy), None))  # type: ignore[arg-type]
    said = {"log_pi": x.detach().numpy(), "entropy": y.detach().numpy()}
    assert np.allclose(tape.evaluate(said, [], 64), plain.detach().numpy(), 1e-6, 1e-6)
    slopes = tape.differentiate(weight.numpy())
    exact = torch.autograd.grad((weight * plain).sum(), [x, y], materialize_grads=True)
    for answer, grad in zip(ANSWERS, exact, strict=False):
        assert np.allclose(slopes.get(answer, 0 * weight.numpy()), grad.numpy(), 1e-5, 1e-6), answer


@pytest.mark.parametrize("steps", [1, 2, 7, 64, 129])
def test_the_recursion_is_psis(steps: int) -> None:
    g = torch.Generator().manual_seed(steps)
    x, decay = (
        torch.randn(3, steps, generator=g),
        torch.rand(3, steps, generator=g) * (torch.rand(3, steps, generator=g) < 0.9),
    )
    assert torch.allclose(backward(x, decay), psi.backward(x, decay), 1e-5, 1e-5)


def test_nothing_of_a_compiler_is_imported() -> None:
    """By these files, nor by those of fast/ that they import."""
    folder, waiting, seen = Path(arrays.__file__).parent, ["arrays"], set[str]()
    while waiting:
        seen.add(name := waiting.pop())
        text = (folder / f"{name}.py").read_text()
        assert "numba" not in {
            line.split()[1].split(".")[0] for line in re.findall(r"^ *(?:import|from) .*", text, re.M)
        }
        waiting += {*re.findall(r"^from logpi\.fast\.(\w+) import", text, re.M)} - seen
        assert not re.search(r"^from logpi\.fast import", text, re.M)
    assert seen == {"arrays", "arrays_acting", "arrays_math", "arrays_net", "cover", "ops", "program", "writer"}
