"""Which device, how wide its floats are, on how many threads, and what it keeps of memory that is free again."""

import ctypes
import os
import sys
import warnings
from typing import Any

import torch
from torch import nn

from logpi.errors import LogpiError

SMALL = 5_000_000  # parameters of a language model up to which one thread is fastest
SHAPES = "64"  # of bfloat16 products whose kernels are kept; by itself 1,024, some 0.3 MB each, and texts have ever new lengths
KEEPERS = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")  # oneDNN, and torch's bridge to it (ideep)
MUCH = 3 * 2**27  # bytes of free memory that the C library may keep; given back, they are cleared again when used


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


def few_kernels() -> None:
    """Of bfloat16 products on the CPU. It counts if it is said before the first of them, and not over the user's own setting."""
    for name in KEEPERS:
        os.environ.setdefault(name, SHAPES)


def has_bf16() -> bool:
    """Has oneDNN products in bfloat16 for this processor? With AVX-512 it has. Where nobody can say, too."""
    return getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: True)()


def heed_bf16(device: str | torch.device) -> None:
    """A warning where bfloat16 costs time: without such products a convolution takes 25 times as long, a square product 200."""
    if torch.device(device).type == "cpu" and not has_bf16():
        warnings.warn(
            "This processor has no instructions for bfloat16, and takes many times as long in it: train without --bf16.",
            stacklevel=2,
        )


class Heap(ctypes.Structure):
    """mallinfo2 of the GNU C library, in bytes."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    ]


def give_back(most: int = MUCH) -> None:
    """To the system, what the C library keeps of freed memory, where that is more than `most` bytes.

    What an update leaves are holes that the keys and values of a rollout do not fit.
    """
    library: Any = ctypes.CDLL(None) if sys.platform == "linux" else None
    if hasattr(library, "mallinfo2"):
        library.mallinfo2.restype = Heap
        if library.mallinfo2().fordblks > most:
            library.malloc_trim(0)
