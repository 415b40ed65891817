"""Observation and action spaces as JSON."""

from typing import Any

import numpy as np
from gymnasium import spaces


def space_to_json(space: spaces.Space) -> dict[str, Any]:
    if isinstance(space, spaces.Discrete):
        return {"discrete": int(space.n), "start": int(space.start)}
    assert isinstance(space, spaces.Box)
    return {"low": space.low.astype(str).tolist(), "high": space.high.astype(str).tolist(), "dtype": str(space.dtype)}


def space_from_json(x: dict[str, Any]) -> spaces.Space:
    if "discrete" in x:
        return spaces.Discrete(x["discrete"], start=x["start"])
    dtype = np.dtype(x["dtype"]).type
    return spaces.Box(np.array(x["low"], dtype), np.array(x["high"], dtype), dtype=dtype)
