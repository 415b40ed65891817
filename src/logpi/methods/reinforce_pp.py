"""REINFORCE++ (Hu 2025): no critic and no group; the return, less the KL that follows, standardised over the whole batch.

Psi_t = standardise( sum_{k >= t} r_k - beta (log pi_old - log pi_ref)_k );  max E[ min(rho Psi, clip(rho, 1 - eps, 1 + eps) Psi) ]
"""

from logpi import average, kl, objective, psi
from logpi.page import Count, Fraction, NonNegative, Positive, page
from logpi.step.gradient import ascend


@page
class ReinforcePP:
    """Whole episodes, reward-to-go standardised over the batch; clipped ratio."""

    episodes: Count = 32  # whole episodes of each iteration
    gamma: Fraction = 1.0  # discount of later rewards
    kl: NonNegative = 0.0  # beta, weight in the reward of the KL to the reference policy
    clip: Positive = 0.2  # how far the ratio is paid for moving from 1
    entropy: NonNegative = 0.0  # weight of the entropy bonus
    lr: Positive = 1e-3  # learning rate
    anneal: bool = True  # the learning rate falls linearly to 0
    epochs: Count = 4  # passes over the batch
    minibatches: Count = 4  # parts of each pass, in whole episodes
    max_grad_norm: Positive = 0.5  # the gradient is cut to this length

    rows, critic = "episodes", None
    reference = property(lambda self: self.kl > 0)

    def psi(self, b, state):
        reward = b.reward - self.kl * kl.k1(b.log_pi, b.log_ref) if self.reference else b.reward
        return psi.standardise(psi.reward_to_go(reward, b.ended, self.gamma), b.mask), None

    def objective(self, now, b, state):
        return objective.clip(now.log_pi, b.log_pi, b.psi, self.clip, self.clip) + self.entropy * now.entropy

    def average(self, mask):
        return average.weights("per_action", mask)

    def step(self, surrogate, kl, rows, optimizer):
        return ascend(surrogate, rows, optimizer, self.epochs, self.minibatches, self.max_grad_norm)
