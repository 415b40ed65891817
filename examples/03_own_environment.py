"""An environment of one's own, any gymnasium.Env: keep a drifting point at the origin.

From the shell: logpi train ppo --env ./examples/03_own_environment.py:Drift
"""

import gymnasium as gym
import numpy as np

import logpi


class Drift(gym.Env):
    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,))
    action_space = gym.spaces.Box(-1, 1, (1,))

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.t = self.np_random.normal(size=1).astype(np.float32), 0
        return self.x, {}

    def step(self, action):
        self.t += 1
        self.x = self.x + 0.5 * action + 0.1 * self.np_random.normal(size=1).astype(np.float32)
        return self.x, -abs(self.x.item()), False, self.t == 50, {}


if __name__ == "__main__":
    for head in ("gaussian", "squashed", "beta"):
        records = list(logpi.learn("ppo", Drift, steps=20_000, head=head, gamma=0.9, lr=3e-3))
        print(f"{head:9s} return {records[0]['return']:6.1f} -> {records[-1]['return']:6.1f}")
