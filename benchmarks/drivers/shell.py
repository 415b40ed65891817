"""The command `logpi` in a process of its own, as a shell starts it."""

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

from clock import asked

from logpi.run.setup import Settings


def logpi(command: str, **env: str) -> float:
    """Its wall time; `fast` and `seed` of what was asked are added."""
    words = [str(Path(sys.executable).parent / "logpi"), *command.split(), "--seed", str(asked["seed"])]
    if any(f.name == "fast" for f in dataclasses.fields(Settings)):
        words += ["--fast", asked.get("fast", "auto")]
    began = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True, env=os.environ | env)
    return time.perf_counter() - began
