"""Gymnasium environments in processes of their own: the numbers of sync, and a failure ends no run unless it should."""

import os
from collections.abc import Callable, Sequence
from multiprocessing.util import Finalize
from typing import Any, Literal

import gymnasium
import numpy as np
import torch
from torch import Tensor

from logpi.envs.base import Step
from logpi.errors import EnvironmentFailed, LogpiError
from logpi.workers import wire
from logpi.workers.child import FINE
from logpi.workers.guard import Guard
from logpi.workers.shared import Shared
from logpi.workers.worker import CONTEXT, STEP, Worker, ask, end

SLOW = 60.0  # seconds that making an environment may take, if step_timeout is not longer
STRIKES = 3  # failures of one environment without a good step in between that end the run
BREAKS = 100  # the same, without the end of an episode in between


class Workers:
    """n environments in contiguous slices over `workers` processes (default: one for each core).

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
        slices = np.array_split(np.arange(n), min(n, workers or os.cpu_count() or 1))
        self.shared = self._share(len(slices))
        self.arrays = self.shared.arrays()
        numbers = [range(int(x[0]), int(x[-1]) + 1) for x in slices]
        self.workers = [Worker(i, own, example.name, construct, self.shared) for i, own in enumerate(numbers)]
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
        for _, answer in ask(self.workers, requests, max(SLOW, self.step_timeout)):
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
        return torch.from_numpy(self.arrays["obs"].copy())

    def step(self, action: Tensor) -> Step:
        x = self.arrays
        x["action"][:] = action.cpu().numpy().astype(self.action_space.dtype, copy=False)
        before = x["obs"].copy()
        answers = ask(self._all(), [STEP] * len(self.workers), self.step_timeout)
        for worker, answer in answers:
            if isinstance(answer, EnvironmentFailed):
                x["broken"][[*worker.numbers]] = True
        broken = x["broken"].copy()
        for name in ("reward", "terminated", "truncated"):
            x[name][broken] = 0
        x["final"][broken] = before[broken]
        ended = x["terminated"] | x["truncated"]
        self.strikes[~broken], self.breaks[ended] = 0, 0
        self.first &= ~ended
        for worker, answer in answers:
            self._repair(worker, answer)
        names = ("obs", "final", "reward", "terminated", "truncated")
        given = Step(*(torch.from_numpy(x[name].copy()) for name in names))
        if not broken.any():
            return given
        return given._replace(mask=torch.from_numpy(~broken), broken=torch.from_numpy(broken))

    def _repair(self, worker: Worker, answer: bytes | EnvironmentFailed) -> None:
        """Nothing, if nothing failed; else raise, or new episodes in the place of those that broke."""
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
            seeds = [self._seed(number) for number in numbers]
            request = wire.encode({"do": "build", "numbers": numbers, "seeds": seeds})
            ((_, answer),) = ask([worker], [request], max(SLOW, self.step_timeout))

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

    def close(self) -> None:
        """No process is left, whatever it was doing."""
        self._end.cancel()
        end(self.workers)
        self.workers = []


def _failed(answer: bytes | EnvironmentFailed) -> list[EnvironmentFailed]:
    if isinstance(answer, EnvironmentFailed):
        return [answer]
    return [] if answer == FINE else [EnvironmentFailed(*x) for x in wire.decode(answer)["failed"]]
