"""NaN and inf stop an update before they move a parameter; `trace` says where they came from."""

import math
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from logpi.errors import LogpiError

CURES = {
    "obs": "look at the environment",
    "reward": "look at the environment",
    "normalised obs": "look at the normaliser",
    "distribution parameter": "lower the learning rate",
    "action": "look at how the policy samples",
    "log pi": "look at the policy's log_prob",
    "value": "lower the learning rate",
    "q": "lower the learning rate",
    "value of the final obs": "look at the environment",
    "q of the final obs": "look at the environment",
    "reference log pi": "look at the reference policy",
    "psi": "look at the page's psi",
    "target": "look at the page's psi",
    "importance ratio": "lower the learning rate",
    "objective": "look at the page's objective",
    "critic's error": "lower the learning rate",
    "surrogate": "look at the page's objective",
    "gradient": "lower the learning rate",
    "natural direction": "raise the damping",
    "parameter": "lower the learning rate",
}


class NotFinite(LogpiError):  # noqa: N818
    """NaN or inf in `what`; `value` is 'nan' or 'inf'; `where` it is, as far as that is known.

    `where` has plain numbers: environment and step count from 0, iteration, epoch and minibatch from 1. The
    properties of the same names are None where the finding has no such place.
    """

    def __init__(
        self, what: str, value: str, cure: str, where: dict[str, int], parameter: Tensor | None = None
    ) -> None:
        self.what, self.value, self.cure, self.where, self.parameter = what, value, cure, where, parameter
        places = "".join(f", {name} {number}" for name, number in where.items())
        super().__init__(f"{'NaN' if value == 'nan' else value} in {what}{places}: {cure}.")

    environment = property(lambda self: self.where.get("environment"))
    step = property(lambda self: self.where.get("step"))
    iteration = property(lambda self: self.where.get("iteration"))
    epoch = property(lambda self: self.where.get("epoch"))
    minibatch = property(lambda self: self.where.get("minibatch"))

    def row(self) -> dict[str, Any]:
        """What a log keeps of it."""
        return {"what": self.what, "value": self.value, **self.where}


def check(what: str, number: Tensor, grads: Iterable[tuple[Tensor, Tensor]] = (), **where: int) -> None:
    """Raise NotFinite unless a scalar is finite. `grads`, (parameter, its gradient), say whose gradient is not."""
    if not math.isfinite(float(number)):
        sick = next((p for p, g in grads if not bool(g.isfinite().all())), None)
        raise NotFinite(what, kind(number), CURES[what], where, sick)


def kind(x: Tensor) -> str:
    """Which of the two it is; where both are, the NaN."""
    return "nan" if bool(x.isnan().any()) else "inf"
