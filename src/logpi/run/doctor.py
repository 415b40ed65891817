"""What a run's log says is wrong, and what to do: one small judgement for each thing that goes wrong.

A check is a pure function of the log. A fresh batch is measured in `examine` and judged in `judge`.
"""

import contextlib
import math
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Any, Literal

from logpi.errors import LogpiError
from logpi.run import table
from logpi.run.checkpoint import choose
from logpi.run.cures import CRITIC, LARGER, LESS, MORE, SMALLER, either
from logpi.run.folder import rows, status_of
from logpi.run.load import described
from logpi.run.table import figure, number

FEW = 8  # iterations before which a log tells no trend
RISEN = 0.25  # of the return's size: smaller ranges are the noise of 100 episodes
NEAR, HALF = 0.9, 0.5  # of the way from the worst return to the best: as good as the best; half of it is lost
LARGE_KL, HUGE_KL = 0.1, 1.0  # nats: ten times a usual trust region; another policy than the one that was measured
CLIPPED = 0.4  # of the actions outside the clip range: most of the batch no longer says where to go
STILL = 1e-8  # what float32 makes of a KL, or of a gradient, of 0
REFUSED = 0.5  # of the line searches: more often than not an iteration was for nothing
WINDOW = 100  # episodes, whose mean the log has
RISE = 4.0  # of the noise of such a mean: the best of a hundred of them is 2.5 above the rest by chance
DOUBLED = 0.5  # of the return's size: a rise, however noisy the learning was
EVEN = 0.99  # of log A: of two actions, none is likelier than 56 %
COLLAPSED = 0.02  # of log A: of two actions, one in 500 is not the usual one
NARROW, WIDE = -4.0, 1.5  # nats a dimension of the action, since the start: std over 55; std times 4.5
EPISODE = 2_000  # steps of one environment: twice the time limit of most
BROKEN = 0.01  # of the episodes
UNKNOWN = {"return", "length", "eval_return", "eval_interval"}  # no number before the first episode has ended
UNKNOWN |= {"grad_snr", "grad_noise_scale", "grad_cosine_halves"}  # none without a signal

RATIO = (
    "sampler and trainer must mean one policy: no dropout and no batch norm in the network (layer norm is fine), "
    "nothing random in its forward"
)


State = Literal["ok", "look", "wrong", "not measured"]


@dataclass(frozen=True)
class Finding:
    """What one check says: what was seen, and what to do where it is not ok."""

    name: str
    state: State
    seen: str
    do: str = ""


@dataclass(frozen=True)
class Log:
    """A run as it lies on the disk."""

    rows: list[dict[str, Any]]
    status: dict[str, Any]
    method: dict[str, Any] = field(default_factory=dict)  # the section of config.toml
    space: Any = None  # of the actions
    whole: bool = True  # it has a checkpoint that can be loaded
    text: bool = False  # of a language model

    def column(self, name: str) -> list[float]:
        """A metric where it is a finite number."""
        return [x for row in self.rows if (x := number(row.get(name))) is not None]

    @cached_property
    def curve(self) -> list[float]:
        """The return, where it is the mean of 100 episodes, which lucky first ones are not; else wherever there is one."""
        full = [row for row in self.rows if (number(row.get("episodes", WINDOW)) or 0) >= WINDOW] or self.rows
        return [x for row in full if (x := number(row.get("return"))) is not None]

    @cached_property
    def last(self) -> float:
        """The return over the last tenth of the log."""
        return fmean(self.curve[-max(1, len(self.curve) // 10) :]) if self.curve else math.nan

    @cached_property
    def moved(self) -> bool:
        """Whether the return has changed by more than noise."""
        low, high = min(self.curve, default=0.0), max(self.curve, default=0.0)
        return high - low > RISEN * max(abs(low), abs(high))

    @cached_property
    def windows(self) -> list[float]:
        """The return, without an episode that counts twice."""
        found, told = [], 0.0
        for row in self.rows:
            episodes, mean = number(row.get("episodes")) or 0.0, number(row.get("return"))
            if mean is not None and episodes >= told + WINDOW:
                found.append(mean)
                told = episodes
        return found

    @cached_property
    def risen(self) -> bool | None:
        """Whether the return came to be above its start by more than its noise; None: too few episodes to tell."""
        seen = self.windows
        if self.status["state"] == "solved" or len(seen) < FEW:
            return True if self.status["state"] == "solved" else None
        noise = 1.05 * median(abs(y - x) for x, y in pairwise(seen))  # the std of one of them
        rise = max(map(fmean, pairwise(seen))) - seen[0]
        return rise > min(RISE * noise, DOUBLED * max(map(abs, seen)))

    @cached_property
    def height(self) -> float:
        """Where the return stands between its worst (0) and its best (1); 0 where it has not moved."""
        if self.status["state"] == "solved":
            return 1.0
        low, high = min(self.curve, default=0.0), max(self.curve, default=0.0)
        return (self.last - low) / (high - low) if self.moved else 0.0


def read(run: Path) -> Log:
    """LogpiError where it is not a run folder, or its log is damaged; a torn last line is not."""
    status = status_of(run)
    space, whole = None, False
    with contextlib.suppress(LogpiError, OSError):
        folder, whole = choose(run)[0], True
        space = described(folder / "policy.json")[1]["actions"]
    asked = table.asked(run)
    return Log(list(rows(run)), status, asked.get("method", {}), space, whole, "task" in asked.get("run", {}))


def last_quarter(column: list[float]) -> list[float]:
    return column[-max(1, len(column) // 4) :]


def ended(log: Log) -> Finding:
    state, done = log.status["state"], f"{len(log.rows)} iterations"
    if state == "failed":
        reason = str(log.status.get("reason", "no reason was kept"))
        seen = f"failed in iteration {log.status.get('iteration', '?')}: {reason.partition(': ')[2] or reason}"
        cure = f"{RATIO}; then start again" if "first ratio" in reason else "mend that, then logpi resume"
        return Finding("run", "wrong", seen, cure)
    if state == "interrupted":
        cure = (
            "logpi resume goes on from the newest checkpoint"
            if log.whole
            else "it has no whole checkpoint: start again"
        )
        return Finding("run", "look", f"interrupted after {done}", cure)
    lost = ["it has no whole checkpoint"] * (not log.whole) + ["its log is empty"] * (not log.rows)
    if lost and state != "running":
        cure = (
            "its checkpoints are whole, how they came about is lost" if log.whole else "it cannot be loaded or resumed"
        )
        return Finding("run", "wrong", f"{state}, but {' and '.join(lost)}", f"{cure}: start again")
    return Finding("run", "ok", f"{state}, {done}")


def numbers(log: Log) -> Finding:
    names = dict.fromkeys(name for row in log.rows for name in row if name not in UNKNOWN)
    where = {k: [row.get("iteration") for row in log.rows if k in row and number(row[k]) is None] for k in names}
    found = [f"{name} in {len(at)} of {len(log.rows)} iterations, first in {at[0]}" for name, at in where.items() if at]
    if found:
        cure = "a lower learning rate; the iterations before the first of them tell more"
        return Finding("NaN", "wrong", f"not finite: {'; '.join(found)}", cure)
    return Finding("NaN", "ok", f"none in {len(log.rows)} iterations")


def step_size(log: Log) -> Finding:
    kl, name = [abs(x) for x in log.column("kl")], "step size"
    if not kl:
        return Finding(name, "not measured", "no iteration in the log")
    most, usual, outside = max(kl), median(kl), median(log.column("clip_fraction") or [0.0])
    seen = f"KL of an update {figure(usual)} (median), {figure(most)} (largest); {outside:.0%} of the ratios clipped"
    cure = f"the steps are too large: {either(log, SMALLER)}"
    if usual > HUGE_KL or (most > HUGE_KL and log.height < NEAR):
        return Finding(name, "wrong", seen, cure)
    if most > HUGE_KL or usual > LARGE_KL or outside > CLIPPED:
        return Finding(name, "look", seen, cure)
    return Finding(name, "ok", seen)


def movement(log: Log) -> Finding:
    kl, name = [abs(x) for x in log.column("kl")], "movement"
    if len(kl) < FEW:
        return Finding(name, "not measured", f"{len(kl)} iterations in the log: {FEW} are needed")
    middle = fmean(kl[len(kl) // 4 : -(len(kl) // 4)])  # the end may be annealed
    if middle > STILL or log.height >= NEAR:
        return Finding(name, "ok", f"KL of an update {middle:.1e} in the middle of the run")
    rate = f", the learning rate is {log.method['lr']:.3g}" if number(log.method.get("lr")) is not None else ""
    seen = f"nothing is learned: KL of an update {middle:.1e} in the middle of the run{rate}"
    return Finding(name, "wrong", seen, f"if there is a signal and entropy is left: {either(log, LARGER)}")


def line_search(log: Log) -> Finding:
    accepted, name = log.column("accepted"), "line search"
    if not accepted:
        return Finding(name, "not measured", "this method has none")
    refused = 1 - fmean(last_quarter(accepted))
    seen = f"{refused:.0%} of the last steps refused"
    if refused <= REFUSED:
        return Finding(name, "ok", seen)
    never = not any(accepted) and len(accepted) >= FEW
    cure = "more backtracks, a smaller delta, more damping, or more iterations of conjugate gradient"
    return Finding(name, "wrong" if never else "look", seen, cure)


def critic(log: Log) -> Finding:
    explained, name = log.column("explained_variance"), "critic"
    if not explained:
        return Finding(name, "not measured", "this method has none" if log.rows else "no iteration in the log")
    if len(explained) < FEW:
        return Finding(name, "not measured", f"{len(explained)} iterations in the log: {FEW} are needed")
    usual = median(last_quarter(explained))
    seen = f"explained variance {usual:.2f} in the last quarter"
    if usual >= 0 or log.height >= NEAR:
        return Finding(name, "ok", seen)
    cure = f"it says less than a constant would: {either(log, CRITIC)}"
    return Finding(name, "look", seen, cure)


def entropy(log: Log) -> Finding:
    column, name = log.column("entropy"), "entropy"
    if not column or log.space is None:
        return Finding(name, "not measured", "no checkpoint that tells the actions" if column else "none in the log")
    first, last, most = column[0], fmean(last_quarter(column)), largest(log.space)
    if most:
        gone, wide = last < COLLAPSED * most, False
        whole = "the largest there is" if log.space.shape else f"log {log.space.n}"
        seen = f"{figure(last)} in the last quarter, {last / most:.0%} of {whole}"
        if last > EVEN * most and log.risen is False:
            weight = f" (it is {log.method['entropy']:.3g})" if number(log.method.get("entropy")) else ""
            cure = either(log, {"entropy": f"{LESS['entropy']}{weight}"} | LARGER)
            return Finding(name, "look", f"all actions are still alike: {seen}", cure)
    else:
        change = (last - first) / math.prod(log.space.shape or [1])
        gone, wide = change < NARROW, change > WIDE
        seen = f"{figure(last)} in the last quarter, {figure(first)} at the start"
    if not (gone or wide) or log.height >= NEAR:
        return Finding(name, "ok", seen)
    if wide:
        cure = either(log, LESS | SMALLER | {"head": "--head beta"})
        return Finding(name, "look", f"it explodes: {seen}", cure)
    cure = f"the policy stopped exploring before it was good: start again with {either(log, SMALLER | MORE)}"
    return Finding(name, "look" if log.height > HALF else "wrong", f"collapsed: {seen}", cure)


def largest(space: Any) -> float | None:
    """The entropy where all actions are alike, of spaces of choices."""
    if hasattr(space, "nvec"):
        return sum(map(math.log, space.nvec.flatten().tolist()))
    if hasattr(space, "n"):
        return math.prod(space.shape) * math.log(2) if space.shape else math.log(space.n)
    return None


def progress(log: Log) -> Finding:
    name, best = "return", max(log.curve, default=0.0)
    if not log.rows:
        return Finding(name, "not measured", "no iteration in the log")
    if not log.curve:
        taken, envs = max(log.column("steps"), default=0), number(log.method.get("envs")) or 1
        seen = f"no episode has ended in {taken:,} steps"
        if taken <= EPISODE * envs:
            return Finding(name, "not measured", seen)
        return Finding(name, "look", seen, "wrap the environment in gymnasium.wrappers.TimeLimit")
    if best == min(log.curve) and (len(log.curve) >= FEW or best == 0):
        cure = "unless that is the best there is: a shaped reward, or starts nearer to the goal"
        return Finding(name, "look", f"{figure(best)} from the beginning to the end", cure)
    seen = f"{figure(log.last)} at the end, best {figure(best)}"
    if log.risen is False:
        cure = f"unless that is the best there is: a shaped reward, {either(log, LARGER | LESS)}"
        seen = f"not above its start by more than its noise: {figure(log.windows[0])} at the start, {seen}"
        return Finding(name, "look", seen, cure)
    if log.moved and log.height < HALF and max(log.column("episodes"), default=0) >= WINDOW:
        cure = f"eval and play take the best checkpoint with --best; a run that keeps it: {either(log, SMALLER)}"
        return Finding(name, "look", f"fell far below its best: {seen}", cure)
    return Finding(name, "ok", seen)


def environments(log: Log) -> Finding:
    name, episodes = "environments", max(log.column("episodes"), default=0.0)
    broken = max(log.column("broken_episodes"), default=0.0)
    if not broken:
        return Finding(name, "ok", f"{episodes:,.0f} episodes, none broken")
    state: State = "look" if broken > BROKEN * (episodes + broken) else "ok"
    seen = f"{broken:,.0f} of {episodes + broken:,.0f} episodes broke"
    return Finding(name, state, seen, "failures/ in the run folder has the environment's own tracebacks")


def memory(log: Log) -> Finding:
    halved = log.column("micro")
    if not halved:
        return Finding("memory", "ok", "it held every batch")
    seen = f"it gave out: down to {min(halved):,.0f} rows at once"
    return Finding("memory", "look", seen, f"start the next run with --micro {min(halved):.0f}: gradients are the same")


CHECKS = (ended, numbers, step_size, movement, line_search, critic, entropy, progress, environments, memory)
