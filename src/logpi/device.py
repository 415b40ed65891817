"""Which device, and how wide its floats are."""

import torch

from logpi.errors import LogpiError


def pick(name: str) -> str:
    """'auto' is the first of cuda, mps and cpu that this machine has."""
    have = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(x for x in have if have[x])
    if not have[name]:
        raise LogpiError(f"This machine has no {name} that torch can use: use --device auto.")
    return name


def widest(device: torch.device | str) -> torch.dtype:
    """float64, for sums and statistics; float32 on a device that has no float64 (mps)."""
    return torch.float32 if torch.device(device).type == "mps" else torch.float64
