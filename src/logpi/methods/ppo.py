"""PPO-clip (Schulman et al. 2017): several passes over one batch, none paid for leaving the clip range.

max E[ min(rho A, clip(rho, 1 - eps, 1 + eps) A) + c2 H(pi) - c1 (V - target)^2 ]   (eq. 7 and 9)
A of r - beta (log pi_old - log pi_ref), where there is a reference policy (Stiennon et al. 2020)
"""

from typing import Literal

from logpi import average, kl, objective, psi
from logpi.page import Count, Fraction, NonNegative, Positive, page
from logpi.step.gradient import ascend


@page
class PPO:
    """GAE, standardised; clipped ratio and entropy; epochs of minibatches."""

    envs: Count = 8  # environments side by side
    length: Count = 128  # steps of each in an iteration
    gamma: Fraction = 0.99  # discount of later rewards
    lam: Fraction = 0.95  # GAE: 0 trusts the critic, 1 the rewards
    from_start: bool = False  # times gamma^t too: unbiased for the discounted J
    kl: NonNegative = 0.0  # beta, weight in the reward of the KL to the reference policy
    kl_target: Positive | None = None  # nats of a row to which beta leads that KL; none: beta stays
    kl_horizon: Count = 10_000  # rows in which beta follows: large is slow
    clip: Positive = 0.2  # how far the ratio is paid for moving from 1
    entropy: NonNegative = 0.01  # weight of the entropy bonus
    value_coef: NonNegative | Literal["own"] = 0.5  # weight of the critic's error; own: it has a fit of its own
    value_clip: Positive | None = None  # how far V is paid for moving in an iteration
    lr: Positive = 1e-3  # learning rate
    anneal: bool = True  # the learning rate falls linearly to 0
    epochs: Count = 4  # passes over the batch
    minibatches: Count = 4  # parts of each pass
    max_grad_norm: Positive = 0.5  # the gradient is cut to this length
    target_kl: Positive | None = None  # passes stop beyond this mean KL(old || new)
    normalise: Literal["batch", "minibatch", "none"] = "batch"  # over what A is standardised
    recompute: bool = False  # A and the targets anew from V before each pass

    rows, critic, reference = "segments", "v", property(lambda self: self.kl > 0)

    def psi(self, b, state):
        reward = b.reward - state.get("kl", self.kl) * kl.k1(b.log_pi, b.log_ref) if self.reference else b.reward
        credit = psi.gae(reward, b.value, b.value_next, b.terminated, b.truncated, self.gamma, self.lam)
        used = psi.discount_from_start(credit, b.ended, self.gamma, b.start) if self.from_start else credit
        return psi.standardise(used, b.mask) if self.normalise == "batch" else used, b.value + credit

    def objective(self, now, b, state):
        return objective.clip(now.log_pi, b.log_pi, b.psi, self.clip, self.clip) + self.entropy * now.entropy

    def average(self, mask):
        return average.weights("per_action", mask)

    def step(self, surrogate, kl, rows, optimizer):
        passes = (self.epochs, self.minibatches, self.max_grad_norm, kl, self.target_kl)
        each = psi.standardise_sample if self.normalise == "minibatch" else None
        return ascend(surrogate, rows, optimizer, *passes, each, surrogate.refresh if self.recompute else None)

    def adapt(self, state, info):
        beta, b = state.get("kl", self.kl), info["batch"]
        return state | {"kl": kl.controlled(beta, b.log_pi, b.log_ref, b.mask, self.kl_target, self.kl_horizon)}
