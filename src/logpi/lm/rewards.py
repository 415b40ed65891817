"""What completions are worth: functions with TRL's signature, f(prompts, completions, **columns) -> list[float]."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from logpi.errors import LogpiError, short
from logpi.lm.judge import number
from logpi.lm.tasks.task import Task

Reward = Callable[..., list[float]]


def score(
    reward: Reward, prompts: Sequence[str], completions: Sequence[str], columns: dict[str, list[Any]]
) -> list[float]:
    """One finite number for each completion, or one sentence about what came instead."""
    own = getattr(reward, "__self__", None)  # the task, where it is a task's
    name = getattr(reward, "__name__", type(reward).__name__) if own is None else f"of {type(own).__name__}"
    try:
        found = reward(prompts=[*prompts], completions=[*completions], **columns)
    except LogpiError:
        raise
    except Exception as wrong:  # the user's code
        raise LogpiError(
            f"The reward {name} raised {type(wrong).__name__} ({short(str(wrong))}): it must have a number for whatever the"
            " model says."
        ) from wrong
    several = isinstance(found, list | tuple) or bool(getattr(found, "shape", ()))
    if not several or len(found) != len(completions):
        told = f"{len(found)} numbers" if several else f"a {type(found).__name__}"
        raise LogpiError(f"The reward {name} returned {told} for {len(completions)} completions: return one for each.")
    for k, x in enumerate(found):
        if isinstance(number(x), str):
            said = completions[k] if len(completions[k]) <= 60 else completions[k][:60] + "..."
            raise LogpiError(f"The reward {name} returned {x!r} for the completion {said!r}: return a finite number.")
    return [float(x) for x in found]


class Scorer(Protocol):
    """A reward in the task's place: a judge, or a reward model. How often it failed, why last, and what stands for it then."""

    name: str
    failed: float
    failures: int
    reason: str

    def __call__(self, prompts: Sequence[Any], completions: Sequence[str], **columns: Sequence[Any]) -> list[float]: ...

    def must_load(self) -> None: ...

    def close(self) -> None: ...


def distinct(names: Sequence[str]) -> list[str]:
    """f, f -> f, f-2."""
    return [f"{x}-{n}" if (n := names[: k + 1].count(x)) > 1 else x for k, x in enumerate(names)]


def of_all(told: Sequence[dict[str, float]]) -> dict[str, float]:
    """What is told of equally many completions each, of all: how many failed, and the means of the rest."""
    summed = {k: sum(x[k] for x in told) for k in told[0]}
    return {k: x if k == "reward_failures" else x / len(told) for k, x in summed.items()}


class Rewards:
    """The reward of a task of ours; or those of the user's, each in a process of its own, and a reward model, with weights."""

    def __init__(self, task: Task, judges: Sequence[Scorer] = (), weights: Sequence[float] = ()) -> None:
        if weights and len(weights) != len(judges):
            raise LogpiError(f"There are {len(judges)} rewards and {len(weights)} weights: give one for each.")
        self.task, self.judges, self.weights = task, [*judges], [*weights] or [1.0] * len(judges)
        self.names = distinct([judge.name for judge in judges])
        self.told: dict[str, float] = {}
        self.warned: set[str] = set()  # reasons of failures that were told

    def __call__(self, examples: Sequence[dict[str, Any]], texts: list[str]) -> Tensor:
        """[B], float64: the weighted sum. `told` has the mean of each, where there are several, and how many failed."""
        prompts = [x["prompt"] for x in examples]
        columns = {k: [x[k] for x in examples] for k in examples[0] if k != "prompt"}
        if not self.judges:
            return torch.tensor(score(self.task.reward, prompts, texts, columns), dtype=torch.float64)
        before = [judge.failures for judge in self.judges]
        parts = [torch.tensor(judge(prompts, texts, **columns), dtype=torch.float64) for judge in self.judges]
        several = len(self.judges) > 1
        self.told = {f"reward/{name}": float(x.mean()) for name, x in zip(self.names, parts, strict=True) if several}
        failed = [judge.failures - n for judge, n in zip(self.judges, before, strict=True)]
        self.told |= {"reward_failures": float(sum(failed))}
        for name, judge, n in zip(self.names, self.judges, failed, strict=True):
            if n and judge.reason not in self.warned:
                self.warned.add(judge.reason)
                warnings.warn(
                    f"The reward {name} failed for {n} of {len(texts)} completions ({judge.reason}): each counts as"
                    f" {judge.failed:g}.",
                    stacklevel=2,
                )
        return sum(w * x for w, x in zip(self.weights, parts, strict=True))  # type: ignore[return-value]

    def must_load(self) -> None:
        """Refuse judges that are not there; none is left behind then."""
        try:
            for judge in self.judges:
                judge.must_load()
        except LogpiError:
            self.close()
            raise

    def close(self) -> None:
        for judge in self.judges:
            judge.close()
