"""REINFORCE (Williams 1992): weigh each action by the return that followed it.

grad J = E[ sum_t gamma^t G_t grad log pi(a_t|s_t) ]   (Sutton & Barto 2018, section 13.3)
"""

from typing import Literal

from logpi import average, objective, psi
from logpi.page import Count, Fraction, Positive, page
from logpi.step.gradient import ascend


@page
class Reinforce:
    """Whole episodes, no baseline, one ascent: unbiased and noisy."""

    episodes: Count = 16  # whole episodes of each iteration
    gamma: Fraction = 0.99  # discount of later rewards
    credit: Literal["to_go", "total"] = "to_go"  # what followed the action, or the episode's whole return
    from_start: bool = False  # times gamma^t too: unbiased for the discounted J
    lr: Positive = 3e-3  # learning rate
    anneal: bool = True  # the learning rate falls linearly to 0

    rows, critic = "episodes", None

    def psi(self, b, state):
        if self.credit == "total":
            return psi.total_return(b.reward, b.ended, self.gamma), None
        credit = psi.reward_to_go(b.reward, b.ended, self.gamma)
        return psi.discount_from_start(credit, b.ended, self.gamma, b.start) if self.from_start else credit, None

    def objective(self, now, b, state):
        return objective.score(now.log_pi, b.psi)

    def average(self, mask):
        return average.weights("per_episode", mask)

    def step(self, surrogate, kl, rows, optimizer):
        return ascend(surrogate, rows, optimizer)
