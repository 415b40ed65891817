"""Two environments in pure Python of a millisecond a step: one computes, one waits (as for a simulator or a robot)."""

import time

import gymnasium as gym
import numpy as np


class Slow(gym.Env):
    """Eight numbers to see, two actions; the reward is for the action that the first number's sign names."""

    observation_space = gym.spaces.Box(-1.0, 1.0, (8,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        self.seen = self.np_random.uniform(-1, 1, 8).astype(np.float32)
        return self.seen, {}

    def step(self, action):
        self.work()
        reward = float((self.seen[0] > 0) == bool(action))
        self.seen = self.np_random.uniform(-1, 1, 8).astype(np.float32)
        self.t += 1
        return self.seen, reward, False, self.t >= 200, {}

    def work(self):
        raise NotImplementedError


class Computing(Slow):
    def work(self):
        until = time.thread_time_ns() + 1_000_000  # its own processor time: waiting for a core is no work
        while time.thread_time_ns() < until:
            pass


class Sleeping(Slow):
    def work(self):
        time.sleep(0.001)
