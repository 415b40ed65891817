"""Nested state as bytes and back, between two processes: JSON, and the raw bytes of what is no JSON."""

import json
from typing import Any

import numpy as np


def encode(x: Any) -> bytes:
    """dicts with str keys, lists, numbers, strings, None, bytes, arrays, tensors; TypeError for anything else."""
    raw: list[bytes] = []
    text = json.dumps(_pack(x, raw)).encode()
    sizes = np.array([len(text), *map(len, raw)], np.int64)
    return b"".join([len(sizes).to_bytes(8, "little"), sizes.tobytes(), text, *raw])


def decode(data: bytes) -> Any:
    """The inverse of `encode`; tuples come back as lists."""
    count = int.from_bytes(data[:8], "little")
    sizes = np.frombuffer(data, np.int64, count, 8)
    ends = np.cumsum(sizes) + 8 + 8 * count
    text, *raw = (data[end - size : end] for end, size in zip(ends.tolist(), sizes.tolist(), strict=True))
    return _unpack(json.loads(text), raw)


def _pack(x: Any, raw: list[bytes]) -> Any:
    if x is None or type(x) in (bool, int, float, str):
        return x
    if isinstance(x, dict) and all(type(k) is str for k in x):
        return {"dict": [[k, _pack(v, raw)] for k, v in x.items()]}
    if isinstance(x, list | tuple):
        return [_pack(v, raw) for v in x]
    if isinstance(x, bytes):
        raw.append(x)
        return {"bytes": len(raw) - 1}
    kind = "array" if isinstance(x, np.ndarray) else "scalar" if isinstance(x, np.generic) else "tensor"
    if kind == "tensor" and type(x).__module__.partition(".")[0] != "torch":
        raise TypeError(f"{type(x).__name__} is neither a number nor an array")
    array = np.asarray(x.detach().cpu().numpy() if kind == "tensor" else x)
    if array.dtype.hasobject:
        raise TypeError("an array of Python objects")
    raw.append(array.tobytes())
    return {kind: len(raw) - 1, "dtype": array.dtype.str, "shape": list(array.shape)}


def _unpack(x: Any, raw: list[bytes]) -> Any:
    if isinstance(x, list):
        return [_unpack(v, raw) for v in x]
    if not isinstance(x, dict):
        return x
    if "dict" in x:
        return {k: _unpack(v, raw) for k, v in x["dict"]}
    if "bytes" in x:
        return raw[x["bytes"]]
    kind = next(iter(x))
    array = np.frombuffer(raw[x[kind]], np.dtype(x["dtype"])).reshape(x["shape"]).copy()
    if kind == "tensor":
        import torch  # the environment's own state has tensors, so it is there already

        return torch.from_numpy(array)
    return array[()] if kind == "scalar" else array
