"""Gymnasium environments in processes of their own: the numbers of sync, and a failure ends no run unless it should."""

import time
from collections.abc import Callable, Sequence
from functools import cached_property
from multiprocessing.util import Finalize
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from torch import Tensor

from logpi.envs.base import Step, StepArrays, joined
from logpi.errors import EnvironmentFailed, LogpiError
from logpi.workers import wire
from logpi.workers.child import FINE
from logpi.workers.guard import Guard
from logpi.workers.shared import Shared
from logpi.workers.trial import tried
from logpi.workers.wires import Wires
from logpi.workers.worker import BUILD, CONTEXT, Watch, Worker, ask, end, failures_in, step

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
        self.seen, self.taken = example.seen, example.taken
        example.close()
        self.failures: list[EnvironmentFailed] = []
        self.strikes, self.breaks = np.zeros(n, int), np.zeros(n, int)
        self.seeds: list[int] | None = None  # of the last reset
        self.first = np.zeros(n, bool)  # still in the episode that this seed began
        self.repairs, self.entropy = 0, 0
        self.sent: set[int] = set()  # groups that have not been received yet
        self.lost: set[int] = set()  # groups that went with their process, and are yet to be told
        workers, self.note = (workers, "") if workers else tried(construct, example.name, n, SLOW)
        slices = np.array_split(np.arange(n), min(n, workers))
        self.shared = self._share(len(slices))
        self.arrays = self.shared.arrays()
        self.last = self.arrays["obs"].copy()  # observations as they were given out
        numbers = [range(int(x[0]), int(x[-1]) + 1) for x in slices]
        self.workers = [Worker(i, own, example.name, construct, self.shared) for i, own in enumerate(numbers)]
        self.groups = [Group(worker, own) for worker in self.workers for own in _halves(worker.numbers)]
        self.group_of = [g for g, group in enumerate(self.groups) for _ in group.rows]
        self._end = Finalize(self, end, (self.workers,), exitpriority=10)
        self._start()
        self.watch = Watch(self.workers)

    def _share(self, workers: int) -> Shared:
        obs, action = (((self.n, *x.shape), x.dtype) for x in (self.seen, self.taken))
        flags = dict.fromkeys(("terminated", "truncated", "broken", "resting"), ((self.n,), bool))
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
            for failure in failures_in(answer):
                self.close()
                raise failure

    def reset(self, seeds: Sequence[int] | None = None) -> Tensor:
        self.seeds = None if seeds is None else list(seeds)
        self.first[:] = seeds is not None
        self.arrays["resting"][:] = False
        if self.seeds is not None:
            self.entropy = self.seeds[0]
        request = wire.encode({"do": "reset", "seeds": self.seeds})
        for worker, answer in ask(self._all(), [request] * len(self.workers), self.step_timeout):
            self._repair(worker, answer)
        self.lost, self.sent = set(), set()
        self.last[...] = self.arrays["obs"]
        return torch.from_numpy(self.last.copy())

    def rest(self, rows: np.ndarray) -> None:
        self.arrays["resting"][:] = rows
        for name in ("reward", "terminated", "truncated"):
            self.arrays[name][rows] = 0

    def step(self, action: Tensor) -> Step:
        return self.step_array(action.cpu().numpy()).tensors()

    def step_array(self, action: np.ndarray) -> StepArrays:
        self.send(np.arange(self.n), action)
        parts = []
        while self.sent:
            parts.append(self.receive())
        return joined(parts)

    def send(self, rows: np.ndarray, action: np.ndarray) -> None:
        self._all()
        self.arrays["action"][rows] = np.reshape(action, (len(rows), *self.taken.shape))
        asked, at = rows.tolist(), 0
        while at < len(asked):
            g = self.group_of[asked[at]]
            group = self.groups[g]
            if g not in self.lost:
                group.worker.ask(g, group.request)
            self.sent.add(g)
            at += len(group.rows)

    def receive(self) -> tuple[np.ndarray, StepArrays]:
        if not self.sent:
            raise LogpiError("No environment was sent anything that it could answer: send, then receive.")
        while not (came := [g for g in self.sent if g in self.lost or self.groups[g].worker.has(g)]):
            self.watch.wait(self.step_timeout)
        fine = [g for g in came if g not in self.lost and self.groups[g].worker.fine(g)]
        if not fine:
            return self._made_good(came[0])
        for g in fine:
            self.groups[g].worker.take(g)
        self.sent.difference_update(fine)
        rows = np.array([row for g in fine for row in self.groups[g].rows])
        self.strikes[rows] = 0
        return rows, self._given(rows)

    def _given(self, rows: np.ndarray) -> StepArrays:
        """What is in the arrays, as copies in which no worker writes."""
        obs, reward, terminated, truncated = (
            self.arrays[name].take(rows, 0) for name in ("obs", "reward", "terminated", "truncated")
        )
        self.last[rows] = obs
        if not (ended := terminated | truncated).any():
            return StepArrays(obs, obs, reward, terminated, truncated)
        over = rows[ended]
        self.breaks[over], self.first[over] = 0, False
        final = obs.copy()
        final[ended] = self.arrays["final"][over]
        return StepArrays(obs, final, reward, terminated, truncated)

    @cached_property
    def wires(self) -> Wires:
        """For a kernel that sends and receives by itself: between `hand_over` and `stepped`."""
        return Wires(self.workers, self.groups)

    def hand_over(self) -> bool:
        """May a kernel go on from here? Not where there is more to do than steps."""
        return not self.lost and self.wires.take_over()

    def stepped(self, rows: np.ndarray) -> None:
        """A kernel has, with `wires`: these environments at least once; `last` is what they showed."""
        self.sent = self.wires.hand_back(time.monotonic())
        self.strikes[rows] = 0
        over = self.wires.over.view(bool)
        self.breaks[over], self.first[over] = 0, False

    def _made_good(self, g: int) -> tuple[np.ndarray, StepArrays]:
        """What a group in which something failed gave: new episodes in the place of those that broke."""
        x, group = self.arrays, self.groups[g]
        rows = np.array(group.rows)
        self.sent.remove(g)
        answer: bytes | EnvironmentFailed = FINE if g in self.lost else group.worker.take(g)
        if g in self.lost or isinstance(answer, EnvironmentFailed):
            x["broken"][rows] = True
            self.lost.discard(g)
        broken, before = x["broken"][rows], self.last[rows]
        for name in ("reward", "terminated", "truncated"):
            x[name][rows[broken]] = 0
        self.strikes[rows[~broken]] = 0
        self._repair(group.worker, answer, g)
        given = self._given(rows)
        if not broken.any():
            return rows, given
        final = given.final.copy()
        final[broken] = before[broken]
        return rows, given._replace(final=final, mask=~broken, broken=broken)

    def _repair(self, worker: Worker, answer: bytes | EnvironmentFailed, group: int = -1) -> None:
        """Nothing, if nothing failed; else raise, or new episodes in the place of those that broke. group: whose step it was."""
        while failed := failures_in(answer):
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
                self.lost |= {g for g, x in enumerate(self.groups) if g != group and x.worker is worker}
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
        self.sent.clear()
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
            for failure in failures_in(answer):
                self.close()
                raise failure
        self.lost, self.sent = set(), set()
        self.last[...] = self.arrays["obs"]

    def close(self) -> None:
        """No process is left, whatever it was doing."""
        self._end.cancel()
        end(self.workers)
        self.workers = []


class Group:
    """Environments of one worker that step together."""

    def __init__(self, worker: Worker, rows: range) -> None:
        self.worker, self.rows, self.request = worker, rows, step(rows)  # what asks the worker for a step of theirs


def _halves(numbers: range) -> list[range]:
    """A worker's environments in two groups: it steps one while the caller decides for the other."""
    half = len(numbers) // 2
    return [numbers[:half], numbers[half:]] if half else [numbers]
