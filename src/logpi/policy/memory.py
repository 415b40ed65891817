"""Memory: what a policy carries from one step of an episode to the next.

A memory has `size` numbers that it keeps, and `width` features that it gives. `step` is one step of n episodes, `sequence` T
of them, in which a step that is `fresh` begins an episode: what was kept before it is zero. A window of a transformer fits in
here as well: what it keeps is what it has seen.
"""

import contextlib
from collections.abc import Iterator
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor, nn


class Memory(Protocol):
    size: int
    width: int

    def step(self, x: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """x [n, inputs], kept [n, size] -> (features [n, width], what is kept now)."""
        ...

    def sequence(self, x: Tensor, kept: Tensor, fresh: Tensor) -> tuple[Tensor, Tensor]:
        """x [B, T, inputs], kept [B, size] before the first, fresh [B, T] -> (features [B, T, width], kept after it [B, T, size]).

        The latter is told for the last step and for those before a fresh one; elsewhere it is 0.
        """
        ...


class Recurrent(nn.Module):
    """A GRU (Cho et al. 2014), or an LSTM (Hochreiter & Schmidhuber 1997), which keeps its output and its cell."""

    def __init__(self, inputs: int, width: int, kind: str) -> None:
        super().__init__()
        self.core: nn.GRU | nn.LSTM = {"gru": nn.GRU, "lstm": nn.LSTM}[kind](inputs, width, batch_first=True)
        self.width, self.size = width, width if kind == "gru" else 2 * width
        for p in self.core.parameters():
            nn.init.orthogonal_(p) if p.dim() > 1 else nn.init.zeros_(p)

    def step(self, x: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        features, kept = self._run(x[:, None], kept)
        return features[:, 0], kept

    def sequence(self, x: Tensor, kept: Tensor, fresh: Tensor) -> tuple[Tensor, Tensor]:
        """In runs of steps, of which each ends where some row begins anew."""
        edges = sorted({0, x.shape[1], *fresh.any(0).nonzero()[:, 0].tolist()})
        features, after = [], x.new_zeros(*x.shape[:2], self.size)
        for begin, end in pairwise(edges):
            found, kept = self._run(x[:, begin:end], torch.where(fresh[:, begin, None], 0.0, kept))
            features.append(found)
            after[:, end - 1] = kept.detach()
        return torch.cat(features, 1), after

    def _run(self, x: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        if self.size == self.width:
            features, last = self.core(x, kept[None].contiguous())
            return features, last[0]
        pair = tuple(part[None].contiguous() for part in kept.chunk(2, -1))
        with plain_kernels():
            features, (hidden, cell) = self.core(x, pair)
        return features, torch.cat([hidden[0], cell[0]], -1)


@contextlib.contextmanager
def plain_kernels() -> Iterator[None]:
    """Without oneDNN, whose LSTM can be differentiated neither twice nor forward."""
    before, *_ = torch.backends.mkldnn.set_flags(_enabled=False, _fp32_precision=None)
    try:
        yield
    finally:
        torch.backends.mkldnn.set_flags(_enabled=before, _fp32_precision=None)
