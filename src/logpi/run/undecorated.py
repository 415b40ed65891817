"""torch's optimisers without the wrapper that imports torch._dynamo: a second in every process, for a compiler that is not used."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch

NAMES = ("add_param_group", "state_dict", "load_state_dict")
ONE = threading.RLock()  # at a time: the class is everybody's


@contextlib.contextmanager
def undecorated() -> Iterator[None]:
    """Inside, optimisers are made, saved and restored by torch's own functions as they were before it wrapped them."""
    kind: Any = torch.optim.Optimizer
    with ONE:
        wrapped = {name: getattr(kind, name) for name in NAMES}
        for name, function in wrapped.items():
            setattr(kind, name, getattr(function, "__wrapped__", function))
        try:
            yield
        finally:
            for name, function in wrapped.items():
                setattr(kind, name, function)
