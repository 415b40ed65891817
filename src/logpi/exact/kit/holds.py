"""What a check is made of: its name, and claims that say by how much they do not hold."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Check = Callable[[], None]
CHECKS: dict[str, Check] = {}  # by what they claim
EXACT = 1e-10  # off by at most so much, for numbers of size 1


def check(name: str) -> Callable[[Check], Check]:
    """Put a function among CHECKS; it raises AssertionError where `name` does not hold."""

    def put(f: Check) -> Check:
        if name in CHECKS:
            raise ValueError(f"Two checks are named {name!r}.")
        CHECKS[name] = f
        return f

    return put


def claim(holds: Any, said: str) -> None:
    """An assert that `python -O` keeps."""
    if not bool(holds):
        raise AssertionError(said)


def agree(found: Any, truth: Any, of: str = "", tolerance: float = EXACT) -> None:
    """found is truth, element by element; a NaN agrees with nothing."""
    found, truth = torch.broadcast_tensors(*(torch.as_tensor(x, dtype=torch.float64).detach() for x in (found, truth)))
    gap = (found - truth).abs().nan_to_num(torch.inf).flatten()
    at = int(gap.argmax())
    if not gap[at] <= tolerance * max(1.0, float(truth.abs().max())):
        here, there = float(found.flatten()[at]), float(truth.flatten()[at])
        raise AssertionError(f"{of + ': ' if of else ''}{here:.8g}, not {there:.8g} (off by {float(gap[at]):.2g})")


def apart(found: Tensor, other: Tensor, of: str, least: float = 1e-3) -> None:
    """The two differ, so that a check which compares them could fail."""
    claim((found - other).abs().max() > least, f"{of}: no difference where there must be one")


def refused(call: Callable[[], Any], of: str) -> None:
    """The call raises ValueError."""
    try:
        call()
    except ValueError:
        return
    raise AssertionError(f"{of} is not refused")


def normal(*shape: int, seed: int = 0) -> Tensor:
    """float64 standard normal draws, the same every time."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
