"""The kernels of a natural step: Fisher products, and the surrogate with the KL at a trial point."""

from typing import Any

import numpy as np

from logpi.fast.compiled import entry, inner
from logpi.fast.heads import BETA, BLOCK, CATEGORICAL, KL_NEW, KL_OLD, softplus
from logpi.fast.network import COLUMNS, LD_OUT, D, H, T, gather, tangent, turn
from logpi.fast.special import exp, trigamma
from logpi.fast.tile import at, doubles, floats, ints
from logpi.fast.update import (
    COUNT,
    FIELDS,
    FIRST,
    GRAD,
    HEAD,
    KNOW,
    LOG_STD,
    N_LOG_STD,
    N_OLD,
    POLICY,
    POLICY_DEPTH,
    SIZE,
    THETA,
    X,
    backward,
    bring,
    evaluate,
    fetch,
    forward,
    look,
    refresh,
    width_of,
)

f32 = np.float32
ONE, TWO, ZERO = f32(1), f32(2), f32(0)


@inner()
def categorical(out: Any, along: Any, d: Any, size: int) -> None:
    """(diag p - p p') t."""
    top, total, mean = out[0], ZERO, ZERO
    for j in range(1, size):
        top = out[j] if out[j] > top else top
    for j in range(size):
        d[j] = exp(out[j] - top)
        total += d[j]
    for j in range(size):
        d[j] /= total
        mean += d[j] * along[j]
    for j in range(size):
        d[j] *= along[j] - mean


@inner()
def beta(out: Any, along: Any, d: Any, size: int) -> None:
    """diag(trigamma a, trigamma b) - trigamma(a + b) on both, between two slopes of softplus."""
    for j in range(size):
        a, b = 1.0 + softplus(out[j]), 1.0 + softplus(out[size + j])
        s, t = ONE / (ONE + exp(-out[j])), ONE / (ONE + exp(-out[size + j]))
        both = trigamma(a + b) * (s * along[j] + t * along[size + j])
        d[j] = s * (trigamma(a) * (s * along[j]) - both)
        d[size + j] = t * (trigamma(b) * (t * along[size + j]) - both)


@entry
def fisher(
    plan_at: int, x_at: int, registers_at: int, tensors_at: int, places_at: int, count: int, data_at: int, row_at: int,
    rows: int, fields: int, v_at: int,
) -> None:  # fmt: skip
    """The mean over all rows of J' F J v, at GRAD; F is the head's own Fisher matrix. v lies as the parameters do."""
    plan, x, registers = ints(plan_at), floats(x_at), floats(registers_at)
    data, row, v, grad = floats(data_at), ints(row_at), floats(v_at), at(x, plan[GRAD])
    fetch(ints(tensors_at), ints(places_at), count, at(x, plan[THETA]))
    refresh(plan, x)
    policy, depth, size, theta = at(plan, plan[POLICY]), plan[POLICY_DEPTH], plan[N_OLD], plan[THETA]
    turn(policy, depth, x, v, theta)
    t = at(policy, (depth - 1) * COLUMNS)
    ld, share, width = t[LD_OUT], f32(1.0 / rows), width_of(plan, fields)
    for i in range(plan[SIZE]):
        grad[i] = ZERO
    for begin in range(0, rows, BLOCK):
        n = min(BLOCK, rows - begin)
        bring(plan, x, registers, fields, at(data, begin * width), row, n)
        forward(plan, policy, depth, x, n)
        tangent(policy, depth, x, plan[X], n, v, theta)
        for r in range(n):
            out, along, d = at(x, t[H] + r * ld), at(x, t[T] + r * ld), at(x, t[D] + r * ld)
            if plan[HEAD] == CATEGORICAL:
                categorical(out, along, d, size)
            elif plan[HEAD] == BETA:
                beta(out, along, d, size // 2)
            else:
                for j in range(size // 2):
                    d[j] = along[j] * exp(-TWO * x[plan[KNOW] + j])
            for j in range(size):
                d[j] *= share
        backward(plan, policy, depth, x, n, begin > 0)
    gather(policy, depth, x)
    for j in range(plan[N_LOG_STD]):
        grad[plan[LOG_STD] - theta + j] = TWO * v[plan[LOG_STD] - theta + j]


@entry
def gauge(
    plan_at: int, x_at: int, program_at: int, registers_at: int, tensors_at: int, places_at: int, count: int,
    data_at: int, row_at: int, weight_at: int, rows: int, found_at: int,
) -> None:  # fmt: skip
    """found: the surrogate, the sums of KL(old || pi) and of KL(pi || old)."""
    plan, x, program, registers = ints(plan_at), floats(x_at), ints(program_at), floats(registers_at)
    data, row, weight, found = floats(data_at), ints(row_at), floats(weight_at), doubles(found_at)
    fetch(ints(tensors_at), ints(places_at), count, at(x, plan[THETA]))
    refresh(plan, x)
    operations, first, width = program[COUNT], program[FIRST], width_of(plan, program[FIELDS])
    result = at(registers, (first + operations - 1) * BLOCK)
    for begin in range(0, rows, BLOCK):
        n = min(BLOCK, rows - begin)
        bring(plan, x, registers, program[FIELDS], at(data, begin * width), row, n)
        look(plan, x, registers, True, n)
        evaluate(plan, program, registers, n)
        for r in range(n):
            found[0] += weight[begin + r] * result[r]
            found[1] += registers[KL_OLD + r]
            found[2] += registers[KL_NEW + r]
