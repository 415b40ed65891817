"""Acting: a policy's parameters for n observations, and an action drawn with noise that was drawn before.

For CartPole-v1 the environments, too: a whole rollout in one call, the dynamics of `envs.cartpole`.
"""

import math
from typing import Any

import numpy as np

from logpi.envs.cartpole import (
    FORCE,
    GRAVITY,
    HALF_LENGTH,
    MASS_POLE,
    MASS_TOTAL,
    STEP_LIMIT,
    TAU,
    THETA_LIMIT,
    X_LIMIT,
)
from logpi.fast.compiled import brief, entry, inner
from logpi.fast.heads import BETA, BLOCK, CATEGORICAL, softplus
from logpi.fast.network import COLUMNS, LD_OUT, H
from logpi.fast.special import exp
from logpi.fast.tile import address, at, copy, floats, ints, octets
from logpi.fast.update import (
    HEAD,
    KNOW,
    LD_X,
    N_LOG_STD,
    N_OBS,
    N_OLD,
    POLICY,
    POLICY_DEPTH,
    THETA,
    X,
    fetch,
    forward,
    refresh,
)

f32 = np.float32
ONE = f32(1)
gravity, half_length, mass_pole, mass_total, tau = (f32(x) for x in (GRAVITY, HALF_LENGTH, MASS_POLE, MASS_TOTAL, TAU))
pole, third = f32(MASS_POLE * HALF_LENGTH), f32(4 / 3)
x_limit, theta_limit, force = f32(X_LIMIT), f32(THETA_LIMIT), f32(FORCE)


@inner()
def normalised(plan: Any, x: Any, obs: Any, normal: Any, n: int) -> None:
    """Raw observations [n, D] to where the network looks; normal: means, 1 / std, the limit; none where it is null."""
    size = plan[N_OBS]
    for r in range(n):
        row, source = at(x, plan[X] + r * plan[LD_X]), at(obs, r * size)
        if address(normal) == 0:
            copy(row, source, size)
        else:
            limit = normal[2 * size]
            for j in range(size):
                z = (source[j] - normal[j]) * normal[size + j]
                row[j] = limit if z > limit else -limit if z < -limit else z


@inner()
def distribution(plan: Any, x: Any, params: Any, stride: int, n: int) -> None:
    """The parameters of n distributions, rows of N_OLD floats `stride` apart, from the observations brought."""
    policy, size = at(plan, plan[POLICY]), plan[N_OLD]
    forward(plan, policy, plan[POLICY_DEPTH], x, n)
    t = at(policy, (plan[POLICY_DEPTH] - 1) * COLUMNS)
    for r in range(n):
        row, out = at(params, r * stride), at(x, t[H] + r * t[LD_OUT])
        if plan[HEAD] == CATEGORICAL:
            copy(row, out, size)
        elif plan[HEAD] == BETA:
            for j in range(size):
                row[j] = ONE + softplus(out[j])
        else:
            copy(row, out, size // 2)
            copy(at(row, size // 2), at(x, plan[KNOW]), plan[N_LOG_STD])


@inner()
def chosen(params: Any, race: Any, size: int) -> int:
    """The first to arrive: argmax(logits - log race)."""
    best, top = 0, params[0] - f32(math.log(race[0]))
    for j in range(1, size):
        score = params[j] - f32(math.log(race[j]))
        if score > top:
            best, top = j, score
    return best


@inner()
def log_prob(params: Any, size: int, action: int) -> Any:
    """log pi(action) of logits."""
    top, total = params[0], f32(0)
    for j in range(1, size):
        top = params[j] if params[j] > top else top
    for j in range(size):
        total += exp(params[j] - top)
    return params[action] - top - f32(math.log(total))


@brief
def prepare(plan_at: int, x_at: int, tensors_at: int, places_at: int, count: int) -> None:
    """Take the parameters over, before the steps of a rollout."""
    plan, x = ints(plan_at), floats(x_at)
    fetch(ints(tensors_at), ints(places_at), count, at(x, plan[THETA]))
    refresh(plan, x)


@entry
def act(
    plan_at: int, x_at: int, obs_at: int, normal_at: int, noise_at: int, n: int, params_at: int, action_at: int
) -> None:
    """obs [n, D] -> params [n, P] and, where there is noise, action: int64 [n], or float32 [n, d]."""
    plan, x, params, noise = ints(plan_at), floats(x_at), floats(params_at), floats(noise_at)
    size = plan[N_OLD]
    for begin in range(0, n, BLOCK):
        m = min(BLOCK, n - begin)
        normalised(plan, x, floats(obs_at + 4 * begin * plan[N_OBS]), floats(normal_at), m)
        distribution(plan, x, at(params, begin * size), size, m)
    if noise_at == 0:
        return
    if plan[HEAD] == CATEGORICAL:
        for r in range(n):
            ints(action_at)[r] = chosen(at(params, r * size), at(noise, r * size), size)
    else:
        action, d = floats(action_at), size // 2
        for r in range(n):
            for j in range(d):
                action[r * d + j] = params[r * size + j] + exp(params[r * size + d + j]) * noise[r * d + j]


@inner()
def push(s: Any, n: int, i: int, right: bool) -> bool:
    """One step of pole i of the state [4, n], in place; has it fallen, or the cart left?"""
    theta, omega = s[2 * n + i], s[3 * n + i]
    cos, sin = f32(math.cos(theta)), f32(math.sin(theta))
    temp = ((force if right else -force) + pole * (omega * omega) * sin) / mass_total
    alpha = (gravity * sin - cos * temp) / (half_length * (third - mass_pole / mass_total * (cos * cos)))
    speed = s[n + i]
    s[n + i] = speed + tau * (temp - pole / mass_total * alpha * cos)
    s[i] += tau * speed
    s[2 * n + i] = theta + tau * omega
    s[3 * n + i] = omega + tau * alpha
    return abs(s[i]) > x_limit or abs(s[2 * n + i]) > theta_limit


@entry
def cartpole(
    plan_at: int, x_at: int, tensors_at: int, places_at: int, count: int,
    normal_at: int, noise_at: int, state_at: int, age_at: int, fresh_at: int, n: int, steps: int,
    obs_at: int, final_at: int, params_at: int, action_at: int, log_pi_at: int, terminated_at: int, truncated_at: int,
) -> None:  # fmt: skip
    """`steps` steps of n environments. state [4, n], age int64 [n], noise [steps, n, 2], fresh starts [steps, 4, n]; out of
    it come rows [n, steps, *].
    """
    plan, x, s, age, params = ints(plan_at), floats(x_at), floats(state_at), ints(age_at), floats(params_at)
    noise, fresh, obs, final, action = (
        floats(noise_at),
        floats(fresh_at),
        floats(obs_at),
        floats(final_at),
        ints(action_at),
    )
    log_pi, terminated, truncated = floats(log_pi_at), octets(terminated_at), octets(truncated_at)
    fetch(ints(tensors_at), ints(places_at), count, at(x, plan[THETA]))
    refresh(plan, x)
    for t in range(steps):
        for begin in range(0, n, BLOCK):
            m = min(BLOCK, n - begin)
            for r in range(m):
                row = at(obs, ((begin + r) * steps + t) * 4)
                for j in range(4):
                    row[j] = s[j * n + begin + r]
                normalised(plan, at(x, r * plan[LD_X]), row, floats(normal_at), 1)
            distribution(plan, x, at(params, (begin * steps + t) * 2), 2 * steps, m)
        for i in range(n):
            here = i * steps + t
            action[here] = chosen(at(params, 2 * here), at(noise, (t * n + i) * 2), 2)
            log_pi[here] = log_prob(at(params, 2 * here), 2, action[here])
            fell = push(s, n, i, action[here] == 1)
            age[i] += 1
            terminated[here], truncated[here] = fell, age[i] >= STEP_LIMIT
            for j in range(4):
                final[here * 4 + j] = s[j * n + i]
            if fell or age[i] >= STEP_LIMIT:
                age[i] = 0
                for j in range(4):
                    s[j * n + i] = fresh[(t * 4 + j) * n + i]
