"""One thread: the tests run two at a time. Warnings are errors, but for one that torch gives of itself."""

import pytest
import torch

torch.set_num_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    """torch.func.jvp compiles its decompositions with torch.jit.script when it is first called."""
    config.addinivalue_line("filterwarnings", "ignore:`torch.jit.script` is deprecated:DeprecationWarning")
