"""Every policy-gradient estimator that the library's factors can be put together to, by name.

A `Choice` names one of each factor; `Estimator` makes it a method page, so that whatever takes a page (this room,
`logpi variance`, the loop) takes any combination. Nothing is computed here: the rooms psi, objective, average and
kl are called as the pages call them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from logpi import average, kl, objective, psi
from logpi.batch import Batch
from logpi.errors import LogpiError
from logpi.page import Count, Fraction, NonNegative, Positive, check

Credit = Literal["total", "to_go", "td", "n_step", "gae", "vtrace", "q", "advantage"]
Alone = Literal["none", "value", "constant", "mean", "time", "leave_one_out", "optimal", "standardised"]
Grouped = Literal["group_mean", "group_leave_one_out", "group_standardised"]
Baseline = Alone | Grouped
Form = Literal["score", "ratio", "clip", "mirror", "clipped_weight", "sequence_clip"]
Average = average.Kind
KL = Literal["none", "k1", "k2", "k3", "k1_live", "k2_live", "k3_live", "exact", "k1_reward", "k2_reward", "k3_reward"]
RETURNS = ("total", "to_go", "q")  # credit that a baseline is subtracted from
GROUPED = {"group_mean": psi.group_mean, "group_leave_one_out": psi.leave_one_out}
BATCH_MADE = {"mean": psi.mean, "time": psi.time_mean, "leave_one_out": psi.others_time_mean}
ESTIMATES = {"k1": kl.k1, "k2": kl.k2, "k3": kl.k3}


@dataclass(frozen=True)
class Choice:
    """One of each factor."""

    psi: Credit = "to_go"  # the credit of an action
    baseline: Baseline = "none"  # what is subtracted from it
    objective: Form = "score"  # the surrogate
    average: Average = "per_episode"  # over actions
    kl: KL = "none"  # to the reference policy: its estimate, and where it is put
    from_start: bool = True  # times gamma^t
    gamma: Fraction = 1.0  # discount of later rewards
    lam: Fraction = 0.95  # of gae
    n: Count = 2  # rewards of n_step before V
    constant: float = 0.5  # the baseline `constant`, known before the batch
    correction: Literal[0, 1] = 0  # of the group's std; 1: the sample's
    eps: Positive = 1e-6  # added to that std
    clip: Positive = 0.2  # of clip, clipped_weight, sequence_clip
    eta: Positive = 0.5  # step size of mirror
    beta: NonNegative = 1.0  # weight of the KL
    budget: Positive | None = None  # of per_budget; None: the longest row

    def __post_init__(self) -> None:
        check(self)
        if self.grouped and self.psi != "total":
            raise LogpiError(
                f"baseline {self.baseline} compares whole returns: it goes with psi total, not {self.psi}."
            )

    def __str__(self) -> str:
        return f"psi {self.psi}, baseline {self.baseline}, objective {self.objective}, average {self.average}, kl {self.kl}"

    @property
    def grouped(self) -> bool:
        return self.baseline.startswith("group")


@dataclass(frozen=True)
class Estimator:
    """A choice as a method page: `psi`, `objective`, `average`; its step is nobody's business here."""

    choice: Choice

    @property
    def rows(self) -> str:
        return "groups" if self.choice.grouped else "episodes"

    @property
    def critic(self) -> str | None:
        c = self.choice
        return "q" if c.psi in ("q", "advantage") else "v" if c.psi in NEEDS_V or c.baseline == "value" else None

    @property
    def reference(self) -> bool:
        return self.choice.kl != "none"

    def psi(self, b: Batch, state: dict[str, Any]) -> tuple[Tensor, None]:
        """(Psi, None), [..., T]; groups are the last axis of rows."""
        c = self.choice
        if c.kl.endswith("_reward"):
            b = b.with_(reward=b.reward - c.beta * ESTIMATES[c.kl[:2]](b.log_pi, ref_of(b)))
        rho = (state["log_pi"] - b.log_pi).exp() if "log_pi" in state else torch.ones_like(b.log_pi)
        credit = less_baseline(c, vtrace(c, b, rho) if c.psi == "vtrace" else CREDIT[c.psi](c, b), b)
        if c.from_start and c.psi != "total":  # a total return is discounted from the start as it is
            credit = psi.discount_from_start(credit, b.ended, c.gamma, b.start)
        return credit, None

    def objective(self, now: Any, b: Batch, state: dict[str, Any]) -> Tensor:
        c = self.choice
        gain = FORMS[c.objective](c, now.log_pi, b)
        if c.kl == "none" or c.kl.endswith("_reward"):
            return gain
        if c.kl == "exact":
            ref_of(b)
            return gain - c.beta * now.kl_ref
        estimate = ESTIMATES[c.kl[:2]](now.log_pi, ref_of(b))
        return gain - c.beta * (kl.live(estimate, now.log_pi, b.log_pi) if c.kl.endswith("_live") else estimate)

    def average(self, mask: Tensor) -> Tensor:
        c = self.choice
        return average.weights(c.average, mask, c.budget or mask.shape[-1] if c.average == "per_budget" else None)


CREDIT: dict[str, Callable[[Choice, Any], Tensor]] = {
    "total": lambda c, b: psi.total_return(b.reward, b.ended, c.gamma),
    "to_go": lambda c, b: psi.reward_to_go(b.reward, b.ended, c.gamma),
    "td": lambda c, b: psi.td(b.reward, b.value, b.value_next, b.terminated, c.gamma),
    "n_step": lambda c, b: psi.n_step(b.reward, b.value, b.value_next, b.terminated, b.truncated, c.gamma, c.n),
    "gae": lambda c, b: psi.gae(b.reward, b.value, b.value_next, b.terminated, b.truncated, c.gamma, c.lam),
    "q": lambda c, b: b.q,
    "advantage": lambda c, b: b.q - b.value,
}


def vtrace(c: Choice, b: Any, rho: Tensor) -> Tensor:
    """rho = pi / pi_old; 1 on policy."""
    return psi.vtrace(b.reward, b.value, b.value_next, b.terminated, b.truncated, c.gamma, rho, c.lam)[1]


NEEDS_V = ("td", "n_step", "gae", "vtrace")

FORMS: dict[str, Callable[[Choice, Tensor, Any], Tensor]] = {
    "score": lambda c, log_pi, b: objective.score(log_pi, b.psi),
    "ratio": lambda c, log_pi, b: objective.ratio(log_pi, b.log_pi, b.psi),
    "clip": lambda c, log_pi, b: objective.clip(log_pi, b.log_pi, b.psi, c.clip, c.clip),
    "mirror": lambda c, log_pi, b: objective.mirror(log_pi, b.log_pi, b.psi, c.eta),
    "clipped_weight": lambda c, log_pi, b: objective.clipped_weight(log_pi, b.log_pi, b.psi, c.clip, c.clip),
    "sequence_clip": lambda c, log_pi, b: objective.sequence_clip(log_pi, b.log_pi, b.psi, b.mask, c.clip, c.clip),
}


def ref_of(b: Batch) -> Tensor:
    if b.log_ref is None:
        raise LogpiError("A KL needs a reference policy, and there is none: use kl none.")
    return b.log_ref


def less_baseline(c: Choice, credit: Tensor, b: Batch) -> Tensor:
    """The credit minus (or over) what the choice's baseline says."""
    if c.baseline == "value":
        assert b.value is not None
        return credit - b.value
    if c.baseline == "constant":
        return credit - c.constant
    if c.baseline == "standardised":
        return psi.standardise(credit, b.mask)
    if c.baseline in BATCH_MADE:
        return credit - BATCH_MADE[c.baseline](credit, b.mask)
    if c.baseline == "optimal":
        weight = psi.discount_from_start(b.mask.to(credit), b.ended, c.gamma if c.from_start else 1.0, b.start)
        assert b.scores is not None
        return credit - psi.optimal_constant(b.scores(weight), b.scores(weight * credit))
    if c.grouped:
        return of_group(c, b)
    return credit


def of_group(c: Choice, b: Batch) -> Tensor:
    """The row's whole return against its group's, the same for each of its actions."""
    ret = psi.total_return(b.reward, b.ended, c.gamma)[..., 0]
    if c.baseline == "group_standardised":
        credit = psi.group_standardise(ret, c.eps, c.correction)
    else:
        credit = GROUPED[c.baseline](ret)
    return credit[..., None].expand_as(b.reward)
