"""Gymnasium environments in processes of their own: the numbers of sync, and a failure ends no run unless it should."""

import time
from collections.abc import Callable, Sequence
from multiprocessing.util import Finalize
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from torch import Tensor

from logpi.envs.base import Step, StepArrays
from logpi.errors import EnvironmentFailed, LogpiError
from logpi.workers import wire, work
from logpi.workers.guard import Guard
from logpi.workers.shared import Shared
from logpi.workers.worker import BUILD, CONTEXT, Worker, ask, end, step

SLOW = 60.0  # seconds that making an environment may take, if step_timeout is not longer
STRIKES = 3  # failures of one environment without a good step in between that end the run
BREAKS = 100  # the same, without the end of an episode in between


class Workers:
    """n environments in contiguous slices over `workers` processes (default: as many as keep the cores at work).

    Observations, actions and rewards travel in shared memory, words over pipes. on_failure 'fail' raises
    EnvironmentFailed; 'restart' puts new episodes in the place of what broke and tells it in `failures`.
    """

    backend = "async"

    def __init__(
        self,
        construct: Callable[[], gymnasium.Env],
        example: Guard,
        n: int,
        workers: int | None = None,
        step_timeout: float = 60.0,
        on_failure: Literal["fail", "restart"] = "fail",
    ) -> None:
        """example: one environment of `construct`, which tells the spaces and is closed."""
        self.n, self.step_timeout, self.on_failure = n, step_timeout, on_failure
        self.observation_space, self.action_space = example.observation_space, example.action_space
        example.close()
        for space in (self.observation_space, self.action_space):
            if space.shape is None or space.dtype is None:
                raise LogpiError(
                    f"The space {space} is not one array, which --backend async needs: use --backend sync."
                )
        self.failures: list[EnvironmentFailed] = []
        self.strikes, self.breaks = np.zeros(n, int), np.zeros(n, int)
        self.seeds: list[int] | None = None  # of the last reset
        self.first = np.zeros(n, bool)  # still in the episode that this seed began
        self.repairs, self.entropy = 0, 0
        self.lost: set[tuple[int, int]] = set()  # (worker, group) that went with its process, and is yet to be told
        workers, self.note = (workers, "") if workers else _tried(construct, example.name, n)
        slices = np.array_split(np.arange(n), min(n, workers))
        self.shared = self._share(len(slices))
        self.arrays = self.shared.arrays()
        self.last = self.arrays["obs"].copy()  # observations as they were given out
        numbers = [range(int(x[0]), int(x[-1]) + 1) for x in slices]
        self.workers = [Worker(i, own, example.name, construct, self.shared) for i, own in enumerate(numbers)]
        self.groups = [slice(0, n)] if n == 1 else [slice(0, n // 2), slice(n // 2, n)]
        self.parts = [[x for x in (_part(worker, rows) for worker in self.workers) if x] for rows in self.groups]
        self._end = Finalize(self, end, (self.workers,), exitpriority=10)
        self._start()

    def _share(self, workers: int) -> Shared:
        obs = ((self.n, *(self.observation_space.shape or ())), self.observation_space.dtype)
        action = ((self.n, *(self.action_space.shape or ())), self.action_space.dtype)
        flags = dict.fromkeys(("terminated", "truncated", "broken"), ((self.n,), bool))
        rest = {"reward": ((self.n,), float), "at": ((workers,), np.int64)}
        return Shared(CONTEXT, {"obs": obs, "final": obs, "action": action} | flags | rest)

    def _start(self) -> None:
        try:
            for worker in self.workers:
                worker.start()
        except BaseException:
            self.close()
            raise
        requests = [wire.encode({"do": "build", "numbers": [*w.numbers], "seeds": None}) for w in self.workers]
        for _, answer in ask(self.workers, requests, max(SLOW, self.step_timeout), BUILD):
            for failure in _failed(answer):
                self.close()
                raise failure

    def reset(self, seeds: Sequence[int] | None = None) -> Tensor:
        self.seeds = None if seeds is None else list(seeds)
        self.first[:] = seeds is not None
        if self.seeds is not None:
            self.entropy = self.seeds[0]
        request = wire.encode({"do": "reset", "seeds": self.seeds})
        for worker, answer in ask(self._all(), [request] * len(self.workers), self.step_timeout):
            self._repair(worker, answer)
        self.lost.clear()
        self.last[...] = self.arrays["obs"]
        return torch.from_numpy(self.last.copy())

    def step(self, action: Tensor) -> Step:
        return self.step_array(action.cpu().numpy()).tensors()

    def step_array(self, action: np.ndarray) -> StepArrays:
        for group, rows in enumerate(self.groups):
            self.send(group, action[rows])
        broken = [self._wait(group) for group in range(len(self.groups))]
        return self._given(slice(0, self.n), any(broken))

    def send(self, group: int, action: np.ndarray) -> None:
        self._all()
        self.arrays["action"][self.groups[group]] = action
        for worker, _, request in self.parts[group]:
            if (worker.index, group) not in self.lost:
                worker.ask(group, request)

    def receive(self, group: int) -> StepArrays:
        return self._given(self.groups[group], self._wait(group))

    def _wait(self, group: int) -> bool:
        """Until the group has stepped and what failed is made good; whether a step was lost."""
        rows, x, failed, lost = self.groups[group], self.arrays, [], False
        deadline = time.monotonic() + self.step_timeout
        for worker, own, _ in reversed(self.parts[group]):  # who was asked last answers last: one wait for all
            if (worker.index, group) in self.lost:
                self.lost.remove((worker.index, group))
                x["broken"][own] = lost = True
            elif answer := worker.answer(group, deadline, self.step_timeout):
                failed.append((worker, answer))
                if isinstance(answer, EnvironmentFailed):
                    x["broken"][own] = True
        if failed or lost:
            for name in ("reward", "terminated", "truncated"):
                x[name][rows][x["broken"][rows]] = 0
            self.strikes[rows][~x["broken"][rows]] = 0
        else:
            self.strikes[rows] = 0
        ended = x["terminated"][rows] | x["truncated"][rows]
        if ended.any():
            self.breaks[rows][ended], self.first[rows][ended] = 0, False
        for worker, answer in reversed(failed):
            self._repair(worker, answer, group)
        return bool((failed or lost) and x["broken"][rows].any())

    def _given(self, rows: slice, broken: bool) -> StepArrays:
        """What is in the arrays; observations as a copy in which no worker writes."""
        final, reward, terminated, truncated, flags, obs = (
            self.arrays[name][rows] for name in ("final", "reward", "terminated", "truncated", "broken", "obs")
        )
        last, known = self.last[rows], terminated | truncated
        if broken:
            final[flags] = last[flags]
            known |= flags
        last[...] = obs
        if not known.any():
            return StepArrays(last, last, reward, terminated, truncated)
        final[~known] = last[~known]
        given = StepArrays(last, final, reward, terminated, truncated)
        return given._replace(mask=~flags, broken=flags.copy()) if broken else given

    def _repair(self, worker: Worker, answer: bytes | EnvironmentFailed, group: int = -1) -> None:
        """Nothing, if nothing failed in this group; else raise, or new episodes in the place of those that broke."""
        while failed := _failed(answer):
            for failure in failed:
                n = failure.number
                self.strikes[n], self.breaks[n] = self.strikes[n] + 1, self.breaks[n] + 1
                if self.on_failure == "fail" or self.strikes[n] == STRIKES or self.breaks[n] == BREAKS:
                    self.close()
                    raise failure
            self.failures += failed
            numbers = [failure.number for failure in failed]
            if worker.failure is not None:
                worker.start()
                numbers = [*worker.numbers]
                others = [g for g, parts in enumerate(self.parts) if g != group and any(worker is x for x, *_ in parts)]
                self.lost |= {(worker.index, other) for other in others}
            seeds = [self._seed(number) for number in numbers]
            request = wire.encode({"do": "build", "numbers": numbers, "seeds": seeds})
            ((_, answer),) = ask([worker], [request], max(SLOW, self.step_timeout), BUILD)

    def _seed(self, number: int) -> int:
        """Where a broken episode begins again: at its own start if others share it (a group), else at a new one."""
        if self.first[number] and self.seeds is not None and self.seeds.count(self.seeds[number]) > 1:
            return self.seeds[number]
        self.repairs += 1
        return int(np.random.SeedSequence([self.entropy, self.repairs]).generate_state(1)[0] >> 1)

    def _all(self) -> list[Worker]:
        if not self.workers:
            raise LogpiError("The environments are closed: make new ones.")
        return self.workers

    def state(self) -> dict[str, Any] | None:
        """None, too, where a process is gone: the next step tells of it."""
        if self.lost:
            return None
        requests = [wire.encode({"do": "state"})] * len(self.workers)
        answers = [answer for _, answer in ask(self.workers, requests, 10 * max(SLOW, self.step_timeout))]
        if not answers or any(isinstance(answer, EnvironmentFailed) for answer in answers):
            return None
        states = [state for answer in answers for state in wire.decode(answer)["states"]]  # type: ignore[arg-type]
        if any(state is None for state in states):
            return None
        return {"envs": states, "repairs": self.repairs, "entropy": self.entropy}

    def load_state(self, state: dict[str, Any]) -> None:
        self.repairs, self.entropy, self.seeds = state["repairs"], state["entropy"], None
        own = [[state["envs"][number] for number in worker.numbers] for worker in self._all()]
        requests = [wire.encode({"do": "load", "states": x}) for x in own]
        for _, answer in ask(self.workers, requests, 10 * max(SLOW, self.step_timeout)):
            for failure in _failed(answer):
                self.close()
                raise failure
        self.lost.clear()
        self.last[...] = self.arrays["obs"]

    def close(self) -> None:
        """No process is left, whatever it was doing."""
        self._end.cancel()
        end(self.workers)
        self.workers = []


def _part(worker: Worker, rows: slice) -> tuple[Worker, slice, bytes] | None:
    """The environments of a group that the worker has, and the request to step them."""
    own = slice(max(rows.start, worker.numbers.start), min(rows.stop, worker.numbers.stop))
    return (worker, own, step(own)) if own.start < own.stop else None


def _tried(construct: Callable[[], gymnasium.Env], name: str, n: int) -> tuple[int, str]:
    """How many workers, and a line that says why. The trial has a process of its own, so that no run sees anything of it."""
    if n <= work.workers_for(n, 1.0):
        return n, ""
    worker = Worker(0, range(1), name, construct, Shared(CONTEXT, {"at": ((1,), np.int64)}))
    try:
        worker.start()
        ((_, answer),) = ask([worker], [wire.encode({"do": "try"})], SLOW)
    finally:
        end([worker])
    if isinstance(answer, EnvironmentFailed) or _failed(answer):
        share, why = 1.0, f"a trial of {name} failed"
    else:
        found = wire.decode(answer)
        share = found["share"]
        why = f"a step of {name} takes {1000 * found['seconds']:.3g} ms, {share:.0%} of it at work"
    workers = work.workers_for(n, share)
    return workers, f"{workers} workers on {work.cores()} cores: {why} (--workers sets another number)."


def _failed(answer: bytes | EnvironmentFailed) -> list[EnvironmentFailed]:
    if isinstance(answer, EnvironmentFailed):
        return [answer]
    return [EnvironmentFailed(*x) for x in wire.decode(answer)["failed"]] if answer else []
