"""Actor-critic (Sutton & Barto 2018, section 13.5; Mnih et al. 2016): a critic stands in for the rest of the return.

Psi_t = sum_{k<n} gamma^k r_{t+k} + gamma^n V(s_{t+n}) - V(s_t), or Q(s_t, a_t), or Q(s_t, a_t) - V(s_t).
"""

from typing import Literal

from logpi import average, objective, psi
from logpi.page import Count, Fraction, NonNegative, Positive, page
from logpi.step.gradient import ascend


@page
class ActorCritic:
    """Short segments, TD or Q credit, one ascent of actor and critic together."""

    envs: Count = 8  # environments side by side
    length: Count = 16  # steps of each in an iteration
    gamma: Fraction = 0.99  # discount of later rewards
    credit: Literal["td", "q", "advantage"] = "td"  # TD error, Q(s,a), or Q(s,a) - V(s)
    n: Count = 5  # rewards before V is trusted (td); 1 is the one-step textbook form
    expected: bool = True  # Q's target has E_pi Q(s',.), else Q(s',a')
    from_start: bool = False  # times gamma^t too: unbiased for the discounted J
    entropy: NonNegative = 0.01  # weight of the entropy bonus
    value_coef: NonNegative | Literal["own"] = 0.5  # weight of the critic's error; own: it has a fit of its own
    lr: Positive = 3e-3  # learning rate
    anneal: bool = True  # the learning rate falls linearly to 0
    max_grad_norm: Positive = 0.5  # the gradient is cut to this length

    rows = "segments"
    critic = property(lambda self: "v" if self.credit == "td" else "q")

    def psi(self, b, state):
        if self.credit == "td":
            credit = psi.n_step(b.reward, b.value, b.value_next, b.terminated, b.truncated, self.gamma, self.n)
            target = b.value + credit
        else:
            credit = b.q if self.credit == "q" else b.q - b.value
            target = b.q + psi.td(b.reward, b.q, b.value_next if self.expected else b.q_next, b.terminated, self.gamma)
        if self.from_start:
            credit = psi.discount_from_start(credit, b.ended, self.gamma, b.start)
        return credit, target

    def objective(self, now, b, state):
        return objective.score(now.log_pi, b.psi) + self.entropy * now.entropy

    def average(self, mask):
        return average.weights("per_action", mask)

    def step(self, surrogate, kl, rows, optimizer):
        return ascend(surrogate, rows, optimizer, max_grad_norm=self.max_grad_norm)
