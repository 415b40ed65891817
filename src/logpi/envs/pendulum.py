"""Pendulum-v1: swing it up and hold it there. Dynamics of Gymnasium's."""

import math
from typing import Any

from logpi.envs.native import Task, box

TAU, GRAVITY, SPEED, TORQUE = 0.05, 10.0, 8.0, 2.0


def step(state: Any, action: Any, xp: Any) -> tuple[Any, Any, Any]:
    """The cost is of angle, speed and torque before the step; nothing ends it but the limit."""
    theta, omega = state
    u = xp.clip(action[:, 0], -TORQUE, TORQUE)
    angle = (theta + math.pi) % (2 * math.pi) - math.pi
    cost = angle**2 + 0.1 * omega**2 + 0.001 * u**2
    faster = xp.clip(omega + (3 * GRAVITY / 2 * xp.sin(theta) + 3.0 * u) * TAU, -SPEED, SPEED)
    return xp.stack((theta + faster * TAU, faster)), -cost, theta != theta


def show(state: Any, xp: Any) -> Any:
    return xp.stack((xp.cos(state[0]), xp.sin(state[0]), state[1]))


_START = (math.pi, 1.0)
PENDULUM = Task(
    box([-1.0, -1.0, -SPEED], [1.0, 1.0, SPEED]),
    box([-TORQUE], [TORQUE]),
    200,
    tuple(-x for x in _START),
    _START,
    step,
    show,
)
