"""pass@k: how often one of k sampled answers is right."""

from collections.abc import Sequence
from math import comb
from statistics import fmean

import numpy as np

from logpi.run.bootstrap import bootstrap

LEVEL = 0.95


def pass_at(k: int, n: int, right: int) -> float:
    """1 - C(n - c, k) / C(n, k), from n answers of which c are right: the share of all k-subsets with a right one.

    Its expectation is 1 - (1 - p)^k for answers that are right with probability p (Chen et al. 2021, equation 1).
    """
    return 1 - comb(n - right, k) / comb(n, k)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of values in [0, 1], one for each prompt: bootstrap over prompts.

    Where all are 0, or all 1, it would have no width: a mean m gives that with probability (1 - m)^n, or m^n, at most,
    which bounds it exactly (Clopper and Pearson 1934).
    """
    n = len(values)
    unseen = ((1 - LEVEL) / 2) ** (1 / n)
    if max(values) == 0:
        return 0.0, 1 - unseen
    if min(values) == 1:
        return unseen, 1.0
    low, high = bootstrap(np.array(values, float), LEVEL)
    return float(low), float(high)


def table(right: Sequence[Sequence[bool]]) -> dict[str, dict[str, float]]:
    """k -> pass@k, low and high, for k = 1, 2, 4, ... and n; right [P, n]: of each prompt, of each answer."""
    n = len(right[0])
    found = {}
    for k in sorted({*(2**x for x in range(n.bit_length())), n}):
        each = [pass_at(k, n, sum(row)) for row in right]
        low, high = interval(each)
        found[str(k)] = {"mean": fmean(each), "low": low, "high": high}
    return found


def lines(found: dict[str, dict[str, float]], prompts: int) -> list[str]:
    """To be read: 'pass@4 0.750 [0.660, 0.830] over 100 prompts'."""
    return [
        f"pass@{k} {x['mean']:.3f} [{x['low']:.3f}, {x['high']:.3f}] over {prompts} prompts" for k, x in found.items()
    ]
