"""A method of one's own: REINFORCE whose baseline is the mean return of the other episodes.

From the shell: logpi train ./examples/02_own_method.py:Others
"""

from dataclasses import dataclass

import logpi
from logpi import average, objective, psi
from logpi.step.gradient import ascend


@dataclass(frozen=True)
class Others:
    """Return minus the mean of the other episodes, one ascent."""

    episodes: int = 16  # whole episodes of each iteration
    lr: float = 5e-3  # learning rate

    rows, critic = "episodes", None

    def psi(self, b, state):
        total = b.reward.sum(-1)  # [episodes], one return for each
        return psi.leave_one_out(total)[:, None].expand_as(b.reward), None

    def objective(self, now, b, state):
        return objective.score(now.log_pi, b.psi)

    def average(self, mask):
        return average.weights("per_episode", mask)

    def step(self, surrogate, kl, rows, optimizer):
        return ascend(surrogate, rows, optimizer)


if __name__ == "__main__":
    records = list(logpi.learn(Others, "CartPole-v1", steps=60_000))
    print(f"return {records[0]['return']:.0f} -> {records[-1]['return']:.0f}")
