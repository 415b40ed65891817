"""Which estimator of the library has the same expected gradient as one that is not what it should be?"""

from collections.abc import Iterator
from typing import get_args

from logpi.exact.batches import MOST, Shape, size
from logpi.exact.estimators import Alone, Average, Choice, Estimator, Grouped
from logpi.exact.expectation import Moments, moments, surrogate_of
from logpi.exact.problem import Problem

SAME = 1e-8  # relative difference of two expected gradients that are one


def candidates(gamma: float) -> Iterator[Choice]:
    for average in get_args(Average):
        for from_start in (True, False) if gamma < 1 else (True,):
            for baseline in get_args(Alone):
                yield Choice(psi="to_go", baseline=baseline, average=average, gamma=gamma, from_start=from_start)
        yield Choice(psi="total", average=average, gamma=gamma)
        for baseline in get_args(Grouped):
            yield Choice(psi="total", baseline=baseline, average=average, gamma=gamma)
        for eps in (1e-4, 1e-6, 1e-8):  # as it is mostly written
            yield Choice(
                psi="total", baseline="group_standardised", average=average, gamma=gamma, correction=1, eps=eps
            )


def lookalike(problem: Problem, found: Moments, rows: int) -> str:
    """A sentence that names it, or nothing."""
    for choice in candidates(problem.gamma):
        page = Estimator(choice)
        if found.measured or size(problem, Shape.of(page.rows, rows), symmetric=True) > MOST / 10:
            return ""
        mean = moments(problem, surrogate_of(page), page.rows, rows, symmetric=True).mean
        if float((mean - found.mean).norm()) <= SAME * float(found.mean.norm()):
            start = "" if choice.from_start or choice.gamma == 1 else ", no gamma^t"
            return f"It is what psi {choice.psi}, baseline {choice.baseline}, average {choice.average}{start} expects."
    return ""
