"""`logpi train --seeds N`: all seeds' steps per second, the start of the processes taken off."""

from clock import asked, tell
from shell import logpi

FLAGS = "train ppo --env CartPole-v1 --evaluate 0 --no-plot --quiet"
SHORT = 1024  # one iteration


def wall(steps: int) -> float:
    return logpi(f"{FLAGS} --seeds {asked['seeds']} --steps {steps} --out runs-{steps}")


if asked.get("fast") != "off":
    wall(SHORT)  # compiled code is on disk after this
start = wall(SHORT)
seconds = wall(asked["steps"]) - start
assert seconds > start / 4, "the start took most of the time: too few steps, or a busy machine"
tell(asked["seeds"] * (asked["steps"] - SHORT) / seconds, "logpi torch numba numpy", start=round(start, 2))
