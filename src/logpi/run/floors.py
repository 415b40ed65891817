"""What this machine and an environment can do at best, measured in this process: what `logpi bench` holds a loop against."""

import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from logpi import envs
from logpi.batch import Batch
from logpi.device import pick
from logpi.layout import Taken
from logpi.loop import Parts
from logpi.run.setup import Settings
from logpi.workers import work

SQUARE = 256  # of a product that lies in the cache: larger ones are not faster
TRIAL = 0.3  # seconds of steps of an environment alone
ROW, MOST = 1024, 2**28  # numbers of a vector; bytes beyond which no cache helps
MANY = 64  # random actions, over and over


@dataclass(frozen=True)
class Alone:
    """Steps of an environment with random actions, and nothing of ours around them."""

    seconds: float  # of a step of one environment
    at_work: float  # the share of it in which the processor computes; in the rest it waits

    def in_processes(self, workers: int) -> float:
        """Seconds of a step of one environment where so many processes share the cores."""
        return self.seconds * max(1 / workers, self.at_work / work.cores())


def best(task: Callable[[], Any], wait: Callable[[], Any] | None = None, times: int = 30) -> float:
    """Seconds of the fastest of several."""
    found = []
    for _ in range(times):
        began = time.perf_counter()
        task()
        if wait is not None:
            wait()
        found.append(time.perf_counter() - began)
    return min(found)


def waiting(device: str) -> Callable[[], Any] | None:
    """What waits until a device has done all that it was told; None for the processor itself."""
    return None if torch.device(device).type == "cpu" else torch.accelerator.synchronize


def arithmetic(network: nn.Module, rows: int, dtype: torch.dtype | None = None) -> float:
    """Multiply-adds a second of the fastest matrix product: a square, or so many rows through one of its layers.

    dtype: of a network that computes in another type than its parameters have.
    """
    like = next(network.parameters()).new_empty(0, dtype=dtype)
    layers = {(x.in_features, x.out_features) for x in network.modules() if isinstance(x, nn.Linear)}
    return max(_product(like, *shape) for shape in ((SQUARE, SQUARE, SQUARE), *((rows, *x) for x in layers)))


def _product(like: Tensor, m: int, k: int, n: int) -> float:
    a, b, out = (torch.rand(shape, device=like.device, dtype=like.dtype) for shape in ((m, k), (k, n), (m, n)))
    many = max(1, int(2e7 / (m * k * n)))  # half a millisecond or more

    def task() -> None:
        for _ in range(many):
            torch.mm(a, b, out=out)

    return m * k * n * many / best(task, waiting(str(like.device)))


def gain(like: Tensor, dtype: torch.dtype) -> float:
    """How much faster a square product is in this type."""
    other, own = (_product(like.new_empty(0, dtype=x), SQUARE, SQUARE, SQUARE) for x in (dtype, like.dtype))
    return other / own


def peak(device: str) -> int:
    """Bytes that this process has had at most; of a GPU, those of its tensors."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory(device: str) -> int:
    """Bytes that the machine has, or its GPU."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def reading(size: int, like: Tensor) -> float:
    """Bytes a second of a pass over so many, as of weights that meet one vector."""
    row = torch.ones(ROW, device=like.device)
    table = torch.ones(max(1, min(size, MOST) // row.nbytes), ROW, device=like.device)
    return table.nbytes / best(lambda: torch.mv(table, row), waiting(str(like.device)))


def copying(batch: Batch) -> float:
    """Bytes a second, of a copy of as many as the batch has."""
    source, target = (torch.ones(sum(sizes(batch).values()), dtype=torch.uint8) for _ in range(2))
    return len(source) / best(lambda: target.copy_(source))


def sizes(batch: Batch) -> dict[str, int]:
    """The bytes of its tensors."""
    return {name: x.nbytes for name, x in vars(batch).items() if isinstance(x, Tensor)}


def alone(made: Any, settings: Settings) -> Alone:
    """One environment more of those that a loop has made, in a bare loop; vector and native ones all n at once."""
    guards = getattr(made, "guards", None) or getattr(made, "workers", None)
    dtype = getattr(torch, settings.dtype)
    fresh = (
        guards[0].construct()
        if guards
        else envs.make(
            envs.construction(settings.env, settings.env_options),
            made.n,
            settings.backend,
            device=pick(settings.device),
            dtype=dtype,
        )
    )
    try:
        return _stepped(_single(fresh), 1) if guards else _stepped(_several(fresh), made.n)
    finally:
        fresh.close()


def _single(env: Any) -> Callable[[], None]:
    """A step of one environment, and the reset that an end asks for."""
    env.action_space.seed(0)
    actions, at = [env.action_space.sample() for _ in range(MANY)], 0
    env.reset(seed=0)

    def step() -> None:
        nonlocal at
        at = (at + 1) % MANY
        _, _, terminated, truncated, _ = env.step(actions[at])
        if terminated or truncated:
            env.reset()

    return step


def _several(made: Any) -> Callable[[], Any]:
    """A step of a vector environment, or of native ones: they reset themselves."""
    made.reset([*range(made.n)])
    taken = Taken(made.action_space)
    drawn = [made.action_space.sample() if taken.plain else np.zeros(taken.shape) for _ in range(made.n)]
    action = np.stack(drawn)
    if isinstance(made, envs.InArrays):
        return lambda: made.step_array(action)
    tensor = torch.from_numpy(action).to(getattr(made, "device", "cpu"))
    return lambda: made.step(tensor)


def _stepped(step: Callable[[], Any], n: int) -> Alone:
    step()  # the first one makes what the others find
    steps, began, busy = 0, time.perf_counter(), work._busy()
    while steps == 0 or time.perf_counter() < began + TRIAL:
        step()
        steps += 1
    seconds = time.perf_counter() - began
    return Alone(seconds / steps / n, min(1.0, (work._busy() - busy) / seconds))


def acting(parts: Parts) -> float:
    """Seconds for one environment's step of the fused policy alone: where a kernel does environments and policy at once.

    What a call from Python costs, which the whole kernel pays once, is left out.
    """
    from logpi.fast import rolling
    from logpi.fast.acting import normal_of, place, prepare
    from logpi.fast.machine import address

    machine, control, head = parts.fused.main, parts.collect, parts.policy.head
    n, steps = control.envs.n, MANY
    obs, normal = control.obs.contiguous(), normal_of(parts.policy)
    noise = head.noise((1, n), obs, torch.Generator().manual_seed(0))
    params, action = torch.empty(n, machine.params), torch.empty(n, *head.action_shape, dtype=head.action_dtype)
    where = (obs.data_ptr(), place(normal), 0 if noise is None else noise.data_ptr())
    out = (params.data_ptr(), action.data_ptr())
    prepare(machine)

    def seconds(rows: int) -> float:
        began = time.perf_counter()
        for _ in range(steps):
            rolling.act(address(machine.plan), address(machine.x), *where, rows, *out)
        return time.perf_counter() - began

    return max(0.0, median(seconds(n) - seconds(0) for _ in range(30))) / (steps * n)
