"""MDPO, mirror descent (Tomar et al. 2020): stay near the old policy at a price, not behind a clip.

max E[ rho A - KL(pi || pi_old) / eta ], eta annealed to a positive floor
"""

from typing import Literal

from logpi import average, kl, objective, psi
from logpi.page import Count, Fraction, NonNegative, Positive, page
from logpi.step.gradient import ascend


@page
class MDPO:
    """GAE, standardised; ratio minus KL/eta; several ascents on one batch."""

    envs: Count = 8  # environments side by side
    length: Count = 128  # steps of each in an iteration
    gamma: Fraction = 0.99  # discount of later rewards
    lam: Fraction = 0.95  # GAE: 0 trusts the critic, 1 the rewards
    from_start: bool = False  # times gamma^t too: unbiased for the discounted J
    eta: Positive = 0.5  # step size of the mirror map at the start
    eta_floor: Positive = 0.05  # and at the end of the run
    kl: Literal["exact", "estimate"] = "exact"  # from the distributions, or from the old actions
    clip: Positive | None = None  # PPO's clip on top
    entropy: NonNegative = 0.0  # weight of the entropy bonus
    value_coef: NonNegative | Literal["own"] = 0.5  # weight of the critic's error; own: it has a fit of its own
    lr: Positive = 1e-3  # learning rate
    anneal: bool = True  # the learning rate falls linearly to 0
    epochs: Count = 10  # passes over the batch
    minibatches: Count = 4  # parts of each pass
    max_grad_norm: Positive = 0.5  # the gradient is cut to this length

    rows, critic = "segments", "v"

    def psi(self, b, state):
        credit = psi.gae(b.reward, b.value, b.value_next, b.terminated, b.truncated, self.gamma, self.lam)
        target = b.value + credit
        if self.from_start:
            credit = psi.discount_from_start(credit, b.ended, self.gamma, b.start)
        return psi.standardise(credit, b.mask), target

    def objective(self, now, b, state):
        eta = max(self.eta * (1 - state["progress"]), self.eta_floor)
        if self.clip is None:
            surrogate = objective.ratio(now.log_pi, b.log_pi, b.psi)
        else:
            surrogate = objective.clip(now.log_pi, b.log_pi, b.psi, self.clip, self.clip)
        divergence = now.kl_new if self.kl == "exact" else kl.from_old(now.log_pi, b.log_pi)
        return surrogate - divergence / eta + self.entropy * now.entropy

    def average(self, mask):
        return average.weights("per_action", mask)

    def step(self, surrogate, kl, rows, optimizer):
        return ascend(surrogate, rows, optimizer, self.epochs, self.minibatches, self.max_grad_norm)
