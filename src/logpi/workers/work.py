"""How many processes keep the cores at work: an environment that computes needs a core, one that waits needs none."""

import contextlib
import copy
import os
import time
from pathlib import Path

from logpi.workers.guard import Guard

TRIAL = 0.05  # seconds of steps
QUEUE = Path("/proc/thread-self/schedstat")  # ns at work, ns in line for a core, turns


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers_for(n: int, share: float) -> int:
    """Processes for n environments that are at work in this share of their time, and wait in the rest of it.

    Where all of it is work: one for each core; or, on more than two, enough that while the parent decides for one of
    two groups on one core, the other group has a process for each of the others.
    """
    at_work = max(cores(), 2 * (cores() - 1))
    return min(n, round(at_work / min(1.0, max(share, 1e-3))))


def measure(guard: Guard) -> dict[str, float]:
    """Random steps of an environment that nobody needs: `seconds` of one, and the `share` in which it was at work."""
    space = copy.deepcopy(guard.action_space)
    space.seed(0)
    guard.reset(seed=0)
    guard.advance(space.sample())  # the first one makes what the others find
    steps, began, before = 0, time.perf_counter(), _busy()
    while steps == 0 or time.perf_counter() < began + TRIAL:
        if any(guard.advance(space.sample())):
            guard.reset()
        steps += 1
    seconds = time.perf_counter() - began
    return {"seconds": seconds / steps, "share": min(1.0, (_busy() - before) / seconds)}


def _busy() -> float:
    """Seconds that this process was at work, or would have been on a machine of its own."""
    queued = 0.0
    with contextlib.suppress(OSError, ValueError, IndexError):
        queued = 1e-9 * int(QUEUE.read_text().split()[1])
    return time.process_time() + queued
