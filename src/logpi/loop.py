"""rollout -> psi -> objective -> step, over and over: the only loop in the library."""

import copy
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from logpi import average, kl, noise
from logpi import critic as critics
from logpi.batch import Batch, Rows, credited
from logpi.device import widest
from logpi.errors import LogpiError
from logpi.fast.switch import using
from logpi.now import Divergence, Now, Surrogate, reference_log_prob, row_scores
from logpi.page import option
from logpi.policy import Policy
from logpi.trace import watched

ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-12}  # of the first ratio, which is 1
SHARP = 10  # times that of a language model: sure of itself it has logits of 50, and float32 rounds those by more
LOOKED = (256, 8)  # tokens and rows of a language model, at least, on which an update is measured
COARSE = 0.05  # the same in bfloat16, from which on it is told


@dataclass
class Parts:
    """All that a run is made of; what is not a setting is in a checkpoint.

    `state` is the adaptive state: iteration, steps, horizon (steps of the whole run), progress (0 to 1), what
    pages keep there, and `micro` once memory gave out. `collect` has the environments, their normalisers and
    statistics, and its own generator.
    """

    method: Any
    policy: Policy
    critic: nn.Module | None
    reference: Policy | None
    collect: Any
    optimizer: torch.optim.Optimizer
    critic_optimizer: torch.optim.Optimizer | None
    generator: torch.Generator  # shuffles minibatches
    state: dict[str, Any]
    micro: int | None = None  # rows through the networks at once; None: all
    fused: Any = None  # the fast twins (fast/), None: none
    measure_gradient: int = 0  # iterations between measurements of the gradient's noise; 0: none
    config: dict[str, dict[str, Any]] = field(default_factory=dict)  # the page's fields and the settings, by section


@dataclass(frozen=True)
class Record:
    """What happened in one iteration: record["return"], record["kl"], ..."""

    iteration: int
    steps: int  # actions taken since the start of the run
    seconds: float  # that this iteration took
    metrics: dict[str, float] = field(repr=False)
    batch: Batch = field(repr=False)
    parts: Parts = field(repr=False)

    @property
    def policy(self) -> Policy:
        return self.parts.policy

    def save(self, folder: str | Path) -> Path:
        """Write a checkpoint folder/step-N that `logpi.load` reads; call it before the next record is asked for."""
        from logpi.run.checkpoint import save  # run/ is above the loop

        return save(self.parts, Path(folder))

    def __getitem__(self, name: str) -> float:
        return self.metrics[name]


def loop(parts: Parts) -> Iterator[Record]:
    """One record per iteration until the horizon; the caller prints, saves, plots or stops."""
    state = parts.state
    while state["steps"] < state["horizon"]:
        began = perf_counter()
        with using(parts.fused.twins if parts.fused else None):
            batch = parts.collect(parts.policy, parts.critic)
            state["steps"] += int(batch.mask.sum())
            batch, info = update(parts, batch)
        parts.collect.settle(parts.policy)
        state["iteration"] += 1
        state["progress"] = min(1.0, state["steps"] / state["horizon"])
        metrics = {k: v for k, v in info.items() if isinstance(v, float)} | parts.collect.metrics()
        yield Record(state["iteration"], state["steps"], perf_counter() - began, metrics, batch, parts)


def update(parts: Parts, batch: Batch) -> tuple[Batch, dict[str, Any]]:
    """One improvement of the policy, and of its critic if it has one, from one batch."""
    method, policy, state, micro = parts.method, parts.policy, parts.state, parts.state.get("micro", parts.micro)
    if method.rows == "episodes":  # of the policy that drew the actions, whenever the page asks
        batch = batch.with_(scores=partial(row_scores, copy.deepcopy(policy), batch))
    if parts.reference is not None:
        batch = batch.with_(log_ref=reference_log_prob(parts.reference, policy, batch, micro))
    batch = credited(method, batch, state)
    rows = Rows(batch, parts.generator, method.rows != "segments", micro, policy.pack(batch.obs))
    surrogate, kl = Surrogate(method, policy, parts.critic, rows, state, parts.fused), Divergence(policy, rows)
    with watched(parts, batch, rows):
        anneal(parts)
        noisy = gradient_noise(parts, batch, rows)
        info = dict(method.step(surrogate, kl, rows, parts.optimizer) or {})
        if parts.critic is not None and parts.critic_optimizer is not None:
            info |= critics.fit(parts.critic, policy, rows, parts.critic_optimizer, critics.plan(method), parts.fused)
    info = read_once(info | noisy | rows.in_memory(rows.batch, lambda b: measure(parts, rows, surrogate, bool(noisy))))
    check_firsts(parts, info.get("first_ratio_error", 0.0), batch)
    if rows.room.halved:
        state["micro"], info["micro"] = rows.room.size, float(rows.room.size or 0)
    if hasattr(method, "adapt"):
        state.update(method.adapt(state, info | {"batch": batch}))
    return batch, info


def gradient_noise(parts: Parts, batch: Batch, rows: Rows) -> dict[str, Tensor]:
    """How noisy the gradient is, in the iterations in which that was asked for; {} in the others."""
    if not parts.measure_gradient or parts.state["iteration"] % parts.measure_gradient:
        return {}
    return noise.measure(parts.method, parts.policy, batch, rows, parts.state)


def anneal(parts: Parts) -> None:
    """Learning rates fall linearly over the run where the page says so."""
    left = 1.0 - parts.state["progress"] if option(parts.method, "anneal") else 1.0
    for optimizer in (parts.optimizer, parts.critic_optimizer):
        for group in optimizer.param_groups if optimizer is not None else ():
            group["lr"] = group["initial_lr"] * left


@torch.no_grad()
def measure(parts: Parts, rows: Rows, surrogate: Surrogate, ess: bool = False) -> dict[str, Tensor]:
    """What the update did, over all rows: the KL, the clip fraction, the entropy, the critic's explained variance.

    And how far the policy that drew the actions is from the reference, where there is one. ess: the effective share of
    its actions, too.
    """
    both = option(parts.method, "clip") or 0.2
    low, high = (option(parts.method, f"clip_{side}") or both for side in ("low", "high"))
    info = parts.fused.measure(rows, low, high) if parts.fused else None
    if info is None:
        info = compared(parts, rows, low, high)
    if ess:
        own = (
            part.ours(Now(parts.policy, None, part).log_pi - part.log_pi)
            for part, _ in rows.parts(rows.batch, rows.batch.mask)
        )
        info["ess"] = noise.ess(torch.cat([*own]))
    if rows.batch.log_ref is not None:  # unbiased, whatever estimate the page has
        info["kl_ref"] = average.per_action(kl.k3(rows.batch.log_pi, rows.batch.log_ref), rows.batch.mask)
        weight = parts.state.get("kl", getattr(parts.method, "kl", None))
        info |= {"kl_weight": float(weight)} if isinstance(weight, float | int) else {}
    if surrogate.first_ratio is not None:
        info["first_ratio_error"] = surrogate.first_ratio
    return info


def compared(parts: Parts, rows: Rows, low: float, high: float) -> dict[str, Any]:
    """The policy as it is now with the one that drew the actions, and what the critic had said with its targets.

    The KL is exact: no estimate from the actions is unbiased once a policy was fitted to them. Of a language model all of it is
    measured on a sample of the rows, evenly spaced.
    """
    found = defaultdict[str, list[Tensor]](list)
    looked = rows.batch[:: apart(rows)] if rows.pack else rows.batch
    for part, weight in rows.parts(looked, average.weights("per_action", looked.mask)):
        now = Now(parts.policy, None, part)
        change = (now.log_pi - part.log_pi).expm1()
        told = {"kl": now.kl_old, "clip_fraction": (change < -low) | (change > high), "entropy": now.entropy}
        if (
            rows.pack and part.psi is not None
        ):  # those whose gradient the clip switches off, by the sign of their credit
            told |= {"clipped_up": (change > high) & (part.psi > 0), "clipped_down": (change < -low) & (part.psi < 0)}
        for name, x in told.items():
            found[name].append(average.total(x.to(part.log_pi), weight, part.mask))
    info: dict[str, Any] = {name: torch.stack(x).sum() for name, x in found.items()}
    if rows.batch.value is not None and rows.batch.target is not None:
        said = rows.batch.value if rows.batch.q is None else rows.batch.q
        target, error = rows.batch.target[rows.batch.mask], (rows.batch.target - said)[rows.batch.mask]
        info["explained_variance"] = 1 - error.var(correction=0) / target.var(correction=0).clamp(min=1e-12)
    return info


def apart(rows: Rows) -> int:
    """How far the rows lie apart that are looked at."""
    sizes = int(rows.batch.mask.sum()), len(rows)
    return max(1, min(n // least for n, least in zip(sizes, LOOKED, strict=True)))


def check_firsts(parts: Parts, ratio_error: float, batch: Batch) -> None:
    """What is known before the first step: the ratio to the policy that drew is 1, and so is that to a reference which is the first
    policy, in the first iteration."""
    check_first_ratio(ratio_error, batch, parts.policy.bf16)
    named = parts.config.get("run", {}).get("reference", "")  # none named: it is the first policy
    if named is None and batch.log_ref is not None and not parts.state["iteration"]:
        check_first_kl(float((batch.log_pi - batch.log_ref)[batch.mask].expm1().abs().amax()), batch, parts.policy.bf16)


def check_first_ratio(error: float, batch: Batch, bf16: bool = False) -> None:
    """pi / pi_old is 1 before the first step, to rounding, or sampler and trainer mean different policies."""
    reason = "sampler and trainer disagree about log pi; has the network a random or a batch-dependent layer?"
    must_be_one(error, batch, bf16, "The first ratio pi / pi_old", reason)


def check_first_kl(error: float, batch: Batch, bf16: bool = False) -> None:
    """pi / pi_ref is 1, to rounding: the KL of a policy to itself is 0."""
    reason = "the reference is the first policy, so their KL is 0; do both compute in one mode and one type?"
    must_be_one(error, batch, bf16, "Before the first step pi / pi_ref", reason)


def must_be_one(error: float, batch: Batch, bf16: bool, name: str, reason: str) -> None:
    """A ratio that is off 1 by `error`, at most, is 1 to rounding; the error says what else it means.

    In bfloat16 that rounding depends on how many rows go through a network at once: far from 1 it is a warning.
    """
    if bf16:
        if not error <= COARSE:
            warnings.warn(f"{name} is off 1 by {error:.2f}, in bfloat16: use --no-bf16.", stacklevel=3)
        return
    if not error <= rounding_of(batch):
        raise LogpiError(f"{name} is off 1 by {error:.1e}: {reason}")


def rounding_of(batch: Batch) -> float:
    """How far a ratio that is 1 may lie from it."""
    sharp = SHARP if batch.params is None and batch.log_pi.dtype == torch.float32 else 1
    return sharp * ROUNDING[batch.log_pi.dtype] * max(1.0, float(batch.log_pi[batch.mask].abs().amax()))


def read_once(info: dict[str, Any]) -> dict[str, Any]:
    """Scalar tensors as floats, fetched from the device in one go."""
    scalars = {k: v for k, v in info.items() if isinstance(v, Tensor) and v.numel() == 1}
    if not scalars:
        return info
    values = torch.stack([v.detach().to(widest(v.device)).reshape(()) for v in scalars.values()]).tolist()
    return info | dict(zip(scalars, values, strict=True))
