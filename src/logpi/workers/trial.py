"""How many processes for these environments: found by a trial, which has a process of its own."""

from collections.abc import Callable

import gymnasium
import numpy as np

from logpi.errors import EnvironmentFailed
from logpi.workers import wire, work
from logpi.workers.shared import Shared
from logpi.workers.worker import CONTEXT, Worker, ask, end, failures_in


def tried(construct: Callable[[], gymnasium.Env], name: str, n: int, seconds: float) -> tuple[int, str]:
    """How many workers, and a line that says why. No run sees anything of the trial; it may take `seconds`."""
    if n <= work.workers_for(n, 1.0):
        return n, ""
    worker = Worker(0, range(1), name, construct, Shared(CONTEXT, {"at": ((1,), np.int64)}))
    try:
        worker.start()
        ((_, answer),) = ask([worker], [wire.encode({"do": "try"})], seconds)
    finally:
        end([worker])
    if isinstance(answer, EnvironmentFailed) or failures_in(answer):
        share, why = 1.0, f"a trial of {name} failed"
    else:
        found = wire.decode(answer)
        share = found["share"]
        why = f"a step of {name} takes {1000 * found['seconds']:.3g} ms, {share:.0%} of it at work"
    workers = work.workers_for(n, share)
    return workers, f"{workers} workers on {work.cores()} cores: {why} (--workers sets another number)."
