"""Run folders as training, `logpi play --record` and `logpi tokens` leave them, and the command that shows them."""

import json
import math
import os
import random
import re
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest


def made_run(path, method, seed, rows=120, gap=()):
    """A run folder whose return rises."""
    luck = random.Random(f"{method}{seed}")
    path.mkdir(parents=True)
    (path / "config.toml").write_text(
        f'[method]\nname = "{method}"\nlr = 0.001\n[run]\nenv = "CartPole-v1"\nseed = {seed}\nsteps = 122880\n'
    )
    (path / "status.json").write_text(
        json.dumps({"state": "finished", "time": "2026-11-30T12:00:00", "steps": 1024 * rows})
    )
    with (path / "metrics.jsonl").open("w") as log:
        for i in range(rows):
            rise = 1 / (1 + math.exp(-(i - 40 - 6 * seed) / 12))
            row = {
                "return": 20 + 470 * rise + luck.gauss(0, 12),
                "kl": abs(luck.gauss(0.01, 0.002)),
                "entropy": 0.68 - 0.3 * rise,
            }
            row |= {"grad_snr": 2 + luck.random(), "seconds": 0.05 + 0.005 * luck.random()}
            if i in gap:
                row["kl"] = None
            log.write(json.dumps({"iteration": i + 1, "steps": 1024 * (i + 1)} | row) + "\n")


def episode_of(steps, start):
    """What `logpi play --record` writes of an episode."""
    luck = random.Random(start)
    told = {"start": start, "return": float(steps), "steps": steps, "terminated": True, "reward": [1.0] * steps}
    first = [luck.random() for _ in range(steps)]
    told |= {"log_pi": [math.log(max(p, 1 - p)) for p in first], "entropy": [0.6] * steps}
    told |= {"value": [None, *(float(steps - t) for t in range(1, steps))]}
    return told | {"action": [[int(p < 0.5) for p in first]], "probability": [first, [1 - p for p in first]]}


def rollout_of(iteration):
    """What `logpi tokens` writes; one token is markup, one was clipped."""
    columns = [
        ["log_pi", "log π", "when it was drawn"],
        ["psi", "Ψ", "its credit"],
        ["rho", "ratio", "π now over then"],
    ]
    columns += [["kl_ref", "KL ref", "exact"], ["entropy", "H", "of the distribution"]]
    own = [["<b>", "", [-0.1, 1.2, 1.1, 0.01, 0.5]], ["␣a", "clipped at ratio 1.50, Ψ > 0", [-2.5, 1.2, 1.5, 0.2, 1.1]]]
    own += [["b", "", [-0.9, -0.4, 0.7, 0.0, None]]]
    rows = [
        {
            "number": n + 1,
            "made_of": "return 0.5; group 1 of 2",
            "group": [0.0, 0.5, 1.0],
            "place": n,
            "tokens": [["ab=", "prompt", None], *own],
        }
        for n in range(3)
    ]
    told = {
        "title": "grpo on copy",
        "iteration": iteration,
        "origin": f"iteration {iteration}, made again",
        "metrics": {"kl": 0.1},
    }
    return told | {"columns": columns, "rows": rows}


def kept_by(run, iteration=2):
    """A film of two episodes with their steps, a film alone, and a rollout."""
    imageio = pytest.importorskip("imageio.v2")
    pytest.importorskip("imageio_ffmpeg")
    (run / "video").mkdir()
    (run / "tokens").mkdir()
    episodes = [episode_of(30, 1), episode_of(20, 2)]
    pictures = [np.full((64, 96, 3), 5 * i % 250, np.uint8) for i in range(30 + 1 + 20 + 1)]
    imageio.mimwrite(run / "video" / "a.mp4", pictures, fps=10, macro_block_size=1)
    imageio.mimwrite(run / "video" / "b.gif", pictures[:5], duration=100, loop=0)
    told = {"env": "CartPole-v1", "checkpoint": "step-000000001024", "deterministic": True, "seed": 10000, "fps": 10}
    (run / "video" / "a.json").write_text(json.dumps(told | {"film": "a.mp4", "episodes": episodes}))
    (run / "tokens" / f"iteration-{iteration}.json").write_text(json.dumps(rollout_of(iteration)))
    for age, name in enumerate(("video/a.json", "video/a.mp4", "video/b.gif", f"tokens/iteration-{iteration}.json")):
        os.utime(run / name, (2e9 - age, 2e9 - age))  # the first is shown


@contextmanager
def serving(runs):
    """The link that `logpi lab` prints."""
    command = [sys.executable, "-m", "logpi", "lab", "--runs", str(runs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield re.search(r"http://\S+", process.stdout.readline())[0]
        process.terminate()
