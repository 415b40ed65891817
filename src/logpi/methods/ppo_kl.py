"""PPO with a KL penalty (Schulman et al. 2017, section 4): leaving pi_old costs beta per nat, beta adapted.

max E[ rho A - beta KL(pi_old || pi) ];  beta / 2 where KL < target / 1.5, 2 beta where KL > 1.5 target
"""

from typing import Literal

from logpi import average, objective, psi
from logpi.page import Count, Fraction, NonNegative, Positive, page
from logpi.step.gradient import ascend


@page
class PPOKL:
    """GAE, standardised; ratio minus an adapted KL; epochs of minibatches."""

    envs: Count = 8  # environments side by side
    length: Count = 128  # steps of each in an iteration
    gamma: Fraction = 0.99  # discount of later rewards
    lam: Fraction = 0.95  # GAE: 0 trusts the critic, 1 the rewards
    from_start: bool = False  # times gamma^t too: unbiased for the discounted J
    beta: Positive = 1.0  # weight of the KL at the start
    target: Positive = 0.01  # KL(old || new) that an update should reach
    entropy: NonNegative = 0.01  # weight of the entropy bonus
    value_coef: NonNegative | Literal["own"] = 0.5  # weight of the critic's error; own: it has a fit of its own
    lr: Positive = 1e-3  # learning rate
    anneal: bool = True  # the learning rate falls linearly to 0
    epochs: Count = 4  # passes over the batch
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
        surrogate = objective.ratio(now.log_pi, b.log_pi, b.psi) - state.get("beta", self.beta) * now.kl_old
        return surrogate + self.entropy * now.entropy

    def average(self, mask):
        return average.weights("per_action", mask)

    def step(self, surrogate, kl, rows, optimizer):
        return ascend(surrogate, rows, optimizer, self.epochs, self.minibatches, self.max_grad_norm)

    def adapt(self, state, info):
        beta, kl = state.get("beta", self.beta), info["kl"]
        factor = 0.5 if kl < self.target / 1.5 else 2.0 if kl > 1.5 * self.target else 1.0
        return state | {"beta": min(max(beta * factor, 1e-4), 1e4)}
