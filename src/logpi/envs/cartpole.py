"""CartPole-v1 (Barto, Sutton & Anderson 1983), the dynamics of Gymnasium's; and the same without its velocities, for a memory."""

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from logpi.envs.native import Native, Task, box

GRAVITY, MASS_POLE, MASS_TOTAL, HALF_LENGTH, FORCE, TAU = 9.8, 0.1, 1.1, 0.5, 10.0, 0.02
X_LIMIT, THETA_LIMIT, STEP_LIMIT = 2.4, 12 * 2 * math.pi / 360, 500


def dynamics(state: Any, force: Any, xp: Any = torch) -> Any:
    """[4, n] of x, x', theta, theta' and the force [n] -> the state tau later (Euler)."""
    _, speed, theta, omega = state
    cos, sin = xp.cos(theta), xp.sin(theta)
    temp = (force + MASS_POLE * HALF_LENGTH * (omega * omega) * sin) / MASS_TOTAL
    alpha = (GRAVITY * sin - cos * temp) / (HALF_LENGTH * (4.0 / 3.0 - MASS_POLE / MASS_TOTAL * (cos * cos)))
    acc = temp - MASS_POLE * HALF_LENGTH / MASS_TOTAL * alpha * cos
    return state + TAU * xp.stack((speed, acc, omega, alpha))


def step(state: Any, action: Any, xp: Any) -> tuple[Any, Any, Any]:
    """Reward 1 a step; over when the pole falls or the cart leaves."""
    one = state[0] * 0 + 1
    s = dynamics(state, xp.where(action == 1, FORCE * one, -FORCE * one), xp)
    return s, one, (xp.abs(s[0]) > X_LIMIT) | (xp.abs(s[2]) > THETA_LIMIT)


def show(state: Any, xp: Any) -> Any:
    return state


def show_positions(state: Any, xp: Any) -> Any:
    return state[::2]


_SIDES = (2 * X_LIMIT, np.inf, 2 * THETA_LIMIT, np.inf)
_START = (0.05,) * 4
_REST = spaces.Discrete(2), STEP_LIMIT, tuple(-x for x in _START), _START, step
CARTPOLE = Task(box([-x for x in _SIDES], _SIDES), *_REST, show)
CARTPOLE_WITHOUT_VELOCITIES = Task(box([-x for x in _SIDES[::2]], _SIDES[::2]), *_REST, show_positions)
CartPole = partial(Native, CARTPOLE)
