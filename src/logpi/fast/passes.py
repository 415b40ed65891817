"""The kernels of `survey`."""

import math
from typing import Any

import numpy as np

from logpi.fast.compiled import brief, entry, inlined, inner
from logpi.fast.heads import BLOCK, ENTROPY, KL_OLD, LOG_PI
from logpi.fast.tile import at, copy, doubles, floats, ints, octets
from logpi.fast.update import (
    ANSWERS,
    CRITIC,
    CRITIC_DEPTH,
    LD_X,
    N_OBS,
    POLICY,
    POLICY_DEPTH,
    THETA,
    VALUE_H,
    VALUE_LD,
    X,
    bring,
    fetch,
    forward,
    look,
    refresh,
    width_of,
)

f32 = np.float32


@inner()
def judge(plan: Any, x: Any, n: int) -> None:
    """The critic's pass over n observations brought; it may stand on the policy's own network."""
    if plan[CRITIC_DEPTH]:
        forward(plan, at(plan, plan[CRITIC]), plan[CRITIC_DEPTH], x, n)
    else:
        forward(plan, at(plan, plan[POLICY]), plan[POLICY_DEPTH], x, n)


@entry
def value(
    plan_at: int, x_at: int, tensors_at: int, places_at: int, count: int, obs_at: int, rows: int, value_at: int,
    final_at: int, ended_at: int, next_at: int, steps: int, waiting_at: int,
) -> None:  # fmt: skip
    """obs [rows, D] -> V [rows]; and V(s_{t+1}) at `next` of a rollout of `steps` steps, where that is not null.

    waiting: room for BLOCK whole numbers.
    """
    plan, x, obs, found = ints(plan_at), floats(x_at), floats(obs_at), floats(value_at)
    fetch(ints(tensors_at), ints(places_at), count, at(x, plan[THETA]))
    refresh(plan, x)
    size = plan[N_OBS]
    for begin in range(0, rows, BLOCK):
        n = min(BLOCK, rows - begin)
        for r in range(n):
            copy(at(x, plan[X] + r * plan[LD_X]), at(obs, (begin + r) * size), size)
        judge(plan, x, n)
        for r in range(n):
            found[begin + r] = x[plan[VALUE_H] + r * plan[VALUE_LD]]
    if next_at:
        room = ints(waiting_at)
        following(plan, x, floats(final_at), octets(ended_at), found, floats(next_at), rows, steps, room)


@inlined
def following(
    plan: Any, x: Any, final: Any, ended: Any, known: Any, found: Any, rows: int, steps: int, waiting: Any
) -> None:
    """The next step's value, or that of the observation before a reset."""
    n, size = 0, plan[N_OBS]
    for i in range(rows):
        if ended[i] or (i + 1) % steps == 0:
            copy(at(x, plan[X] + n * plan[LD_X]), at(final, i * size), size)
            waiting[n] = i
            n += 1
        else:
            found[i] = known[i + 1]
        if n == BLOCK or (n and i == rows - 1):
            judge(plan, x, n)
            for r in range(n):
                found[waiting[r]] = x[plan[VALUE_H] + r * plan[VALUE_LD]]
            n = 0


@brief
def episodes(ended_at: int, taken_at: int, rows: int, steps: int, length_at: int) -> int:
    """Lengths of the episodes that ended, in the order in which they did; taken [rows]: steps of the current ones, kept up."""
    ended, taken, length = octets(ended_at), ints(taken_at), ints(length_at)
    count = 0
    for t in range(steps):
        for r in range(rows):
            taken[r] += 1
            if ended[r * steps + t]:
                length[count] = taken[r]
                count += 1
                taken[r] = 0
    return count


@entry
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
    width = width_of(plan, fields)
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


@entry
def pack(places_at: int, count: int, data_at: int, rows: int, width: int) -> None:
    """data [rows, width] from `count` arrays; places of each: address, whether of int64, width, first column."""
    places, data = ints(places_at), floats(data_at)
    for i in range(count):
        p = at(places, 4 * i)
        whole, here, size, column = ints(p[0]), floats(p[0]), p[2], p[3]
        for r in range(rows):
            for j in range(size):
                data[r * width + column + j] = f32(whole[r * size + j]) if p[1] else here[r * size + j]


@inner()
def recur(x: Any, decay: Any, y: Any, rows: int, steps: int, zero: Any) -> None:
    for r in range(rows):
        last = zero
        for t in range(r * steps + steps - 1, r * steps - 1, -1):
            last = x[t] + decay[t] * last
            y[t] = last


@brief
def backward(x_at: int, decay_at: int, y_at: int, rows: int, steps: int, wide: bool) -> None:
    """y_t = x_t + decay_t y_{t+1} of every row; `wide` numbers are float64."""
    if wide:
        recur(doubles(x_at), doubles(decay_at), doubles(y_at), rows, steps, 0.0)
    else:
        recur(floats(x_at), floats(decay_at), floats(y_at), rows, steps, f32(0))


@brief
def gae(
    reward_at: int, value_at: int, next_at: int, terminated_at: int, truncated_at: int, found_at: int,
    rows: int, steps: int, gamma: float, lam: float,
) -> None:  # fmt: skip
    reward, value, following, found = floats(reward_at), floats(value_at), floats(next_at), floats(found_at)
    terminated, truncated = octets(terminated_at), octets(truncated_at)
    g, decay = f32(gamma), f32(gamma * lam)
    for r in range(rows):
        last = f32(0)
        for t in range(r * steps + steps - 1, r * steps - 1, -1):
            delta = reward[t] + (f32(0) if terminated[t] else g * following[t]) - value[t]
            last = delta + (f32(0) if terminated[t] or truncated[t] else decay * last)
            found[t] = last


@brief
def standardise(psi_at: int, mask_at: int, found_at: int, count: int, eps: float) -> None:
    """Sums in float64."""
    psi, mask, found = floats(psi_at), octets(mask_at), floats(found_at)
    n, total, square = 0, 0.0, 0.0
    for i in range(count):
        n += mask[i] != 0
        total += psi[i] if mask[i] else 0.0
    mean = total / max(n, 1)
    for i in range(count):
        away = psi[i] - mean if mask[i] else 0.0
        square += away * away
    scale = math.sqrt(square / max(n, 1)) + eps
    for i in range(count):
        found[i] = (psi[i] - mean) / scale if mask[i] else f32(0)


@inner("reassoc")
def vanishing(x: Any, count: int) -> Any:
    """0; NaN, where one of the numbers is not finite."""
    total = f32(0)
    for k in range(count):
        total += x[k] * f32(0)
    return total


@brief
def finite(places_at: int, count: int) -> bool:
    """Are the numbers at places [count, 2], address and number, all finite?"""
    places, total = ints(places_at), f32(0)
    for i in range(count):
        total += vanishing(floats(places[2 * i]), places[2 * i + 1])
    return total == f32(0)
