"""What actions count for that another policy drew than the trainer's, by the numerics of its engine.

Three policies: mu, the sampler, whose log is `log_mu` of a Batch; pi_old, the trainer's when the batch was drawn (`log_pi`), of
which clips and ratios know; pi, the current one. A correction is pi_old / mu and a clip is of pi / pi_old: never both of one
factor.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from logpi import noise, objective

Kind = Literal["none", "truncated", "masked"]
Over = Literal["token", "sequence"]
WEIGHTS = {"truncated": objective.truncated_correction, "masked": objective.masked_correction}


@dataclass(frozen=True)
class Correction:
    """w = pi_old / mu, of a token or of all of ours in its row: min(w, limit), or 0 outside [1/limit, limit] (Yao et al. 2025).

    Without a cut the weight of a sequence leaves the gradient unbiased; that of a token is blind to how mu came to the text
    before it, and so biased but for a row's first token, with far less variance.
    """

    kind: Kind = "truncated"
    over: Over = "token"
    limit: float = 2.0

    def gap(self, log_pi: Tensor, log_mu: Tensor, mask: Tensor) -> Tensor:
        """log pi_old - log mu of each token, or of its row, [B, T]; 0 where it is not ours."""
        each = torch.where(mask, log_pi - log_mu, 0.0)
        return each if self.over == "token" else each.sum(-1, keepdim=True).expand_as(each)

    def weights(self, log_pi: Tensor, log_mu: Tensor, mask: Tensor) -> Tensor | None:
        """[B, T], no gradient; None where nothing is to be corrected."""
        if self.kind == "none":
            return None
        gap = self.gap(log_pi, log_mu, mask)
        return WEIGHTS[self.kind](gap, torch.zeros_like(gap), self.limit)

    def told(self, log_pi: Tensor, log_mu: Tensor, mask: Tensor) -> dict[str, float]:
        """How far sampler and trainer lie apart.

        sampler_gap, sampler_gap_max: |log pi_old - log mu| of our tokens. sampler_mass: the mean of pi_old / mu, 1 in expectation,
        or the share of the distribution that a sampler with a cut-off keeps. sampler_ess: the effective share of the weights.
        """
        each, gap = (log_pi - log_mu)[mask].double(), self.gap(log_pi, log_mu, mask)
        weighed = gap[mask] if self.over == "token" else gap[:, 0]
        found = (each.abs().mean(), each.abs().max(), each.exp().mean(), noise.ess(weighed))
        return dict(
            zip(("sampler_gap", "sampler_gap_max", "sampler_mass", "sampler_ess"), map(float, found), strict=True)
        )
