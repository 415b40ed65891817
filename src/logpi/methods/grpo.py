"""GRPO (Shao et al. 2024, DeepSeekMath): the group from one start is its own baseline; no critic.

Psi = (R_i - mean R) / std R;  max E[ min(rho Psi, clip(rho, 1 - eps_low, 1 + eps_high) Psi) - beta KL(pi || pi_ref) ]
"""

from typing import Literal

from logpi import average, kl, objective, psi
from logpi.page import Count, NonNegative, Positive, Several, page
from logpi.step.gradient import ascend

ESTIMATES = {"k1": kl.k1, "k2": kl.k2, "k3": kl.k3}


@page
class GRPO:
    """Groups of episodes from one seeded start; clipped ratio; per-sequence average."""

    starts: Count = 4  # seeded starts of each iteration
    group: Several = 8  # episodes from each start
    scale: bool = True  # divide by the group's std; without it Dr. GRPO's credit
    clip_low: Positive = 0.2  # how far the ratio may fall and still be paid
    clip_high: Positive = 0.2  # how far it may rise
    kl: NonNegative = 0.0  # beta, weight of the KL to the reference policy
    kl_in: Literal["objective", "reward"] = "objective"  # where that KL stands
    kl_estimate: Literal["k1", "k2", "k3"] = "k3"  # k1 is right in the reward, and 0 in the objective
    kl_live: bool = False  # weigh the estimate by the live ratio: unbiased after the first minibatch
    entropy: NonNegative = 0.0  # weight of the entropy bonus
    lr: Positive = 1e-3  # learning rate
    anneal: bool = True  # the learning rate falls linearly to 0
    epochs: Count = 4  # passes over the batch
    minibatches: Count = 4  # parts of each pass, in whole episodes
    max_grad_norm: Positive = 0.5  # the gradient is cut to this length

    rows, critic = "groups", None
    reference = property(lambda self: self.kl > 0)

    def psi(self, b, state):
        ret = b.reward.sum(-1)
        if self.reference and self.kl_in == "reward":
            ret = ret - self.kl * ESTIMATES[self.kl_estimate](b.log_pi, b.log_ref).sum(-1)
        credit = psi.group_standardise(ret) if self.scale else psi.group_mean(ret)
        return credit[..., None].expand_as(b.reward), None

    def objective(self, now, b, state):
        surrogate = objective.clip(now.log_pi, b.log_pi, b.psi, self.clip_low, self.clip_high)
        if self.reference and self.kl_in == "objective":
            estimate = ESTIMATES[self.kl_estimate](now.log_pi, b.log_ref)
            surrogate = surrogate - self.kl * (kl.live(estimate, now.log_pi, b.log_pi) if self.kl_live else estimate)
        return surrogate + self.entropy * now.entropy

    def average(self, mask):
        return average.weights("per_sequence", mask)

    def step(self, surrogate, kl, rows, optimizer):
        return ascend(surrogate, rows, optimizer, self.epochs, self.minibatches, self.max_grad_norm)
