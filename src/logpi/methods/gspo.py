"""GSPO (Zheng et al. 2025): the ratio of a whole row, length-normalised, is clipped: all its actions or none.

Psi = (R_i - mean R) / std R;  max mean over rows of min(s Psi, clip(s, 1 - eps_low, 1 + eps_high) Psi), s = exp(mean_t log rho_t)
"""

from logpi import average, objective, psi
from logpi.page import Count, NonNegative, Positive, Several, page
from logpi.step.gradient import ascend


@page
class GSPO:
    """Groups of episodes from one start; clipped ratio of rows; per-sequence average."""

    starts: Count = 4  # seeded starts of each iteration
    group: Several = 8  # episodes from each start
    clip_low: Positive = 0.03  # how far a row's ratio may fall and still be paid
    clip_high: Positive = 0.04  # how far it may rise
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
        surrogate = objective.sequence_clip(now.log_pi, b.log_pi, b.psi, b.mask, self.clip_low, self.clip_high)
        return surrogate + self.entropy * now.entropy

    def average(self, mask):
        return average.weights("per_sequence", mask)

    def step(self, surrogate, kl, rows, optimizer):
        return ascend(surrogate, rows, optimizer, self.epochs, self.minibatches, self.max_grad_norm)
