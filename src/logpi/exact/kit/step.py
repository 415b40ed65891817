"""Checks of first-order ascent: beside the plain torch loop, on a policy and a batch of every trajectory."""

import copy
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from logpi.batch import Batch, Rows
from logpi.exact import problems
from logpi.exact.estimators import Choice, Estimator
from logpi.exact.kit.holds import agree, apart, check, claim, normal, refused
from logpi.exact.problem import Problem
from logpi.now import Divergence, Surrogate
from logpi.policy import Policy
from logpi.step.gradient import ascend, total
from logpi.step.natural import flat


@cache
def small() -> Problem:
    return problems.changed(problems.find("five-states"), hidden=(4,), seed=1)


class Setting:
    """A small network, a batch of every episode of `five-states` with random credit, and the closures over both."""

    def __init__(self, micro: int | None = None, whole: bool = False, **choice: Any) -> None:
        self.problem = small()
        self.policy: Policy = copy.deepcopy(self.problem.policy)
        self.rows = Rows(batch_of(self.problem), torch.Generator().manual_seed(0), whole, micro)
        page = Estimator(Choice(**{"objective": "ratio", "average": "per_action"} | choice))
        self.surrogate, self.kl = Surrogate(page, self.policy, None, self.rows, {}), Divergence(self.policy, self.rows)
        self.params: list[Tensor] = [*self.policy.parameters()]

    def sgd(self, lr: float = 1.0) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.params, lr=lr)

    def theta(self) -> Tensor:
        return flat(self.params).detach().clone()


def batch_of(problem: Problem) -> Batch:
    """Every trajectory once, padded; what is padding is NaN."""
    padded = problem.batch(problem.every)
    kept = {x.name: getattr(padded, x.name) for x in fields(Batch)}
    mask = padded.mask
    kept |= {"obs": problem.obs[problem.every.state], "psi": normal(*mask.shape)}
    for name in ("obs", "log_pi", "psi"):
        ours = mask.reshape(mask.shape + (1,) * (kept[name].dim() - 2))
        kept[name] = torch.where(ours, kept[name], torch.nan if name == "obs" else 0.0)
    return Batch(**kept)


@check("an ascent is the plain torch loop on minus the surrogate, gradients cleared and clipped")
def _() -> None:
    for limit in (None, 0.01, 100.0):
        ours, plain = Setting(clip=0.1, objective="clip"), Setting(clip=0.1, objective="clip")
        told = ascend(ours.surrogate, ours.rows, torch.optim.Adam(ours.params, lr=0.05), 3, 2, limit)
        optimizer, values, norms = torch.optim.Adam(plain.params, lr=0.05), [], []
        for _ in range(3):
            for mini in plain.rows.shuffled(2):
                loss = -torch.stack([*plain.surrogate(mini)]).sum()
                optimizer.zero_grad()
                loss.backward()
                norms.append(nn.utils.clip_grad_norm_(plain.params, limit or torch.inf))
                optimizer.step()
                values.append(-loss.detach())
        agree(ours.theta(), plain.theta(), f"parameters, limit {limit}")
        agree(told["surrogate"], torch.stack(values).mean(), "the surrogate told")
        agree(told["grad_norm"], torch.stack(norms).mean(), "the raw gradient norm told")


@check("a small ascent raises the surrogate by lr |g|^2")
def _() -> None:
    x = Setting()
    before, old = total(x.surrogate(x.rows.batch)), x.theta()
    told = ascend(x.surrogate, x.rows, x.sgd(1e-6))
    agree((total(x.surrogate(x.rows.batch)) - before) / 1e-6, told["grad_norm"] ** 2, "gain over lr", 1e-4)
    agree((x.theta() - old).norm() / 1e-6, told["grad_norm"], "step over lr", 1e-8)


@check("a step is no longer than max_grad_norm allows, and as long as the gradient below it")
def _() -> None:
    for limit in (1e-3, 1e3):
        x = Setting()
        old = x.theta()
        told = ascend(x.surrogate, x.rows, x.sgd(), max_grad_norm=limit)
        agree((x.theta() - old).norm(), min(limit, float(told["grad_norm"])), f"limit {limit:g}", 1e-5)


@check("nothing of an earlier gradient is left")
def _() -> None:
    clean, stale = Setting(), Setting()
    for p in stale.params:
        p.grad = torch.full_like(p, 100.0)
    for x in (clean, stale):
        ascend(x.surrogate, x.rows, x.sgd(0.1), epochs=2)
    agree(stale.theta(), clean.theta())


@check("the epochs stop as soon as the KL of all rows exceeds target_kl")
def _() -> None:
    for target, epochs in ((0.0, 1), (0.6, 3), (0.5, 3), (9.0, 5), (None, 5)):
        x = Setting()
        seen: list[int] = []
        asked: list[int] = []

        def surrogate(mini: Batch, x: Setting = x, seen: list[int] = seen) -> Iterator[Tensor]:
            seen.append(len(mini))
            yield from x.surrogate(mini)

        def kl(mini: Batch, seen: list[int] = seen, asked: list[int] = asked) -> Iterator[Tensor]:
            asked.append(len(mini))
            yield torch.tensor(0.25 * len(seen) / 2)  # 0.25 an epoch

        ascend(surrogate, x.rows, x.sgd(1e-3), 5, 2, None, kl, target)
        claim(len(seen) == 2 * epochs, f"target_kl {target}: {len(seen) / 2:g} epochs, not {epochs}")
        claim(set(asked) <= {len(x.rows)}, f"KL of {asked} of {len(x.rows)} rows")


@check("a value or a gradient that is not finite stops an ascent before it moves a parameter, and says where")
def _() -> None:
    for sick in ("value", "gradient"):
        x, healthy, calls, said = Setting(), Setting(), iter(range(1, 9)), ""
        zero = (0 * x.params[0]).sum()
        more = zero + torch.nan if sick == "value" else zero.sqrt()  # whose slope at 0 is infinite

        def surrogate(
            mini: Batch, x: Setting = x, calls: Iterator[int] = calls, more: Tensor = more
        ) -> Iterator[Tensor]:
            fourth = next(calls) == 4  # epoch 2, minibatch 1, of three
            yield from (part + more if fourth else part for part in x.surrogate(mini))

        ascend(healthy.surrogate, healthy.rows, healthy.sgd(0.1), 1, 3)
        try:
            ascend(surrogate, x.rows, x.sgd(0.1), 2, 3)
        except ValueError as wrong:
            said = str(wrong)
        claim("gradient, epoch 2, minibatch 1" in said, f"{sick}: it said {said!r}")
        agree(x.theta(), healthy.theta(), f"{sick}: parameters after the last healthy step")


@check("an ascent without a learning rate is refused")
def _() -> None:
    x, optimizer = Setting(), torch.optim.SGD(Setting().params, lr=0.0)
    optimizer.param_groups[0]["initial_lr"] = 0.0
    refused(lambda: ascend(x.surrogate, x.rows, optimizer), "a learning rate of 0")


@check("an epoch takes every row once, in parts of equal size, in an order of its own")
def _() -> None:
    rows = Setting().rows
    first, second = ([mini.psi for mini in rows.shuffled(4)] for _ in range(2))
    for epoch in (first, second):
        agree(torch.cat(epoch).sort().values, rows.batch.psi.sort().values)  # type: ignore[arg-type, union-attr]
        claim(max(map(len, epoch)) - min(map(len, epoch)) <= 1, "parts of unequal size")  # type: ignore[arg-type]
    apart(torch.cat(first), torch.cat(second), "two epochs' orders")  # type: ignore[arg-type]


@check("an update is the same however its rows are split into micro-batches")
def _() -> None:
    for kind in ("per_episode", "per_action", "per_sequence"):
        found = []
        for micro in (None, 4):
            x = Setting(micro, whole=True, average=kind)
            told = ascend(x.surrogate, x.rows, x.sgd(0.1), 1, 2)
            values = torch.stack([told["surrogate"], total(x.surrogate(x.rows.batch)), total(x.kl(x.rows.batch))])
            claim(not told["surrogate"].requires_grad, "what is told holds its graph")
            found.append((x.theta(), values))
        agree(found[1][0], found[0][0], f"{kind}, parameters")
        agree(found[1][1], found[0][1], f"{kind}, surrogates and KL")
