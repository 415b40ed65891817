"""The cost of an iteration of logpi at several points of one sweep, and the exponent that fits them."""

import dataclasses
import math
import statistics
import time

from clock import asked, tell

import logpi
from logpi.run.setup import Settings

ENOUGH = 0.4  # seconds of iterations that a point is measured for, and three of them at least
switch = {"fast": asked.get("fast", "auto")} if any(f.name == "fast" for f in dataclasses.fields(Settings)) else {}


def run(steps: int, envs: int, length: int, width: int):
    settings = {"envs": envs, "length": length, "hidden": (width, width), "threads": 1, "seed": asked["seed"]}
    return logpi.learn("ppo", "CartPole-v1", steps=steps, **settings, **switch)


def iteration(envs: int, length: int, width: int) -> float:
    """Median seconds of one, the first left out."""
    seconds = []
    for record in run(10**9, envs, length, width):
        seconds.append(record.seconds)
        if len(seconds) > 3 and sum(seconds[1:]) > ENOUGH:
            return statistics.median(seconds[1:])
    raise AssertionError


def whole(steps: int, envs: int, length: int, width: int) -> float:
    began = time.perf_counter()
    for _ in run(steps, envs, length, width):
        pass
    return time.perf_counter() - began


base = {name: asked[name] for name in ("envs", "length", "width")}
vary = {"environments": "envs", "length of a segment": "length", "width of the networks": "width"}.get(asked["grows"])
whole(4096, **base)  # compiled, and warm
points = asked["points"]
cost = [iteration(**base | {vary: x}) if vary else whole(x, **base) for x in points]
exponent = statistics.linear_regression([math.log(x) for x in points], [math.log(y) for y in cost]).slope
tell(exponent, "logpi torch numba numpy", cost=cost)
