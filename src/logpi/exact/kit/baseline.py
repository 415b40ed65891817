"""Checks of psi's baselines and scales: groups, means over a batch, standardising."""

import torch

from logpi import psi
from logpi.exact.kit.holds import agree, apart, check, claim, normal, refused

MASK = torch.arange(6) < torch.tensor([[6], [3], [5], [0]])  # four rows, the last without an action
GROUPED = (psi.group_mean, psi.leave_one_out, psi.group_standardise)


@check("a group is compared with itself alone")
def _() -> None:
    ret = normal(3, 4)
    for f in GROUPED:
        agree(f(ret), torch.stack([f(x) for x in ret]), f.__name__)
        agree(f(ret + torch.tensor([[0.0], [5.0], [-9.0]])), f(ret), f"{f.__name__}, groups moved")


@check("leave-one-out subtracts the mean of the others, the group mean that of all")
def _() -> None:
    ret = normal(3, 4)
    others = torch.stack([torch.cat([ret[:, :i], ret[:, i + 1 :]], 1).mean(1) for i in range(4)], 1)
    agree(psi.leave_one_out(ret), ret - others)
    agree(psi.group_mean(ret), 3 / 4 * (ret - others))
    agree(psi.leave_one_out(ret[:, :2]), ret[:, :2] - ret[:, :2].flip(-1), "groups of 2")
    refused(lambda: psi.leave_one_out(ret[:, :1]), "leave-one-out in a group of one")


@check("a standardised group has mean 0 and the std that was asked for is 1")
def _() -> None:
    ret = 3 * normal(3, 4) + 1
    for correction in (0, 1):
        x = psi.group_standardise(ret, eps=1e-300, correction=correction)
        agree(x.mean(-1), 0.0, "mean")
        agree(x.square().sum(-1) / (4 - correction), 1.0, f"variance, correction {correction}")
    agree(psi.group_standardise(ret), psi.group_standardise(ret, correction=0), "correction 0 by default")
    agree(psi.group_standardise(ret, eps=0.5) * (ret.std(-1, correction=0, keepdim=True) + 0.5), psi.group_mean(ret))


@check("a group of equal rewards gets exactly 0")
def _() -> None:
    for value in (0.1, 1.0, -1e6):
        same = torch.full((2, 3), value, dtype=torch.float64)
        for correction in (0, 1):
            x = psi.group_standardise(same, correction=correction)
            claim((x == 0).all(), f"{value}: {x.abs().max():.2g}, not 0")
        agree(psi.group_mean(same) / max(1.0, abs(value)), 0.0, "group_mean")
    alone = psi.group_standardise(torch.ones(2, 1, dtype=torch.float64), correction=1)
    claim((alone == 0).all(), "a group of one is not 0")


@check("the batch's mean, and its mean at each step, are over our actions alone")
def _() -> None:
    x = normal(4, 6)
    junk = torch.where(MASK, x, torch.nan)
    agree(psi.mean(junk, MASK), x[MASK].mean())
    agree(psi.time_mean(junk, MASK), torch.stack([x[MASK[:, t], t].mean() for t in range(6)]))
    agree(psi.mean(junk, MASK & False), 0.0, "no action")
    agree(psi.time_mean(junk, MASK & (torch.arange(6) < 5))[5], 0.0, "a step that nobody took")
    agree(psi.mean(junk[1, :1], MASK[1, :1]), x[1, 0], "one action")


@check("the others' mean at each step holds no row's own, and is 0 where there is no other")
def _() -> None:
    x = normal(4, 6)
    found = psi.others_time_mean(torch.where(MASK, x, torch.nan), MASK)
    for i in range(4):
        other = torch.arange(4) != i
        for t in range(6):
            left = x[other & MASK[:, t], t]
            agree(found[i, t], left.mean() if len(left) else 0.0, f"row {i}, step {t}")


@check("rows [P, G, T] have the baselines and scales of the same rows [P G, T]")
def _() -> None:
    x, split = normal(4, 6), (2, 2)
    agree(psi.time_mean(x.unflatten(0, split), MASK.unflatten(0, split)), psi.time_mean(x, MASK), "time_mean")
    for f in (psi.others_time_mean, psi.centre, psi.scale, psi.standardise):
        agree(f(x.unflatten(0, split), MASK.unflatten(0, split)).flatten(0, 1), f(x, MASK), f.__name__)


@check("the optimal constant leaves the least variance")
def _() -> None:
    score, weighted = normal(20, 5), normal(20, 5, seed=1) + 2 * normal(20, 5)
    best = psi.optimal_constant(score, weighted)
    spread = [(weighted - b * score).square().sum() for b in (best, best + 1e-3, best - 1e-3)]
    claim(spread[0] < min(spread[1:]), f"b {best:.4g}: {spread[0]:.6g}, beside it {min(spread[1:]):.6g}")
    agree((score * (weighted - best * score)).sum(), 0.0, "slope of the variance", 1e-9)


@check("standardised credit has mean 0 and std 1 over our actions, masked slots 0")
def _() -> None:
    x = 3 * normal(4, 6) + 5
    junk = torch.where(MASK, x, torch.nan)
    centred, scaled, both = psi.centre(junk, MASK), psi.scale(junk, MASK, 1e-300), psi.standardise(junk, MASK, 1e-300)
    std = x[MASK].std(correction=0)
    agree(centred, torch.where(MASK, x - x[MASK].mean(), 0.0), "centre")
    agree(scaled, torch.where(MASK, x / std, 0.0), "scale")
    agree(both, torch.where(MASK, (x - x[MASK].mean()) / std, 0.0), "standardise")
    agree(psi.scale(junk, MASK, 0.5), torch.where(MASK, x / (std + 0.5), 0.0), "eps")
    apart(scaled, both, "scale leaves the mean")


@check("credit that is the same everywhere stays finite when standardised")
def _() -> None:
    for value in (0.0, 1.0):
        same = torch.full((4, 6), value, dtype=torch.float64)
        agree(psi.standardise(same, MASK), 0.0, "standardise")
        claim(psi.scale(same, MASK).isfinite().all(), "scale is not finite")
    claim(psi.standardise(same, torch.zeros_like(MASK)).isfinite().all(), "no action at all: not finite")
