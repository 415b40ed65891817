"""The fused update: minibatches of rows through networks, head and objective, the way back, and Adam. One call, no Python.

A machine is an array of floats `x` and one of integers `plan`, which says where in x everything lies. A `data` row holds
what an action needs: its observation, the action, the parameters that drew it, and the fields that the program reads, log pi
first. A program has `registers` of its own (see `tape`) and integers `program`: a header, then the tape.
"""

import math
from typing import Any

import numpy as np

from logpi.fast.compiled import Part, entry, inlined, inner
from logpi.fast.heads import BLOCK
from logpi.fast.network import COLUMNS, LD_OUT, D, H, gather, load
from logpi.fast.tile import address, at, call, copy, doubles, floats, ints

# of a plan: where the tables of the two networks begin and how many layers they have; what the head is and knows; where the
# critic's answer and its slope stand; and the places in x. The widths of a data row's parts
# follow, then the addresses of what is compiled apart.
POLICY, POLICY_DEPTH, CRITIC, CRITIC_DEPTH, HEAD, LOG_STD, KNOWN, KNOW = range(8)
VALUE_H, VALUE_D, VALUE_LD, X, LD_X, THETA, GRAD, M, V, SIZE, ACTION, OLD = range(8, 20)
N_OBS, N_ACTION, N_OLD, N_LOG_STD = range(20, 24)
REFRESH, FORWARD, ANSWER, BACKWARD, PULL, EVALUATE, DIFFERENTIATE = range(24, 31)
HEADER = 31
# of a program: columns of data beside the fixed ones, operations, the register of the first result, whether KLs are asked for
FIELDS, COUNT, FIRST, KL = range(4)
TAPE = 4
ANSWERS = 4  # of the policy; the critic's follows, then the data
ZERO = np.float32(0)


@inner()
def width_of(plan: Any, fields: int) -> int:
    """Floats of a data row."""
    return plan[N_OBS] + plan[N_ACTION] + plan[N_OLD] + fields


@inlined
def bring(plan: Any, x: Any, registers: Any, fields: int, data: Any, row: Any, n: int) -> None:
    """Row row[r] of `data`, for r < n, to where the networks, the head and the program look for it."""
    n_obs, n_action, n_old = plan[N_OBS], plan[N_ACTION], plan[N_OLD]
    for r in range(n):
        source = at(data, row[r] * width_of(plan, fields))
        copy(at(x, plan[X] + r * plan[LD_X]), source, n_obs)
        copy(at(x, plan[ACTION] + r * n_action), at(source, n_obs), n_action)
        copy(at(x, plan[OLD] + r * n_old), at(source, n_obs + n_action), n_old)
        for j in range(fields):
            registers[(ANSWERS + 1 + j) * BLOCK + r] = source[n_obs + n_action + n_old + j]


@Part
def renew(plan_at: int, x_at: int) -> None:
    """What the networks and the head keep of the parameters."""
    plan, x = ints(plan_at), floats(x_at)
    load(at(plan, plan[POLICY]), plan[POLICY_DEPTH], x)
    load(at(plan, plan[CRITIC]), plan[CRITIC_DEPTH], x)
    copy(at(x, plan[KNOW]), at(x, plan[LOG_STD]), plan[N_LOG_STD])


@inlined
def refresh(plan: Any, x: Any) -> None:
    call(plan[REFRESH], (address(plan), address(x)))


@inlined
def forward(plan: Any, net: Any, depth: int, x: Any, n: int) -> None:
    """`network.forward` of the rows brought."""
    call(plan[FORWARD], (address(net), depth, address(x), plan[X], n))


@inlined
def backward(plan: Any, net: Any, depth: int, x: Any, n: int, add: bool) -> None:
    """`network.backward` of the rows brought."""
    call(plan[BACKWARD], (address(net), depth, address(x), plan[X], n, int(add)))


@inlined
def evaluate(plan: Any, program: Any, registers: Any, n: int) -> None:
    """`tape.evaluate` of the registers of n rows."""
    call(plan[EVALUATE], (address(at(program, TAPE)), program[COUNT], program[FIRST], address(registers), n))


@inlined
def acted(plan: Any, x: Any, kl: bool) -> Any:
    """What a head is asked with: itself, the network's outputs, what it knows, actions, what drew them; whether for KLs."""
    t = at(at(plan, plan[POLICY]), (plan[POLICY_DEPTH] - 1) * COLUMNS)
    out, know = address(at(x, t[H])), address(at(x, plan[KNOW]))
    action, old = address(at(x, plan[ACTION])), address(at(x, plan[OLD]))
    return plan[HEAD], out, t[LD_OUT], know, action, old, plan[N_OLD], int(kl)


@inlined
def look(plan: Any, x: Any, registers: Any, kl: bool, n: int) -> None:
    """What policy and critic say of the n rows brought: the first registers."""
    policy, critic = at(plan, plan[POLICY]), at(plan, plan[CRITIC])
    if plan[POLICY_DEPTH]:
        forward(plan, policy, plan[POLICY_DEPTH], x, n)
        call(plan[ANSWER], (*acted(plan, x, kl), address(registers), n))
    forward(plan, critic, plan[CRITIC_DEPTH], x, n)
    if plan[VALUE_H] >= 0:
        for r in range(n):
            registers[ANSWERS * BLOCK + r] = x[plan[VALUE_H] + r * plan[VALUE_LD]]


@inlined
def back(plan: Any, x: Any, registers: Any, slopes: Any, kl: bool, n: int, add: bool) -> None:
    """The gradient of the parameters, from the slopes of the answers."""
    policy, critic = at(plan, plan[POLICY]), at(plan, plan[CRITIC])
    if plan[POLICY_DEPTH]:
        t = at(policy, (plan[POLICY_DEPTH] - 1) * COLUMNS)
        on_std = at(x, plan[GRAD] + plan[LOG_STD] - plan[THETA])
        slope = address(registers), address(slopes), address(at(x, t[D])), address(on_std)
        call(plan[PULL], (*acted(plan, x, kl), *slope, n))
    if plan[VALUE_H] >= 0:
        for r in range(n):
            x[plan[VALUE_D] + r * plan[VALUE_LD]] = slopes[ANSWERS * BLOCK + r]
    backward(plan, policy, plan[POLICY_DEPTH], x, n, add)
    backward(plan, critic, plan[CRITIC_DEPTH], x, n, add)


@inlined
def climb(
    plan: Any, x: Any, program: Any, registers: Any, data: Any, row: Any, weight: Any, rows: int
) -> tuple[float, float]:
    """(the surrogate of a minibatch, the largest |log rho| in it); its gradient at GRAD."""
    total, worst = 0.0, ZERO
    count, first, kl = program[COUNT], program[FIRST], program[KL] != 0
    slopes, result = at(registers, (first + count) * BLOCK), at(registers, (first + count - 1) * BLOCK)
    for i in range(plan[SIZE]):
        x[plan[GRAD] + i] = ZERO
    refresh(plan, x)
    for begin in range(0, rows, BLOCK):
        n, own = min(BLOCK, rows - begin), at(weight, begin)
        bring(plan, x, registers, program[FIELDS], data, at(row, begin), n)
        look(plan, x, registers, kl, n)
        evaluate(plan, program, registers, n)
        for r in range(n):
            total += own[r] * result[r]
            gap = abs(registers[r] - registers[(ANSWERS + 1) * BLOCK + r])
            worst = worst if gap <= worst else gap
        call(
            plan[DIFFERENTIATE],
            (address(at(program, TAPE)), count, first, address(registers), address(slopes), address(own), n),
        )
        back(plan, x, registers, slopes, kl, n, begin > 0)
    if rows:
        gather(at(plan, plan[POLICY]), plan[POLICY_DEPTH], x)
        gather(at(plan, plan[CRITIC]), plan[CRITIC_DEPTH], x)
    return total, float(worst)


@inner("reassoc")
def norm_of(x: Any, size: int) -> float:
    total = 0.0
    for i in range(size):
        total += x[i] * x[i]
    return math.sqrt(total)


@inner()
def adam(theta: Any, grad: Any, m: Any, v: Any, size: int, step: float, rates: Any, shrink: float) -> None:
    """Ascends `shrink` times the gradient; rates: lr, beta1, beta2, eps (Kingma & Ba 2015, algorithm 1)."""
    beta1, beta2 = rates[1], rates[2]
    length = np.float32(rates[0] / (1 - beta1**step))
    root = np.float32(1 / math.sqrt(1 - beta2**step))
    b1, b2, keep = np.float32(1 - beta1), np.float32(1 - beta2), np.float32(beta2)
    small, factor = np.float32(rates[3]), np.float32(shrink)
    for i in range(size):
        g = -factor * grad[i]  # torch's optimisers descend, and its moments are kept as it keeps them
        m[i] += b1 * (g - m[i])
        v[i] = keep * v[i] + b2 * g * g
        theta[i] -= length * m[i] / (np.float32(math.sqrt(v[i])) * root + small)


@inlined
def fetch(tensors: Any, places: Any, count: int, into: Any) -> None:
    """Torch's tensors, by their addresses, into a flat vector; places: where in it each begins, how many it has."""
    for i in range(count):
        copy(at(into, places[2 * i]), floats(tensors[i]), places[2 * i + 1])


@inlined
def give(tensors: Any, places: Any, count: int, source: Any) -> None:
    for i in range(count):
        copy(floats(tensors[i]), at(source, places[2 * i]), places[2 * i + 1])


@entry
def ascend(
    plan_at: int, x_at: int, program_at: int, registers_at: int, tensors_at: int, places_at: int, count: int,
    data_at: int, row_at: int, weight_at: int, bounds_at: int, minibatches: int,
    step: float, lr: float, beta1: float, beta2: float, eps: float, longest: float, found_at: int,
) -> int:  # fmt: skip
    """Adam's ascent over minibatches row[bounds[k]:bounds[k + 1]]; how many steps were taken. All *_at are addresses.

    tensors: where the parameters, Adam's two moments of each and its count of steps lie; none is written before a step.

    found: sums over the steps of surrogate and gradient norm, then those of the last, and the largest |log rho| of the first
    minibatch. It ends before a step on what is not finite; with lr < 0 before the first, with its gradient at GRAD.
    """
    plan, x, program, registers = ints(plan_at), floats(x_at), ints(program_at), floats(registers_at)
    data, row, weight, bounds = floats(data_at), ints(row_at), floats(weight_at), ints(bounds_at)
    tensors, places, found = ints(tensors_at), ints(places_at), doubles(found_at)
    theta, grad, m, v = at(x, plan[THETA]), at(x, plan[GRAD]), at(x, plan[M]), at(x, plan[V])
    fetch(tensors, places, count, theta)
    fetch(at(tensors, count), places, count, m)
    fetch(at(tensors, 2 * count), places, count, v)
    taken = 0
    for k in range(minibatches):
        begin = bounds[k]
        value, gap = climb(plan, x, program, registers, data, at(row, begin), at(weight, begin), bounds[k + 1] - begin)
        norm = norm_of(grad, plan[SIZE])
        found[2], found[3] = value, norm
        if k == 0:
            found[4] = gap
        if lr < 0 or not math.isfinite(value + norm):
            break
        found[0] += value
        found[1] += norm
        taken += 1
        adam(theta, grad, m, v, plan[SIZE], step + taken, (lr, beta1, beta2, eps), min(1.0, longest / (norm + 1e-6)))
    if taken == 0:
        return 0
    give(tensors, places, count, theta)
    give(at(tensors, count), places, count, m)
    give(at(tensors, 2 * count), places, count, v)
    for i in range(count):
        floats(tensors[3 * count + i])[0] += np.float32(taken)
    return taken
