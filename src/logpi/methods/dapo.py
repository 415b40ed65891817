"""DAPO (Yu et al. 2025): GRPO that pays more for rising than for falling, weighs every token alike and wastes no group.

Psi = (R_i - mean R) / std R;  max mean over all actions of min(rho Psi, clip(rho, 1 - eps_low, 1 + eps_high) Psi)
"""

from logpi import average, objective, psi
from logpi.page import Count, NonNegative, Positive, Several, page
from logpi.step.gradient import ascend


@page
class DAPO:
    """Groups of episodes from one start; higher clip above; per-action average."""

    starts: Count = 4  # seeded starts of each iteration
    group: Several = 8  # episodes from each start
    clip_low: Positive = 0.2  # how far the ratio may fall and still be paid
    clip_high: Positive = 0.28  # how far it may rise
    longest: Count | None = None  # actions from which on a row's reward loses all of `overlong`; None: none do
    cushion: Count = 32  # actions before that over which it is lost bit by bit
    overlong: NonNegative = 1.0  # what is lost
    refill: bool = True  # groups of equal rewards are drawn again, where starts are prompts
    entropy: NonNegative = 0.0  # weight of the entropy bonus
    lr: Positive = 1e-3  # learning rate
    anneal: bool = True  # the learning rate falls linearly to 0
    epochs: Count = 4  # passes over the batch
    minibatches: Count = 4  # parts of each pass, in whole episodes
    max_grad_norm: Positive = 0.5  # the gradient is cut to this length

    rows, critic = "groups", None

    def psi(self, b, state):
        ret = b.reward.sum(-1)
        if self.longest is not None:
            ret = ret - self.overlong * psi.overlong(b.mask.sum(-1), self.longest, self.cushion)
        return psi.group_standardise(ret)[..., None].expand_as(b.reward), None

    def objective(self, now, b, state):
        surrogate = objective.clip(now.log_pi, b.log_pi, b.psi, self.clip_low, self.clip_high)
        return surrogate + self.entropy * now.entropy

    def average(self, mask):
        return average.weights("per_action", mask)

    def step(self, surrogate, kl, rows, optimizer):
        return ascend(surrogate, rows, optimizer, self.epochs, self.minibatches, self.max_grad_norm)
