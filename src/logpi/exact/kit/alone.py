"""The kit against copies of the package, each in a process of its own. Started by its path: nothing of logpi is here.

    python -P alone.py SECONDS AT_ONCE COPY...

A COPY is a folder in which a package `logpi` lies; what failed is written beside it, COPY/failed.json: {check: what it
said}. Where processes can be forked torch is imported once, for all.
"""

import gc
import json
import multiprocessing
import sys
from multiprocessing.connection import wait
from pathlib import Path
from time import monotonic
from typing import Any

CRASH, HANG, IMPORT = "(crash)", "(hang)", "(import)"  # in the place of a check's name
FORKS = sys.platform == "linux"


def judge(copy: str) -> None:
    """Import the copy and run its kit."""
    sys.path.insert(0, copy)
    try:
        from logpi.exact import kit

        if not Path(kit.__file__).is_relative_to(copy):
            raise ImportError(f"{kit.__file__} was imported")
        found = kit.failures()
    except Exception as wrong:
        found = {IMPORT: f"{type(wrong).__name__}: {wrong}"}
    tell(copy, found)


def tell(copy: str, found: dict[str, str]) -> None:
    Path(copy, "failed.json").write_text(json.dumps(found))


def warm() -> None:
    """What takes time once in a process and knows nothing of logpi."""
    import gymnasium  # noqa: F401
    import torch

    torch.func.vmap(torch.func.grad(torch.sum))(torch.ones(2, 2))
    torch.func.jvp(torch.sin, (torch.ones(2),), (torch.ones(2),))
    gc.freeze()  # no child looks through torch's objects again


def main(seconds: float, at_once: int, copies: list[str]) -> None:
    context: Any = multiprocessing.get_context("fork" if FORKS else "spawn")
    running: dict[Any, tuple[Any, str, float]] = {}
    if FORKS:
        warm()
    while copies or running:
        while copies and len(running) < at_once:
            process = context.Process(target=judge, args=(copies[0],), daemon=True)
            process.start()
            running[process.sentinel] = process, copies.pop(0), monotonic() + seconds
        soonest = min(until for _, _, until in running.values())
        over = wait(running, max(0.0, soonest - monotonic()))
        for sentinel in [s for s, (_, _, until) in running.items() if s in over or until <= monotonic()]:
            process, copy, _ = running.pop(sentinel)
            if sentinel not in over:
                process.kill()
                tell(copy, {HANG: f"not done after {seconds:g} s"})
            process.join()
            if not Path(copy, "failed.json").exists():
                tell(copy, {CRASH: f"exit code {process.exitcode}"})


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
