"""Nested state as JSON and tensors, and back: nothing is pickled, whatever an optimiser or an environment keeps."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from logpi.errors import LogpiError, short

LARGEST_HEADER = 16 * 2**20  # bytes; a hundred thousand tensors need less


def pack(x: Any, tensors: dict[str, Tensor], at: str = "") -> Any:
    """x as JSON, its tensors, arrays and bytes moved to `tensors` under their path."""
    if at in tensors:
        raise LogpiError(f"The state has two values that are both called {at}: give their keys other names.")
    if isinstance(x, Tensor):
        tensors[at] = x.detach().cpu().contiguous().clone()
        return {"tensor": at}
    if isinstance(x, np.ndarray | np.generic):
        if x.dtype.hasobject:
            raise LogpiError(f"{at or 'An array'} holds Python objects, which no checkpoint keeps: give numbers.")
        tensors[at] = _bytes(x.tobytes())
        return {"array": at, "dtype": x.dtype.str, "shape": list(x.shape)}
    if isinstance(x, bytes):
        tensors[at] = _bytes(x)
        return {"bytes": at}
    if isinstance(x, dict):
        return {"dict": [[k, pack(v, tensors, f"{at}/{k}")] for k, v in x.items()]}
    if isinstance(x, list | tuple):
        return {"list": [pack(v, tensors, f"{at}/{i}") for i, v in enumerate(x)]}
    if isinstance(x, float) and not math.isfinite(x):
        return {"float": str(x)}
    if x is None or isinstance(x, str | bool | int | float):
        return x
    raise LogpiError(
        f"{at or 'The state'} is a {type(x).__name__}, which no checkpoint keeps: give numbers or tensors."
    )


def unpack(x: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of `pack`; tuples come back as lists."""
    if not isinstance(x, dict):
        return x
    if "tensor" in x:
        return tensors[x["tensor"]]
    if "array" in x:
        flat = np.frombuffer(tensors[x["array"]].numpy().tobytes(), np.dtype(x["dtype"]))
        return flat.reshape(x["shape"]).copy()
    if "bytes" in x:
        return tensors[x["bytes"]].numpy().tobytes()
    if "float" in x:
        return float(x["float"])
    if "list" in x:
        return [unpack(v, tensors) for v in x["list"]]
    return {k: unpack(v, tensors) for k, v in x["dict"]}


def _bytes(data: bytes) -> Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else torch.zeros(0, dtype=torch.uint8)


def read_tensors(file: Path) -> dict[str, Tensor]:
    """A safetensors file whose header is of a sane size; else one sentence."""
    try:
        with file.open("rb") as start:
            header = int.from_bytes(start.read(8), "little")
        if header > LARGEST_HEADER:
            raise LogpiError(f"{file} cannot be read: its header claims {header:,} bytes.")
        return load(file.read_bytes())
    except (OSError, SafetensorError, KeyError, ValueError) as wrong:
        if isinstance(wrong, LogpiError):
            raise
        raise LogpiError(f"{file} cannot be read: {short(str(wrong), 200).rstrip('.')}.") from wrong


def fill(module: nn.Module, tensors: dict[str, Tensor], file: Path, nonfinite: bool = False) -> None:
    """Load a module's tensors, all of them and no other; the first that does not fit is named."""
    own = module.state_dict()
    for name in sorted({*own, *tensors}):
        if name not in tensors or name not in own:
            raise LogpiError(
                f"{file} {'has no' if name in own else 'has a strange'} tensor {name}: is it of another network?"
            )
        there, here = tensors[name], own[name]
        if there.shape != here.shape or there.is_floating_point() != here.is_floating_point():
            kinds = [f"{list(x.shape)} of {str(x.dtype).removeprefix('torch.')}" for x in (there, here)]
            raise LogpiError(
                f"The tensor {name} in {file} is {kinds[0]}, the network's is {kinds[1]}: is it of another one?"
            )
        if not nonfinite and there.is_floating_point() and not bool(there.to(here.dtype).isfinite().all()):
            raise LogpiError(f"The tensor {name} in {file} holds NaN or inf: use another checkpoint.")
    module.load_state_dict(tensors)
