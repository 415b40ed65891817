"""MountainCar-v0 (Moore 1990) and MountainCarContinuous-v0: a car too weak to climb straight out of its valley. As Gymnasium's."""

from typing import Any

from gymnasium import spaces

from logpi.envs.native import Task, box, direction

LEFT, RIGHT, SPEED, GRAVITY = -1.2, 0.6, 0.07, 0.0025
FORCE, GOAL = 0.001, 0.5
POWER, GOAL_CONTINUOUS = 0.0015, 0.45


def roll(state: Any, push: Any, xp: Any) -> Any:
    """[2, n] of position and velocity a step later; the left end stops the car."""
    position, velocity = state
    velocity = xp.clip(velocity + push - GRAVITY * xp.cos(3 * position), -SPEED, SPEED)
    position = xp.clip(position + velocity, LEFT, RIGHT)
    return xp.stack((position, xp.where((position == LEFT) & (velocity < 0), 0 * velocity, velocity)))


def step(state: Any, action: Any, xp: Any) -> tuple[Any, Any, Any]:
    """Reward -1 a step, until the flag."""
    s = roll(state, direction(action, state[0], xp) * FORCE, xp)
    return s, 0 * s[0] - 1, (s[0] >= GOAL) & (s[1] >= 0)


def step_continuous(state: Any, action: Any, xp: Any) -> tuple[Any, Any, Any]:
    """100 at the flag, less a tenth of the square of every push."""
    push = action[:, 0]
    s = roll(state, xp.clip(push, -1.0, 1.0) * POWER, xp)
    terminated = (s[0] >= GOAL_CONTINUOUS) & (s[1] >= 0)
    spent = -0.1 * push * push
    return s, xp.where(terminated, 100 + spent, spent), terminated


def show(state: Any, xp: Any) -> Any:
    return state


_SPACE = box([LEFT, -SPEED], [RIGHT, SPEED])
MOUNTAIN_CAR = Task(_SPACE, spaces.Discrete(3), 200, (-0.6, 0.0), (-0.4, 0.0), step, show)
MOUNTAIN_CAR_CONTINUOUS = Task(_SPACE, box([-1.0], [1.0]), 999, (-0.6, 0.0), (-0.4, 0.0), step_continuous, show)
