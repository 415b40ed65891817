"""RLOO (Kool et al. 2019; Ahmadian et al. 2024): each episode against the mean of the others from its start.

Psi_i = R_i - mean_{j != i} R_j, unbiased; R holds - beta (log pi_old - log pi_ref) of every action
"""

from logpi import average, kl, objective, psi
from logpi.page import Count, NonNegative, Positive, Several, page
from logpi.step.gradient import ascend


@page
class RLOO:
    """Groups of episodes from one seeded start; leave-one-out; score; per-episode average."""

    starts: Count = 4  # seeded starts of each iteration
    group: Several = 8  # episodes from each start
    kl: NonNegative = 0.0  # beta, weight in the reward of the KL to the reference policy
    lr: Positive = 3e-3  # learning rate
    anneal: bool = True  # the learning rate falls linearly to 0
    max_grad_norm: Positive | None = None  # the gradient is cut to this length

    rows, critic = "groups", None
    reference = property(lambda self: self.kl > 0)

    def psi(self, b, state):
        reward = b.reward - self.kl * kl.k1(b.log_pi, b.log_ref) if self.reference else b.reward
        return psi.leave_one_out(reward.sum(-1))[..., None].expand_as(reward), None

    def objective(self, now, b, state):
        return objective.score(now.log_pi, b.psi)

    def average(self, mask):
        return average.weights("per_episode", mask)

    def step(self, surrogate, kl, rows, optimizer):
        return ascend(surrogate, rows, optimizer, max_grad_norm=self.max_grad_norm)
