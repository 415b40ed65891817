"""The kernels of `survey`."""

import math
from typing import Any

import numpy as np
from numba import njit

from logpi.fast.heads import BLOCK, ENTROPY, KL_OLD, LOG_PI
from logpi.fast.network import forward, load
from logpi.fast.tile import ENTRY, at, copy, doubles, floats, ints
from logpi.fast.update import (
    ANSWERS, CRITIC, CRITIC_DEPTH, LD_X, N_OBS, THETA, VALUE_H, VALUE_LD, X, bring, fetch, look, refresh,
)  # fmt: skip

f32 = np.float32


@njit(**ENTRY)
def value(
    plan_at: int, x_at: int, tensors_at: int, places_at: int, count: int, obs_at: int, rows: int, value_at: int
) -> None:
    """obs [rows, D] -> V [rows]."""
    plan, x, obs, found = ints(plan_at), floats(x_at), floats(obs_at), floats(value_at)
    fetch(ints(tensors_at), ints(places_at), count, at(x, plan[THETA]))
    critic, size = at(plan, plan[CRITIC]), plan[N_OBS]
    load(critic, plan[CRITIC_DEPTH], x)
    for begin in range(0, rows, BLOCK):
        n = min(BLOCK, rows - begin)
        for r in range(n):
            copy(at(x, plan[X] + r * plan[LD_X]), at(obs, (begin + r) * size), size)
        forward(critic, plan[CRITIC_DEPTH], x, plan[X], n)
        for r in range(n):
            found[begin + r] = x[plan[VALUE_H] + r * plan[VALUE_LD]]


@njit(**ENTRY)
def report(
    plan_at: int, x_at: int, registers_at: int, tensors_at: int, places_at: int, count: int, data_at: int, row_at: int,
    rows: int, fields: int, columns_at: int, low: float, high: float, found_at: int,
) -> None:  # fmt: skip
    """found: sums of the KL, of ratios outside 1 - low ... 1 + high, of the entropy, then of the error V - target, its
    square, the target, its square. columns: where value and target stand among the fields; the first is log pi_old."""
    plan, x, registers, found = ints(plan_at), floats(x_at), floats(registers_at), doubles(found_at)
    data, row, columns = floats(data_at), ints(row_at), ints(columns_at)
    fetch(ints(tensors_at), ints(places_at), count, at(x, plan[THETA]))
    refresh(plan, x)
    width = plan[N_OBS] + plan[N_OBS + 1] + plan[N_OBS + 2] + fields
    first = at(registers, (ANSWERS + 1) * BLOCK)
    for begin in range(0, rows, BLOCK):
        n = min(BLOCK, rows - begin)
        bring(plan, x, registers, fields, at(data, begin * width), row, n)
        look(plan, x, registers, True, n)
        for r in range(n):
            change = math.expm1(registers[LOG_PI + r] - first[r])
            found[0] += registers[KL_OLD + r]
            found[1] += 1.0 if change < -low or change > high else 0.0
            found[2] += registers[ENTROPY + r]
            if columns[1] >= 0 and columns[0] >= 0:
                target = float(first[columns[1] * BLOCK + r])
                error = target - first[columns[0] * BLOCK + r]
                found[3] += error
                found[4] += error * error
                found[5] += target
                found[6] += target * target


@njit(**ENTRY)
def recursion(x_at: int, decay_at: int, y_at: int, rows: int, steps: int) -> None:
    """y_t = x_t + decay_t y_{t+1} of every row."""
    x, decay, y = floats(x_at), floats(decay_at), floats(y_at)
    for r in range(rows):
        last = f32(0)
        for t in range(r * steps + steps - 1, r * steps - 1, -1):
            last = x[t] + decay[t] * last
            y[t] = last


@njit(**ENTRY)
def finite(places_at: int, count: int) -> bool:
    """Are the numbers at places [count, 2], address and number, all finite? inf and NaN times 0 are NaN."""
    places = ints(places_at)
    for i in range(count):
        x, total = floats(places[2 * i]), f32(0)
        for k in range(places[2 * i + 1]):
            total += x[k] * f32(0)
        if total != f32(0):
            return False
    return True
