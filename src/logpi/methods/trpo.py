"""TRPO (Schulman et al. 2015): the natural step, shortened until the KL holds and the surrogate has risen.

max E[rho A] subject to E[KL(pi_old || pi)] <= delta
"""

from typing import Literal

from logpi import average, objective, psi
from logpi.page import Count, Fraction, NonNegative, Positive, page
from logpi.step.natural import trust_region_step


@page
class TRPO:
    """GAE, ratio, the largest natural step inside the trust region."""

    envs: Count = 8  # environments side by side
    length: Count = 128  # steps of each in an iteration
    gamma: Fraction = 0.99  # discount of later rewards
    lam: Fraction = 0.97  # GAE: 0 trusts the critic, 1 the rewards
    from_start: bool = False  # times gamma^t too: unbiased for the discounted J
    delta: Positive = 0.01  # the trust region: largest mean KL of a step
    damping: NonNegative = 0.1  # added to the Fisher matrix's diagonal
    relative: bool = False  # times g'Fg / g'g, its own scale along the gradient
    iterations: Count = 10  # of conjugate gradient
    fisher: Literal["head", "kl"] = "head"  # the head's own Fisher, or the KL differentiated twice
    backtracks: Count = 10  # lengths tried before the step is refused
    shrink: Fraction = 0.8  # each length over the one before
    side: Literal["old_new", "new_old"] = "old_new"  # KL(old || new), or KL(new || old)
    critic_lr: Positive = 3e-3  # learning rate of V
    critic_epochs: Count = 10  # passes of V over the batch
    critic_minibatches: Count = 4  # parts of each pass
    anneal: bool = False  # V's learning rate falls linearly to 0

    rows, critic = "segments", "v"

    def psi(self, b, state):
        credit = psi.gae(b.reward, b.value, b.value_next, b.terminated, b.truncated, self.gamma, self.lam)
        target = b.value + credit
        if self.from_start:
            credit = psi.discount_from_start(credit, b.ended, self.gamma, b.start)
        return psi.standardise(credit, b.mask), target

    def objective(self, now, b, state):
        return objective.ratio(now.log_pi, b.log_pi, b.psi)

    def average(self, mask):
        return average.weights("per_action", mask)

    def step(self, surrogate, kl, rows, optimizer):
        how = (self.delta, self.damping, self.iterations, self.fisher, self.backtracks, self.shrink, self.side)
        return trust_region_step(surrogate, kl, rows, optimizer, *how, self.relative)
