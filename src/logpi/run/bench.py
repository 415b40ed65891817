"""Where the time of a loop goes: its parts timed from outside, while it runs as it is, and held against their floors.

What is timed is wrapped where Python looks it up: the environments' own step and reset, the policy's forward and sampling,
the critic, the credit, the step, the kernels that Python calls. A part's time is its own: what it calls is another's. What
the clock itself takes is known and subtracted, and the speed is that of iterations without it, in turns with those it timed.
"""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch

from logpi import critic as critics
from logpi import loop as looping
from logpi.envs.gym import Gymnasium
from logpi.envs.loop import Loop
from logpi.envs.workers import Workers
from logpi.loop import Parts, Record
from logpi.run import floors
from logpi.run.clock import Clock, Counted
from logpi.run.floors import Alone
from logpi.run.setup import Settings
from logpi.run.train import assembled
from logpi.workers import work
from logpi.workers.worker import Worker

PARTS = ("environment", "inference", "transfer", "values", "credit", "update", "rest")
KERNEL = "kernel"  # environments and policy in one: taken apart afterwards
TWINS = (  # what fast rollouts call, by module
    *(
        ("stepping", "Rollout.act", "inference"),
        ("stepping", "prepare", "inference"),
        ("acting", "prepare", "inference"),
    ),
    *(("survey", "value", "values"), ("passes", "following", "values"), ("rolling", "cartpole", KERNEL)),
    *(("arrays_net", "Pass.forward", "inference"), ("arrays", "dynamics", "environment")),
)
TURN = 0.15  # seconds at least of one loop, before another has its turn
BUSY = 0.1  # of the time, lost to other programs, from which on it is told
HIGH = 0.4  # of a machine's arithmetic: Python is not what limits it
WARM = 0.3  # seconds at least before anything counts


Place = tuple[Any, str, str, str]  # what has it, under which name, the part, in which part it counts


def places(parts: Parts) -> Iterator[Place]:
    control, policy = parts.collect, parts.policy
    yield type(control), "__call__", "transfer", "rest"
    yield type(control), "_judge", "values", "transfer"
    yield looping, "credited", "credit", "rest"
    yield type(parts.method), "step", "update", "rest"
    yield critics, "fit", "update", "rest"
    yield from ((type(policy), name, "inference", "transfer") for name in ("__call__", "normalise"))
    yield from ((type(policy.head), name, "inference", "transfer") for name in ("noise", "sample", "to_env"))
    yield from ((owner, name, "environment", "transfer") for owner, names in stepping(control.envs) for name in names)
    for module, name, part in TWINS:
        owner: Any = sys.modules.get(f"logpi.fast.{module}")  # those that are at work are imported
        *kind, last = name.split(".")
        owner = getattr(owner, kind[0], None) if kind else owner
        if hasattr(owner, last):
            yield owner, last, part, "transfer"


def stepping(envs: Any) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Who steps, and by which names; of environments in processes, who waits for them."""
    if isinstance(envs, Workers):
        yield Worker, ("answer",)
    elif isinstance(envs, Loop | Gymnasium):
        yield from ((x.env, ("step", "reset")) for x in getattr(envs, "guards", [envs]))
    else:
        yield type(envs), ("step", "reset")


@contextlib.contextmanager
def wrapped(found: Iterable[Place], clock: Clock) -> Iterator[None]:
    """All these places timed, inside."""
    with contextlib.ExitStack() as undo:
        for owner, name, part, inside in found:
            plain = getattr(owner, name)
            undo.callback(setattr, owner, name, plain) if name in vars(owner) else undo.callback(delattr, owner, name)
            setattr(owner, name, clock.timed(part, plain, inside))
        yield


class Course:
    """One loop, run by turns: as it is, and under the clock, which is put around `places`."""

    def __init__(self, parts: Parts, places: Callable[[Parts], Iterable[Place]] = places) -> None:
        self.parts, self.loop, self.places = parts, looping.loop(parts), places
        parts.state["horizon"] = sys.maxsize
        device = str(next(parts.policy.parameters()).device)
        self.clock, self.counting = Clock(floors.waiting(device)), Clock()
        self.pace: list[float] = []  # seconds a step, of each turn without the clock
        self.lost: list[float] = []  # the share of it in which other programs had the core
        self.timed = self.counted = 0  # steps
        self.slots = 0  # steps under the clock, with those of episodes that had ended
        self.record: Record

    @property
    def fused(self) -> bool:
        return self.parts.fused is not None and self.parts.fused.main is not None

    def turn(self, clock: Clock | None = None, least: float = TURN) -> float:
        """Iterations for so many seconds, at least one; seconds of the last one."""
        began, before, queued = time.perf_counter(), self.parts.state["steps"], in_line()
        with contextlib.nullcontext() if clock is None else wrapped(self.places(self.parts), clock):
            while True:
                self.record = next(self.loop) if clock is None else clock.lap(lambda: next(self.loop))
                self.slots += self.record.batch.reward.numel() if clock is self.clock else 0
                if (seconds := time.perf_counter() - began) >= least:
                    break
        steps = self.parts.state["steps"] - before
        if clock is None:
            self.pace.append(seconds / steps)
            self.lost.append((in_line() - queued) / seconds)
        elif clock is self.clock:
            self.timed += steps
        else:
            self.counted += steps
        return self.record.seconds

    def count(self) -> dict[str, float]:
        """Multiply-adds of each part for each action, in one iteration, on the plain path."""
        with Counted(self.counting):
            self.turn(self.counting, 0.0)
        return {part: count / self.counted for part, count in self.counting.flops.items()}

    def own(self) -> dict[str, float]:
        """us of each part for each action."""
        return {part: 1e6 * seconds / self.timed for part, seconds in self.clock.own().items()}

    def warm(self) -> float:
        """Seconds of an iteration, once all that is made but once is made."""
        self.turn(least=0.0)
        seconds = self.turn(least=WARM)
        self.pace, self.lost = [], []
        return seconds


def in_line() -> float:
    """Seconds that this thread has waited for a core."""
    return work._busy() - time.process_time()


@dataclass
class Report:
    """Of one policy in its environments; times are microseconds for each action taken."""

    fused: bool  # is the first loop on the fast path?
    loops: list[dict[str, Any]]  # the loop that was asked for, and the plain one beside a fused one: speed and parts
    ratio: float | None  # of their speeds
    floors: dict[str, float | None]
    machine: dict[str, float]
    alone: Alone
    workers: int  # processes; 0: the environments are in this one
    envs: int
    backend: str
    device: str
    reasons: list[str] = field(default_factory=list)  # why something is on the plain path
    lost: float = 0.0  # the share of the time in which other programs had this thread's core
    wasted: float = 0.0  # the share of the environments' steps that came after their episode's end
    notes: list[str] = field(default_factory=list)


def measure(
    name: str, method: Any, settings: Settings, seconds: float, say: Callable[[str], None], init: str | None
) -> Report:
    """The loop that `logpi train` would run, and beside it, where it is fused, the plain one."""
    with contextlib.ExitStack() as last:
        courses = [Course(assembled(name, method, settings, init)[0])]
        last.callback(courses[0].parts.collect.envs.close)
        took = courses[0].warm()
        if courses[0].fused:
            courses.append(Course(assembled(name, method, dataclasses.replace(settings, fast="off"), init)[0]))
            last.callback(courses[1].parts.collect.envs.close)
        if took > seconds:
            say(f"an iteration takes {took:.3g} s: wait for some more")
        plain = courses[-1]
        sums = plain.count()
        if took > seconds:
            courses = courses[:1]
        elif plain is not courses[0]:
            plain.warm()
        began = time.perf_counter()
        while not courses[0].pace or time.perf_counter() - began < seconds:
            for course in courses:
                course.turn()
                course.turn(course.clock)
        return report(courses, sums, settings)


def report(courses: list[Course], sums: dict[str, float], settings: Settings) -> Report:
    first = courses[0]
    made, batch, fused = first.parts.collect.envs, first.record.batch, first.parts.fused
    workers = len(made.workers) if isinstance(made, Workers) else 0
    alone = floors.alone(made, settings)
    bare = 1e6 * (alone.in_processes(workers) if workers else alone.seconds) * first.slots / first.timed
    rate, copies = floors.arithmetic(first.parts.policy, batch.reward.numel()), floors.copying(batch)
    scalars = sum(x for name, x in floors.sizes(batch).items() if getattr(batch, name).shape == batch.reward.shape)
    moved = {"transfer": sum(floors.sizes(batch).values()), "credit": scalars}
    found: dict[str, float | None] = dict.fromkeys(PARTS)
    found |= {part: 1e6 * count / rate for part, count in sums.items() if part in ("inference", "values", "update")}
    found |= {part: 1e6 * size / int(batch.mask.sum()) / copies for part, size in moved.items()}
    found["environment"] = None if KERNEL in first.clock.spent else bare
    machine = {"multiply_adds_per_step": sum(sums.values()), "gflops": 2e-9 * rate, "copy_gb_per_s": 1e-9 * copies}
    pairs = [a / b for a, b in zip(courses[-1].pace, first.pace, strict=True)]
    return Report(
        first.fused,
        [taken_apart(course, bare, workers) for course in courses],
        median(pairs) if len(courses) > 1 else None,
        found,
        machine | {"threads": torch.get_num_threads(), "cores": work.cores()},
        alone,
        workers,
        made.n,
        made.backend,
        str(batch.obs.device),
        sorted(fused.told) if fused is not None else [],
        median(first.lost),
        1 - first.timed / first.slots,
        [*notes(first, workers)],
    )


def taken_apart(course: Course, bare: float, workers: int) -> dict[str, Any]:
    """Its parts, those that cannot be timed from outside told apart; bare: us of an environment's step alone."""
    own = course.own()
    if KERNEL in own:
        whole, (policy, dynamics) = own.pop(KERNEL), kernel(course)
        own["inference"] = own.get("inference", 0.0) + whole * policy / (policy + dynamics)
        own["environment"] = own.get("environment", 0.0) + whole * dynamics / (policy + dynamics)
    if workers:
        waited = own.get("environment", 0.0)
        own["environment"] = min(waited, bare)
        own["transfer"] += waited - own["environment"]
    return shared(course, own, PARTS)


def shared(course: Course, own: dict[str, float], names: Sequence[str]) -> dict[str, Any]:
    """Steps a second as it is, and how the clock says that its time is shared; own: us of each part."""
    whole, us = sum(own.values()), 1e6 * median(course.pace)
    shares = {part: own.get(part, 0.0) / whole for part in names}
    clocked = 1e6 * sum(course.clock.spent.values()) / course.timed
    return {
        "steps_per_second": 1e6 / us,
        "us": us,
        "share": shares,
        "us_of": {part: share * us for part, share in shares.items()},
        "clock": 1 - whole / clocked,
    }


def kernel(course: Course) -> tuple[float, float]:
    """us of policy and environment in the kernel that does both, in rollouts alone."""
    parts, found, began = course.parts, list[float](), time.perf_counter()
    while not found or time.perf_counter() - began < floors.TRIAL:
        clock = Clock()
        with wrapped(places(parts), clock):
            batch = clock.lap(lambda: parts.collect(parts.policy, parts.critic))
        found.append(1e6 * clock.spent[KERNEL] / batch.reward.numel())
    whole = median(found)
    policy = min(whole, 1e6 * floors.acting(parts))
    return policy, whole - policy


def notes(course: Course, workers: int) -> Iterator[str]:
    """How what cannot be timed from outside was told apart."""
    if KERNEL in course.clock.spent:
        yield "environment and inference are one kernel: they share its time as they do where the policy is called alone"
    if workers:
        yield (
            "environment: what its own steps need in these processes; waiting for them beyond that is transfer, "
            "and what they did while the policy acted is not counted"
        )
    yield from beside(course)
    if course.timed < 0.9 * course.slots:
        late = f"{1 - course.timed / course.slots:.0%} of the environments' steps"
        yield f"{late} came after the end of their episode: rows of whole episodes wait for the longest"


def beside(course: Course) -> Iterator[str]:
    """What held up the loop, or the clock, from outside."""
    if (lost := median(course.lost)) > BUSY:
        yield f"other programs had this core for {lost:.0%} of the time: on a quiet machine all is faster, and nearer to its floor"
    if course.clock.wait is not None:
        yield "wherever one part ends and another begins, the clock waits for the device"
