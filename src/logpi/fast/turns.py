"""Segments of environments in processes, without Python between their steps: answers in, actions out, in one kernel.

It goes on as long as every answer says that all is well, and comes back to Python for everything else: a failure, a silence, a
signal. What is drawn was drawn before for each step of each environment, so who is done first changes nothing.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from logpi.fast.compiled import entry, inlined, inner
from logpi.fast.heads import BLOCK, CATEGORICAL
from logpi.fast.rolling import chosen, distribution, normalised
from logpi.fast.special import exp
from logpi.fast.tile import address, at, copy, doubles, floats, intrinsic, ints, octets, pointer_to
from logpi.fast.update import HEAD, LD_X, N_OLD
from logpi.workers.pipe import POLLIN

# of `numbers`: how many workers, groups, environments; steps of a segment; floats of an observation, whether they are doubles;
# numbers of an action; the first action's number; answers after which Python has its turn; milliseconds that are waited for one
WORKERS, GROUPS, ROWS, STEPS, OBS, WIDE, ACT, START, MOST, PATIENCE = range(10)
# of `shared` and `kept`: addresses of what the workers write and read, and of what the rollout keeps
S_OBS, S_FINAL, S_ACTION, S_REWARD, S_TERMINATED, S_TRUNCATED, S_LAST, S_OVER = range(8)
K_OBS, K_FINAL, K_PARAMS, K_ACTION, K_REWARD, K_TERMINATED, K_TRUNCATED = range(7)
POLL, READ, WRITE = range(3)
DONE, TURN, PYTHON = range(3)  # what is said: every step is taken; Python may see to signals; only Python can go on
REQUEST = 12  # bytes
FINE = 4  # bytes, all zero, of the answer that all is well
OWED, LEFT = 4, 9  # columns of `wires.owed` and `wires.rest`
f32 = np.float32
shorts: Any = pointer_to(types.int16)
whole: Any = pointer_to(types.int32)


@intrinsic
def libc(context: Any, place: Any, a: Any, b: Any, c: Any) -> Any:
    """The C function at an address, of three whole numbers."""

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        word = ir.IntType(64)
        function = builder.inttoptr(args[0], ir.FunctionType(word, [word] * 3).as_pointer())
        return builder.call(function, args[1:])

    return types.int64(types.int64, types.int64, types.int64, types.int64), generate


@inner()
def keep(numbers: Any, shared: Any, kept: Any, t: Any, i: int) -> None:
    """What environment i's step gave."""
    size, here = numbers[OBS], t[i] * numbers[ROWS] + i
    then = here + numbers[ROWS]
    octets(kept[K_TERMINATED])[here] = terminated = octets(shared[S_TERMINATED])[i]
    octets(kept[K_TRUNCATED])[here] = truncated = octets(shared[S_TRUNCATED])[i]
    doubles(kept[K_REWARD])[here] = doubles(shared[S_REWARD])[i]
    obs, final = at(floats(kept[K_OBS]), then * size), at(floats(kept[K_FINAL]), here * size)
    if numbers[WIDE]:
        source, last = at(doubles(shared[S_OBS]), i * size), at(doubles(shared[S_LAST]), i * size)
        for j in range(size):
            last[j] = source[j]
            obs[j] = f32(source[j])
    else:
        copy(obs, at(floats(shared[S_OBS]), i * size), size)
        copy(at(floats(shared[S_LAST]), i * size), obs, size)
    if terminated or truncated:
        octets(shared[S_OVER])[i] = 1
        for j in range(size):
            final[j] = (
                f32(doubles(shared[S_FINAL])[i * size + j]) if numbers[WIDE] else floats(shared[S_FINAL])[i * size + j]
            )
    else:
        copy(final, obs, size)
    t[i] += 1


@inlined
def decide(
    plan: Any, x: Any, numbers: Any, shared: Any, kept: Any, t: Any, row: Any, count: int,
    normal: Any, drawn: Any, low: Any, high: Any, params: Any,
) -> None:  # fmt: skip
    """Actions of the environments row[:count], in their next steps. params: room for BLOCK distributions."""
    n, size, d = numbers[ROWS], plan[N_OLD], numbers[ACT]
    for begin in range(0, count, BLOCK):
        m = min(BLOCK, count - begin)
        for r in range(m):
            i = row[begin + r]
            source = at(floats(kept[K_OBS]), (t[i] * n + i) * numbers[OBS])
            normalised(plan, at(x, r * plan[LD_X]), source, normal, 1)
        distribution(plan, x, params, size, m)
        for r in range(m):
            i = row[begin + r]
            here, own = t[i] * n + i, at(params, r * size)
            copy(at(floats(kept[K_PARAMS]), here * size), own, size)
            if plan[HEAD] == CATEGORICAL:
                action = chosen(own, at(drawn, here * size), size)
                ints(kept[K_ACTION])[here] = action
                ints(shared[S_ACTION])[i] = action + numbers[START]
            else:
                for j in range(d):
                    number = own[j] + exp(own[d + j]) * drawn[here * d + j]
                    floats(kept[K_ACTION])[here * d + j] = number
                    number = low[j] if number < low[j] else number
                    floats(shared[S_ACTION])[i * d + j] = high[j] if number > high[j] else number


@inner()
def answered(calls: Any, polled: Any, owed: Any, rest: Any, w: int) -> int:
    """How many of worker w's groups are done, and all is well; -1: Python has to look, at what was read too, which is in `rest`."""
    length = libc(calls[READ], whole(polled)[2 * w], address(at(rest, LEFT * w + 1)), FINE * owed[OWED * w + 1])
    if length <= 0:
        return -1
    fine = length % FINE == 0
    for k in range(length):
        fine = fine and rest[LEFT * w + 1 + k] == 0
    if not fine:
        rest[LEFT * w] = length
        return -1
    return length // FINE


@inner()
def ask(calls: Any, owed: Any, groups: Any, requests_at: int, g: int) -> bool:
    """Let a group step; could its worker be told?"""
    w = groups[3 * g + 2]
    own = at(owed, OWED * w)
    own[2 + own[1]] = g
    own[1] += 1
    return bool(libc(calls[WRITE], own[0], requests_at + REQUEST * g, REQUEST) == REQUEST)


@entry
def turns(
    plan_at: int, x_at: int, calls_at: int, numbers_at: int, groups_at: int, owed_at: int, polled_at: int, requests_at: int,
    rest_at: int, shared_at: int, kept_at: int, t_at: int, normal_at: int, drawn_at: int, low_at: int, high_at: int,
    room_at: int, params_at: int,
) -> int:  # fmt: skip
    """Steps of all environments that have not taken all of theirs, each of which is at work. See `workers.wires`.

    t [n]: how many each has taken. room: for n + G whole numbers; params: for BLOCK distributions.
    """
    plan, x, calls, numbers, groups = ints(plan_at), floats(x_at), ints(calls_at), ints(numbers_at), ints(groups_at)
    owed, found, rest, shared, kept, t = (
        ints(owed_at),
        shorts(polled_at),
        octets(rest_at),
        ints(shared_at),
        ints(kept_at),
        ints(t_at),
    )
    row, workers, left = ints(room_at), numbers[WORKERS], 0
    group = at(row, numbers[ROWS])
    for i in range(numbers[ROWS]):
        left += numbers[STEPS] - t[i]
    for _ in range(numbers[MOST]):
        if left == 0:
            return DONE
        if types.int32(libc(calls[POLL], polled_at, 2 * workers, numbers[PATIENCE])) <= 0:
            return PYTHON
        well, count, came = True, 0, 0
        for w in range(workers):
            well = well and found[4 * (workers + w) + 3] == 0
            if found[4 * w + 3] == 0:
                continue
            done = answered(calls, polled_at, owed, rest, w) if found[4 * w + 3] == POLLIN else -1
            well = well and done >= 0
            for _ in range(done):
                g = owed[OWED * w + 2]
                owed[OWED * w + 1] -= 1
                owed[OWED * w + 2] = owed[OWED * w + 3]
                for i in range(groups[3 * g], groups[3 * g + 1]):
                    keep(numbers, shared, kept, t, i)
                    left -= 1
                    row[count] = i
                    count += 1
                group[came] = g
                came += 1
                if t[groups[3 * g]] == numbers[STEPS]:
                    count -= groups[3 * g + 1] - groups[3 * g]
                    came -= 1
        decide(
            plan, x, numbers, shared, kept, t, row, count,
            floats(normal_at), floats(drawn_at), floats(low_at), floats(high_at), floats(params_at),
        )  # fmt: skip
        for k in range(came):
            well = ask(calls, owed, groups, requests_at, group[k]) and well
        if not well:
            return PYTHON
    return TURN
