"""CISPO (MiniMax 2025): the ratio is a bounded weight without gradient, so that no action's gradient is ever switched off.

Psi = (R_i - mean R) / std R;  max mean over all actions of [clip(rho, 1 - eps_low, 1 + eps_high)] Psi log pi
"""

from logpi import average, objective, psi
from logpi.page import Count, NonNegative, Positive, Several, page
from logpi.step.gradient import ascend


@page
class CISPO:
    """Groups of episodes from one start; clipped weight of log pi; per-action average."""

    starts: Count = 4  # seeded starts of each iteration
    group: Several = 8  # episodes from each start
    clip_low: Positive = 1.0  # how far the weight may fall below 1; 1: to nothing
    clip_high: Positive = 0.28  # how far it may rise above
    entropy: NonNegative = 0.0  # weight of the entropy bonus
    lr: Positive = 1e-3  # learning rate
    anneal: bool = True  # the learning rate falls linearly to 0
    epochs: Count = 4  # passes over the batch
    minibatches: Count = 4  # parts of each pass, in whole episodes
    max_grad_norm: Positive = 0.5  # the gradient is cut to this length

    rows, critic = "groups", None

    def psi(self, b, state):
        return psi.group_standardise(b.reward.sum(-1))[..., None].expand_as(b.reward), None

    def objective(self, now, b, state):
        surrogate = objective.clipped_weight(now.log_pi, b.log_pi, b.psi, self.clip_low, self.clip_high)
        return surrogate + self.entropy * now.entropy

    def average(self, mask):
        return average.weights("per_action", mask)

    def step(self, surrogate, kl, rows, optimizer):
        return ascend(surrogate, rows, optimizer, self.epochs, self.minibatches, self.max_grad_norm)
