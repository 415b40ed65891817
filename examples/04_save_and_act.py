"""Train from the command line, load the run in Python, act: the observation normaliser travels with the policy."""

import subprocess
import sys
import tempfile
from pathlib import Path

import gymnasium as gym

import logpi

with tempfile.TemporaryDirectory() as out:
    train = [
        sys.executable,
        "-m",
        "logpi",
        "train",
        "ppo",
        "--steps",
        "40000",
        "--normalise-obs",
        "--evaluate",
        "0",
        "--quiet",
    ]
    subprocess.run([*train, "--out", out], check=True)
    policy = logpi.load(next(Path(out).glob("*/*/*")))

env = gym.make("CartPole-v1")
obs, _ = env.reset(seed=0)
total, ended = 0.0, False
while not ended:
    obs, reward, terminated, truncated, _ = env.step(policy.act(obs, deterministic=True))
    total, ended = total + reward, terminated or truncated
print(f"one episode: {total:.0f}")
