"""A2C (Mnih et al. 2016, synchronous): many environments in parallel, n-step credit, one ascent per batch.

Psi_t = sum_{k<n} gamma^k r_{t+k} + gamma^n V(s_{t+n}) - V(s_t)
"""

from typing import Literal

from logpi import average, objective, psi
from logpi.page import Count, Fraction, NonNegative, Positive, page
from logpi.step.gradient import ascend


@page
class A2C:
    """Parallel segments, n-step credit, entropy, one ascent."""

    envs: Count = 16  # environments side by side
    length: Count = 16  # steps of each in an iteration
    gamma: Fraction = 0.99  # discount of later rewards
    credit: Literal["n_step", "gae"] = "n_step"  # one n, or all of them weighed by lam
    n: Count = 16  # rewards before the critic is trusted (n_step)
    lam: Fraction = 0.95  # 0 trusts the critic, 1 the rewards (gae)
    from_start: bool = False  # times gamma^t too: unbiased for the discounted J
    entropy: NonNegative = 0.01  # weight of the entropy bonus
    value_coef: NonNegative | Literal["own"] = 0.5  # weight of the critic's error; own: it has a fit of its own
    lr: Positive = 3e-3  # learning rate
    anneal: bool = True  # the learning rate falls linearly to 0
    max_grad_norm: Positive = 0.5  # the gradient is cut to this length

    rows, critic = "segments", "v"

    def psi(self, b, state):
        if self.credit == "gae":
            credit = psi.gae(b.reward, b.value, b.value_next, b.terminated, b.truncated, self.gamma, self.lam)
        else:
            credit = psi.n_step(b.reward, b.value, b.value_next, b.terminated, b.truncated, self.gamma, self.n)
        target = b.value + credit
        if self.from_start:
            credit = psi.discount_from_start(credit, b.ended, self.gamma, b.start)
        return credit, target

    def objective(self, now, b, state):
        return objective.score(now.log_pi, b.psi) + self.entropy * now.entropy

    def average(self, mask):
        return average.weights("per_action", mask)

    def step(self, surrogate, kl, rows, optimizer):
        return ascend(surrogate, rows, optimizer, max_grad_norm=self.max_grad_norm)
