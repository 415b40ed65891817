"""Is this the gradient of what you say? Truth by linear solves, and every estimator's bias and variance by enumeration."""

from logpi.exact.estimators import Choice, Estimator
from logpi.exact.expectation import Moments, figures, intervals, moments, surrogate_of
from logpi.exact.problem import Direction, Problem
from logpi.exact.problems import PROBLEMS, find, from_table, sequences
from logpi.exact.verdict import check

__all__ = [
    "PROBLEMS",
    "Choice",
    "Direction",
    "Estimator",
    "Moments",
    "Problem",
    "check",
    "figures",
    "find",
    "from_table",
    "intervals",
    "moments",
    "sequences",
    "surrogate_of",
]
