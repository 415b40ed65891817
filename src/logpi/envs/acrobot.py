"""Acrobot-v1 (Sutton 1996): swing the lower of two links above the line by a torque at their joint. Dynamics of Gymnasium's."""

import math
from typing import Any

from gymnasium import spaces

from logpi.envs.native import Task, box, direction

TAU, GRAVITY, CENTRE = 0.2, 9.8, 0.5  # links of length, mass and inertia 1, centre of mass in their middle
SPEED, OTHER_SPEED = 4 * math.pi, 9 * math.pi


def change(state: Any, torque: Any, xp: Any) -> Any:
    """The derivative of [4, n], of both angles and their speeds ("book" dynamics)."""
    one, two, speed, other = state
    cos, sin = xp.cos(two), xp.sin(two)
    d1 = CENTRE**2 + (1 + CENTRE**2 + 2 * CENTRE * cos) + 1 + 1
    d2 = (CENTRE**2 + CENTRE * cos) + 1
    phi2 = CENTRE * GRAVITY * xp.cos(one + two - math.pi / 2)
    turning = -CENTRE * other**2 * sin - 2 * CENTRE * other * speed * sin
    phi1 = turning + (CENTRE + 1) * GRAVITY * xp.cos(one - math.pi / 2) + phi2
    force = torque + d2 / d1 * phi1 - CENTRE * speed**2 * sin - phi2
    faster = force / (CENTRE**2 + 1 - d2**2 / d1)
    return xp.stack((speed, other, -(d2 * faster + phi1) / d1, faster))


def step(state: Any, action: Any, xp: Any) -> tuple[Any, Any, Any]:
    """One step of Runge and Kutta's fourth order; reward -1 until the end is above the line, 0 then."""
    torque = direction(action, state[0], xp)
    k1 = change(state, torque, xp)
    k2 = change(state + TAU / 2 * k1, torque, xp)
    k3 = change(state + TAU / 2 * k2, torque, xp)
    k4 = change(state + TAU * k3, torque, xp)
    one, two, speed, other = state + TAU / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    speeds = xp.clip(speed, -SPEED, SPEED), xp.clip(other, -OTHER_SPEED, OTHER_SPEED)
    s = xp.stack((within(one, xp), within(two, xp), *speeds))
    terminated = -xp.cos(s[0]) - xp.cos(s[1] + s[0]) > 1.0
    return s, xp.where(terminated, 0 * torque, 0 * torque - 1), terminated


def within(angle: Any, xp: Any) -> Any:
    """The same angle between -pi and pi: no step turns a link by more than two circles."""
    for _ in range(2):
        angle = xp.where(angle > math.pi, angle - 2 * math.pi, angle)
        angle = xp.where(angle < -math.pi, angle + 2 * math.pi, angle)
    return angle


def show(state: Any, xp: Any) -> Any:
    one, two, speed, other = state
    return xp.stack((xp.cos(one), xp.sin(one), xp.cos(two), xp.sin(two), speed, other))


_SIDES = (1.0, 1.0, 1.0, 1.0, SPEED, OTHER_SPEED)
_START = (0.1,) * 4
ACROBOT = Task(
    box([-x for x in _SIDES], _SIDES), spaces.Discrete(3), 500, tuple(-x for x in _START), _START, step, show
)
