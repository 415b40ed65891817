"""logpi: the whole training loop, as its Python interface runs it."""

import dataclasses

from clock import Clock, asked, tell

import logpi
from logpi.run.setup import Settings, find_method

FIELDS = ("envs", "length", "epochs", "minibatches", "lr", "entropy", "clip")
known = {f.name for f in dataclasses.fields(Settings)}
page = {f.name for f in dataclasses.fields(find_method(asked["method"]))}
given = {k: asked[k] for k in FIELDS if k in asked and k in page}
given |= dict.fromkeys(("normalise_obs", "normalise_reward"), asked.get("normalise", False))
given |= {"threads": asked["threads"], "seed": asked["seed"]} | asked.get("logpi", {})
given |= {"fast": asked.get("fast", "auto")} if "fast" in known else {}

if __name__ == "__main__":  # workers of --backend async import this file
    clock = Clock(asked["steps"])
    curve = []
    for record in logpi.learn(asked["method"], asked["env"], steps=asked["steps"], **given):
        clock.tick(record.steps)
        score = record.metrics.get("return")
        if "seconds" in asked and score == score:  # no NaN: a game has ended
            curve.append((record.steps, score))
        if clock.over:
            break
    told = {"curve": curve} if curve else {}
    tell(clock.rate(), "logpi torch numba numpy gymnasium mujoco ale-py", steps=record.steps, score=score, **told)
