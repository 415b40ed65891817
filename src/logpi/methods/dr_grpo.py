"""Dr. GRPO (Liu et al. 2025): GRPO without its two biases, the division by the group's std and by a row's own length.

Psi = R_i - mean R;  max sum_t min(rho Psi, clip(rho, 1 - eps, 1 + eps) Psi) / (rows x budget)
"""

from logpi import average, objective, psi
from logpi.page import Count, NonNegative, Positive, Several, page
from logpi.step.gradient import ascend


@page
class DrGRPO:
    """Groups of episodes from one start, centred; clipped ratio; a constant divisor."""

    starts: Count = 4  # seeded starts of each iteration
    group: Several = 8  # episodes from each start
    budget: Count = 128  # actions by which every row is divided, however long it is
    clip: Positive = 0.2  # how far the ratio is paid for moving from 1
    entropy: NonNegative = 0.0  # weight of the entropy bonus
    lr: Positive = 1e-3  # learning rate
    anneal: bool = True  # the learning rate falls linearly to 0
    epochs: Count = 4  # passes over the batch
    minibatches: Count = 4  # parts of each pass, in whole episodes
    max_grad_norm: Positive = 0.5  # the gradient is cut to this length

    rows, critic = "groups", None

    def psi(self, b, state):
        return psi.group_mean(b.reward.sum(-1))[..., None].expand_as(b.reward), None

    def objective(self, now, b, state):
        return objective.clip(now.log_pi, b.log_pi, b.psi, self.clip, self.clip) + self.entropy * now.entropy

    def average(self, mask):
        return average.weights("per_budget", mask, self.budget)

    def step(self, surrogate, kl, rows, optimizer):
        return ascend(surrogate, rows, optimizer, self.epochs, self.minibatches, self.max_grad_norm)
