"""REINFORCE with a baseline (Williams 1992; Sutton & Barto 2018, section 13.4): return minus what was expected.

grad J = E[ sum_t (G_t - b) grad log pi(a_t|s_t) ], unbiased for b independent of the episode: not mean, time, optimal
"""

from typing import Literal

from logpi import average, objective, psi
from logpi.page import Count, Fraction, Positive, page
from logpi.step.gradient import ascend

Kind = Literal["none", "mean", "time", "leave_one_out", "optimal", "value", "previous_mean", "previous_optimal"]
MEANS = {"mean": psi.mean, "previous_mean": psi.mean, "time": psi.time_mean, "leave_one_out": psi.others_time_mean}


@page
class Baseline:
    """Whole episodes, any baseline, one ascent."""

    episodes: Count = 16  # whole episodes of each iteration
    gamma: Fraction = 0.99  # discount of later rewards
    baseline: Kind = "value"  # what is subtracted
    decay: Fraction = 0.0  # weight of the older batches in previous_...: a moving average
    from_start: bool = False  # times gamma^t too: unbiased for the discounted J
    lr: Positive = 3e-3  # learning rate of the policy
    critic_lr: Positive = 3e-3  # learning rate of V
    critic_epochs: Count = 10  # passes of V over the batch
    anneal: bool = True  # the learning rates fall linearly to 0

    rows, critic = "episodes", property(lambda self: "v" if self.baseline == "value" else None)
    kept = property(lambda self: self.baseline.startswith("previous"))

    def psi(self, b, state):
        to_go = psi.reward_to_go(b.reward, b.ended, self.gamma)
        if self.baseline == "value":  # bootstrapped where the episode was truncated
            to_go = b.value + psi.gae(b.reward, b.value, b.value_next, b.terminated, b.truncated, self.gamma, lam=1.0)
        credit = to_go - (state.get("baseline", 0.0) if self.kept else self.expected(b, to_go))
        return psi.discount_from_start(credit, b.ended, self.gamma, b.start) if self.from_start else credit, to_go

    def expected(self, b, to_go):
        if self.baseline in ("optimal", "previous_optimal"):
            gamma = self.gamma if self.from_start else 1.0
            weight = psi.discount_from_start(b.mask.to(to_go), b.ended, gamma, b.start)
            return psi.optimal_constant(b.scores(weight), b.scores(weight * to_go))
        mean = MEANS.get(self.baseline)
        return mean(to_go, b.mask) if mean else b.value if self.baseline == "value" else 0.0

    def objective(self, now, b, state):
        return objective.score(now.log_pi, b.psi)

    def average(self, mask):
        return average.weights("per_episode", mask)

    def step(self, surrogate, kl, rows, optimizer):
        return ascend(surrogate, rows, optimizer)

    def adapt(self, state, info):
        fresh = float(self.expected(info["batch"], info["batch"].target)) if self.kept else 0.0
        return state | {"baseline": fresh + self.decay * (state.get("baseline", fresh) - fresh)}
