"""Observation and action spaces as JSON."""

from typing import Any

import numpy as np
from gymnasium import spaces

from logpi.layout import is_text


def space_to_json(space: spaces.Space) -> dict[str, Any]:
    if isinstance(space, spaces.Discrete):
        return {"discrete": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {"choices": space.nvec.tolist(), "start": space.start.tolist()}
    if isinstance(space, spaces.MultiBinary):
        return {"flags": list(space.shape)}
    if isinstance(space, spaces.Dict):
        return {"parts": [[key, space_to_json(part)] for key, part in space.spaces.items()]}
    if isinstance(space, spaces.Tuple):
        return {"tuple": [space_to_json(part) for part in space.spaces]}
    if is_text(space):
        return {"text": 1}  # left out of what a policy sees: any will do
    assert isinstance(space, spaces.Box)
    found: dict[str, Any] = {"dtype": str(space.dtype)}
    for side, x in (("low", space.low), ("high", space.high)):
        same = x.size > 0 and (x == x.flat[0]).all()  # a picture has one limit for all its pixels
        found[side] = str(x.flat[0]) if same and space.shape != (1,) else x.astype(str).tolist()
    return found | (
        {"shape": list(space.shape)} if isinstance(found["low"], str) or isinstance(found["high"], str) else {}
    )


def space_from_json(x: dict[str, Any]) -> spaces.Space:
    if "discrete" in x:
        return spaces.Discrete(x["discrete"], start=x["start"])
    if "choices" in x:
        return spaces.MultiDiscrete(x["choices"], start=x["start"])
    if "flags" in x:
        return spaces.MultiBinary(x["flags"])
    if "parts" in x:
        return spaces.Dict({key: space_from_json(part) for key, part in x["parts"]})
    if "tuple" in x:
        return spaces.Tuple([space_from_json(part) for part in x["tuple"]])
    if "text" in x:
        return spaces.Text(x["text"])
    dtype = np.dtype(x["dtype"]).type
    low, high = (np.array(x[side], dtype) for side in ("low", "high"))
    shape = tuple(x["shape"]) if "shape" in x else low.shape
    return spaces.Box(np.broadcast_to(low, shape), np.broadcast_to(high, shape), dtype=dtype)
