"""Evaluates and differentiates a `program` for a block of rows; ties and bounds pass gradients as torch does.

Registers are rows of BLOCK floats, slopes the same behind them. What is common runs in loops of its own; the rest in one
that looks at the operation again for each element.
"""

import math
from typing import Any

import numpy as np

from logpi.fast.compiled import Part, inner
from logpi.fast.heads import BLOCK
from logpi.fast.ops import OPS
from logpi.fast.special import exp
from logpi.fast.tile import at, floats, ints

f32 = np.float32
ZERO, HALF, ONE, TWO = f32(0), f32(0.5), f32(1), f32(2)
NEG, EXP, LOG, EXPM1, LOG1P, SQRT, SQUARE, ABS, TANH, SIGMOID, SIGN, DETACH, SAME = (
    OPS[x]
    for x in (
        "neg",
        "exp",
        "log",
        "expm1",
        "log1p",
        "sqrt",
        "square",
        "abs",
        "tanh",
        "sigmoid",
        "sign",
        "detach",
        "same",
    )
)
ADD, SUB, MUL, DIV, MINIMUM, MAXIMUM, GT, GE, LT, LE, EQ, WHERE = (
    OPS[x] for x in ("add", "sub", "mul", "div", "minimum", "maximum", "gt", "ge", "lt", "le", "eq", "where")
)
LINE = 5  # integers of an operation: op, a, b, c, live


@inner()
def rare(op: int, a: Any, b: Any) -> Any:
    """One element of an operation."""
    if op == LOG:
        return f32(math.log(a))
    if op == EXPM1:
        return f32(math.expm1(a))
    if op == LOG1P:
        return f32(math.log1p(a))
    if op == SQRT:
        return f32(math.sqrt(a))
    if op == ABS:
        return abs(a)
    if op == TANH:
        return f32(math.tanh(a))
    if op == SIGMOID:
        return ONE / (ONE + exp(-a))
    if op == SIGN:
        return ONE if a > ZERO else -ONE if a < ZERO else a
    if op == DIV:
        return a / b
    if op == GE:
        return ONE if a >= b else ZERO
    if op == LE:
        return ONE if a <= b else ZERO
    if op == EQ:
        return ONE if a == b else ZERO
    if op == NEG:
        return -a
    if op == SQUARE:
        return a * a
    return a


@Part
def evaluate(tape_at: int, count: int, first: int, registers_at: int, n: int) -> None:
    """The inputs stand in the first rows, the results of `count` operations follow from row `first` on."""
    tape, registers = ints(tape_at), floats(registers_at)
    for i in range(count):
        line, y = at(tape, i * LINE), at(registers, (first + i) * BLOCK)
        op, a, b = line[0], at(registers, line[1] * BLOCK), at(registers, line[2] * BLOCK)
        if op == ADD:
            for r in range(n):
                y[r] = a[r] + b[r]
        elif op == SUB:
            for r in range(n):
                y[r] = a[r] - b[r]
        elif op == MUL:
            for r in range(n):
                y[r] = a[r] * b[r]
        elif op == EXP:
            for r in range(n):
                y[r] = exp(a[r])
        elif op == WHERE:
            c = at(registers, line[3] * BLOCK)
            for r in range(n):
                y[r] = b[r] if a[r] != ZERO else c[r]
        elif op == LT:
            for r in range(n):
                y[r] = ONE if a[r] < b[r] else ZERO
        elif op == GT:
            for r in range(n):
                y[r] = ONE if a[r] > b[r] else ZERO
        elif op == MINIMUM:
            for r in range(n):
                y[r] = b[r] if b[r] < a[r] or b[r] != b[r] else a[r]
        elif op == MAXIMUM:
            for r in range(n):
                y[r] = b[r] if b[r] > a[r] or b[r] != b[r] else a[r]
        else:
            for r in range(n):
                y[r] = rare(line[0], a[r], b[r])


@inner()
def steep(op: int, a: Any, y: Any) -> Any:
    """dy / da of an operation on one operand."""
    if op == EXP:
        return y
    if op == NEG:
        return -ONE
    if op == LOG:
        return ONE / a
    if op == EXPM1:
        return y + ONE
    if op == LOG1P:
        return ONE / (a + ONE)
    if op == SQRT:
        return HALF / y
    if op == SQUARE:
        return TWO * a
    if op == ABS:
        return ONE if a > ZERO else -ONE if a < ZERO else a
    if op == TANH:
        return ONE - y * y
    if op == SIGMOID:
        return y * (ONE - y)
    return ONE if op == SAME else ZERO


@inner()
def steeper(op: int, first: bool, a: Any, b: Any) -> Any:
    """The derivative of an operation on two by `a`, which is the first or the second; a tie gives half."""
    if op == DIV:
        return ONE / b if first else -b / (a * a)
    if op == MINIMUM:
        return ONE if a < b else HALF if a == b else ZERO
    if op == MAXIMUM:
        return ONE if a > b else HALF if a == b else ZERO
    return ZERO


@Part
def differentiate(
    tape_at: int, count: int, first: int, registers_at: int, slopes_at: int, weight_at: int, n: int
) -> None:
    """slopes <- weight times the derivative of the last result by each register that is live."""
    tape, registers, slopes, weight = ints(tape_at), floats(registers_at), floats(slopes_at), floats(weight_at)
    for i in range((first + count) * BLOCK):
        slopes[i] = ZERO
    for r in range(n):
        slopes[(first + count - 1) * BLOCK + r] = weight[r]
    for i in range(count - 1, -1, -1):
        line = at(tape, i * LINE)
        if line[4]:
            back(line, at(registers, (first + i) * BLOCK), at(slopes, (first + i) * BLOCK), registers, slopes, n)


@inner()
def back(line: Any, y: Any, g: Any, registers: Any, slopes: Any, n: int) -> None:
    """One operation's slopes g, passed on to its operands."""
    op, a, b = line[0], at(registers, line[1] * BLOCK), at(registers, line[2] * BLOCK)
    da, db = at(slopes, line[1] * BLOCK), at(slopes, line[2] * BLOCK)
    if op <= SAME:
        for r in range(n):
            da[r] += g[r] * steep(line[0], a[r], y[r])
    elif op == WHERE:
        dc = at(slopes, line[3] * BLOCK)
        for r in range(n):
            db[r] += g[r] if a[r] != ZERO else ZERO
            dc[r] += g[r] if a[r] == ZERO else ZERO
    elif op in (ADD, SUB):
        sign = ONE if op == ADD else -ONE
        for r in range(n):
            da[r] += g[r]
            db[r] += sign * g[r]
    elif op == MUL:
        for r in range(n):
            da[r] += g[r] * b[r]
            db[r] += g[r] * a[r]
    else:
        for r in range(n):
            da[r] += g[r] * steeper(line[0], True, a[r], b[r])
            db[r] += g[r] * steeper(line[0], False, b[r], a[r])
