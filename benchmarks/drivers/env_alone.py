"""Environments alone, random actions, no learning: one in a loop, or Gymnasium's AsyncVectorEnv, a process for each."""

import time
from functools import partial
from importlib import import_module

import gymnasium as gym
from clock import asked, tell

if __name__ == "__main__":
    name, n = asked["env"], asked["envs"]
    module, _, kind = name.rpartition(":")
    construct = getattr(import_module(module), kind) if module else partial(gym.make, name)
    envs = gym.vector.AsyncVectorEnv([construct] * n) if asked.get("processes") else construct()
    envs.action_space.seed(asked["seed"])
    envs.reset(seed=asked["seed"])
    actions = [envs.action_space.sample() for _ in range(64)]
    turns = asked["steps"] // (n if asked.get("processes") else 1)
    began = time.perf_counter()
    for i in range(turns):
        _, _, terminated, truncated, _ = envs.step(actions[i % 64])
        if not asked.get("processes") and (terminated or truncated):
            envs.reset()
    seconds = time.perf_counter() - began
    envs.close()
    tell(turns * (n if asked.get("processes") else 1) / seconds, "gymnasium mujoco numpy")
