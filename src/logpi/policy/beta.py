"""Independent Betas over a bounded Box (Chou et al. 2017). Parameters: alphas and betas, [..., 2d]."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from logpi import kl
from logpi.policy.gaussian import bounded, floating


class Beta(nn.Module):
    """a = low + (high - low) x, x ~ Beta(alpha(s), beta(s)), both above 1 (one mode); x is stored.

    No mass outside the Box, so nothing is clipped and nothing is biased at the border.
    """

    action_dtype = None
    choices = draws = 0
    low: Tensor
    high: Tensor

    def __init__(self, low: Tensor, high: Tensor) -> None:
        super().__init__()
        bounded(low, high, "beta")
        self.box_shape, self.outputs = tuple(low.shape), 2 * low.numel()
        self.action_shape = (low.numel(),)
        self.whole = not low.is_floating_point()
        self.register_buffer("low", floating(low), persistent=False)
        self.register_buffer("high", floating(high), persistent=False)

    def forward(self, outputs: Tensor) -> Tensor:
        return 1 + softplus(outputs)

    def noise(self, shape: Sequence[int], like: Tensor, generator: torch.Generator | None = None) -> None:
        """None: what has to be drawn depends on the parameters."""

    def sample(self, params: Tensor, generator: torch.Generator | None = None, noise: None = None) -> Tensor:
        """x = g / (g + h) of two Gammas, kept off the border where the density of a float is not finite."""
        gammas = torch._standard_gamma(params, generator=generator)
        g, h = gammas.chunk(2, -1)
        edge = torch.finfo(params.dtype).eps
        return (g / (g + h)).clamp(edge, 1 - edge)

    def mode(self, params: Tensor) -> Tensor:
        alpha, beta = params.chunk(2, -1)
        total = alpha + beta - 2
        return torch.where(total > 0, (alpha - 1) / total, 0.5)  # flat where both are 1

    def log_prob(self, params: Tensor, action: Tensor) -> Tensor:
        alpha, beta = params.chunk(2, -1)
        log_norm = torch.lgamma(alpha) + torch.lgamma(beta) - torch.lgamma(alpha + beta) + (self.high - self.low).log()
        return ((alpha - 1) * action.log() + (beta - 1) * (-action).log1p() - log_norm).sum(-1)

    def entropy(self, params: Tensor, action: Tensor | None = None) -> Tensor:
        alpha, beta = params.chunk(2, -1)
        log_norm = torch.lgamma(alpha) + torch.lgamma(beta) - torch.lgamma(alpha + beta) + (self.high - self.low).log()
        spread = (alpha - 1) * torch.digamma(alpha) + (beta - 1) * torch.digamma(beta)
        return (log_norm - spread + (alpha + beta - 2) * torch.digamma(alpha + beta)).sum(-1)

    def kl(self, p: Tensor, q: Tensor) -> Tensor:
        return kl.beta(p, q)

    def fisher(self, params: Tensor, v: Tensor) -> Tensor:
        """diag(trigamma(alpha), trigamma(beta)) - trigamma(alpha + beta) on both."""
        alpha, beta = params.chunk(2, -1)
        v_alpha, v_beta = v.chunk(2, -1)
        both = torch.polygamma(1, alpha + beta) * (v_alpha + v_beta)
        return torch.cat([torch.polygamma(1, alpha) * v_alpha - both, torch.polygamma(1, beta) * v_beta - both], -1)

    def to_env(self, action: Tensor) -> Tensor:
        scaled = self.low + (self.high - self.low) * action
        inside = scaled.clamp(self.low, self.high).reshape(action.shape[:-1] + self.box_shape)  # the sum rounds
        return inside.round() if self.whole else inside
