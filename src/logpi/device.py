"""Which device, how wide its floats are, and on how many threads."""

import os

import torch
from torch import nn

from logpi.errors import LogpiError

SMALL = 5_000_000  # parameters of a language model up to which one thread is fastest


def pick(name: str) -> str:
    """'auto' is the first of cuda, mps and cpu that this machine has."""
    have = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(x for x in have if have[x])
    if not have[name]:
        raise LogpiError(f"This machine has no {name} that torch can use: use --device auto.")
    return name


def use_threads(asked: int | None, *models: nn.Module) -> None:
    """As many as asked for; else what the size of language models is worth."""
    torch.set_num_threads(threads_for(asked, sum(p.numel() for model in models for p in model.parameters())))


def threads_for(asked: int | None, parameters: float) -> int:
    """As many as asked for; else one for small language models, and all cores for others."""
    return asked or (1 if parameters <= SMALL else os.cpu_count() or 1)


def widest(device: torch.device | str) -> torch.dtype:
    """float64, for sums and statistics; float32 on a device that has no float64 (mps)."""
    return torch.float32 if torch.device(device).type == "mps" else torch.float64
