"""Chance that depends on a row's seed and a position alone: what is drawn for a row is the same in any company."""

import torch
from torch import Tensor

from logpi.device import widest

GOLDEN = 0x9E3779B97F4A7C15 - 2**64  # 2^64 over the golden ratio, as a signed number: arithmetic wraps around
FIRST, SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


def uniform(seeds: Tensor, position: int) -> Tensor:
    """Uniform in [0, 1), [n], float64 where the device has it: number `position` of SplitMix64 from each of the seeds, int64 [n]
    (Steele et al. 2014)."""
    at = (position + 1) * GOLDEN % 2**64
    x = seeds + (at - 2**64 if at >= 2**63 else at)
    x = (x ^ _right(x, 30)) * FIRST
    x = (x ^ _right(x, 27)) * SECOND
    return _right(x ^ _right(x, 31), 11).to(widest(x.device)) * 2.0**-53


def later(seeds: Tensor, positions: int) -> Tensor:
    """Seeds whose number 0 is number `positions` of these: chance goes on where it was left."""
    by = positions * GOLDEN % 2**64
    return seeds + (by - 2**64 if by >= 2**63 else by)


def _right(x: Tensor, bits: int) -> Tensor:
    """A logical shift: torch's own keeps the sign."""
    return (x >> bits) & (2 ** (64 - bits) - 1)


def seeds_for(rows: int, generator: torch.Generator) -> Tensor:
    """A seed for each row, int64."""
    return torch.randint(2**62, (rows,), generator=generator, device=generator.device)
