"""ALE's vector environment alone, random actions."""

import time

import numpy as np
from ale_py.vector_env import AtariVectorEnv
from clock import asked, tell

if __name__ == "__main__":
    n = asked["envs"]
    envs = AtariVectorEnv(asked["env"].removesuffix("NoFrameskip-v4").lower(), n, num_threads=asked["threads"])
    envs.reset(seed=asked["seed"])
    draw = np.random.default_rng(asked["seed"])
    began = time.perf_counter()
    for _ in range(asked["steps"] // n):
        envs.step(draw.integers(envs.single_action_space.n, size=n))
    tell(asked["steps"] // n * n / (time.perf_counter() - began), "ale-py numpy")
