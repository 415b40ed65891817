"""The guard against a slow path that nobody noticed: fused and plain in turn, in one process, as a ratio."""

import statistics
import time
from itertools import islice

import pytest

import logpi

pytest.importorskip("numba")
ROUNDS, LEAST = 3, 3.0  # about 12 on an idle machine


def seconds(fast: str) -> float:
    """Of the CPU, for ten iterations of 4 x 128 steps after two that compile and look up."""
    records = logpi.learn("ppo", "CartPole-v1", steps=10**6, envs=4, length=128, fast=fast)
    list(islice(records, 2))
    began = time.process_time()
    list(islice(records, 10))
    return time.process_time() - began


def test_the_fused_path_is_several_times_as_fast_as_the_plain_one():
    ratios = [seconds("off") / seconds("auto") for _ in range(ROUNDS)]
    assert statistics.median(ratios) > LEAST, ratios
