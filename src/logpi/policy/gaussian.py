"""Diagonal Gaussians over a Box. Parameters: means and log-stds, [..., 2d].

The log-std is one parameter for all states, or an output of the network; it is a log, so it cannot turn negative.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from logpi import kl
from logpi.errors import LogpiError

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
NARROWEST, WIDEST = -5.0, 2.0  # log-stds that a network may give: beyond, its gradient is 0


def bounded(low: Tensor, high: Tensor, name: str) -> None:
    """Refuse a Box that has an infinite side."""
    if not bool((low.isfinite() & high.isfinite()).all()):
        raise LogpiError(f"The {name} head needs a bounded Box, this one has an infinite side: use --head gaussian.")


def floating(side: Tensor) -> Tensor:
    """A side of a Box, flat, at its own precision: rounded to float32 first, a clipped action leaves a float64 Box."""
    return side.flatten() if side.is_floating_point() else side.flatten().to(torch.get_default_dtype())


def rounded(side: Tensor, dtype: torch.dtype, inwards: float) -> Tensor:
    """A side of a Box in another float type, not outside of it: what is clipped to that is in the Box."""
    near = side.to(dtype)
    outside = near < side if inwards > 0 else near > side
    return near.nextafter(torch.full_like(near, inwards)).where(outside, near) if bool(outside.any()) else near


class Gaussian(nn.Module):
    """N(mean(s), std^2), or with `state` N(mean(s), std(s)^2); actions are clipped to the Box on their way to the environment,
    stored as drawn.
    """

    action_dtype = None
    choices = 0
    low: Tensor
    high: Tensor

    def __init__(self, low: Tensor, high: Tensor, log_std: float = 0.0, state: bool = False) -> None:
        super().__init__()
        if state and not NARROWEST <= log_std <= WIDEST:
            raise LogpiError(
                f"--log-std-init {log_std:g} is a spread that no state could change: with --log-std state give {NARROWEST:g} to"
                f" {WIDEST:g}."
            )
        self.box_shape, self.draws, self.start = tuple(low.shape), low.numel(), log_std
        self.outputs = 2 * self.draws if state else self.draws
        self.action_shape = (self.draws,)
        self.log_std = None if state else nn.Parameter(torch.full((self.draws,), log_std))
        self.whole = not low.is_floating_point()  # does the Box hold whole numbers?
        self.register_buffer("low", floating(low), persistent=False)
        self.register_buffer("high", floating(high), persistent=False)

    def forward(self, outputs: Tensor) -> Tensor:
        if self.log_std is not None:
            return torch.cat([outputs, self.log_std.expand_as(outputs)], -1)
        mean, change = outputs.chunk(2, -1)
        return torch.cat([mean, (self.start + change).clamp(NARROWEST, WIDEST)], -1)

    def noise(self, shape: Sequence[int], like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return like.new_empty((*shape, self.draws)).normal_(generator=generator)

    def sample(self, params: Tensor, generator: torch.Generator | None = None, noise: Tensor | None = None) -> Tensor:
        mean, log_std = params.chunk(2, -1)
        return mean + log_std.exp() * (self.noise(mean.shape[:-1], mean, generator) if noise is None else noise)

    def mode(self, params: Tensor) -> Tensor:
        return params.chunk(2, -1)[0]

    def log_prob(self, params: Tensor, action: Tensor) -> Tensor:
        mean, log_std = params.chunk(2, -1)
        z = (action - mean) * (-log_std).exp()
        return -(z.square() / 2 + log_std + _HALF_LOG_2PI).sum(-1)

    def entropy(self, params: Tensor, action: Tensor | None = None) -> Tensor:
        return (params.chunk(2, -1)[1] + 0.5 + _HALF_LOG_2PI).sum(-1)

    def kl(self, p: Tensor, q: Tensor) -> Tensor:
        return kl.gaussian(p, q)

    def fisher(self, params: Tensor, v: Tensor) -> Tensor:
        """1/std^2 on the mean, 2 on the log-std."""
        (_, log_std), (v_mean, v_log_std) = params.chunk(2, -1), v.chunk(2, -1)
        return torch.cat([v_mean * (-2 * log_std).exp(), 2 * v_log_std], -1)

    def to_env(self, action: Tensor) -> Tensor:
        clipped = action.clamp(self.low, self.high).reshape(action.shape[:-1] + self.box_shape)
        return clipped.round() if self.whole else clipped


class SquashedGaussian(Gaussian):
    """a = low + (high - low) (tanh(u) + 1) / 2, u ~ N(mean(s), std^2): the density of a, u stored.

    log pi(a) = log N(u) - sum log da/du. A bijection leaves the KL and the Fisher matrix those of u.
    """

    def __init__(self, low: Tensor, high: Tensor, log_std: float = 0.0, state: bool = False) -> None:
        super().__init__(low, high, log_std, state)
        bounded(low, high, "squashed")

    def _log_slope(self, u: Tensor) -> Tensor:
        """log da/du, exact for large |u| too: 1 - tanh^2 u = 4 / (e^u + e^-u)^2 (softplus is cut off at 20: 2e-9)."""
        return ((self.high - self.low) / 2).log() + 2 * (math.log(2) - torch.logaddexp(u, -u))

    def log_prob(self, params: Tensor, action: Tensor) -> Tensor:
        return super().log_prob(params, action) - self._log_slope(action).sum(-1)

    def entropy(self, params: Tensor, action: Tensor | None = None) -> Tensor:
        """H(u) + log da/du at the stored sample: an estimate, unbiased in value and gradient on policy.

        The sample is written as mean + std * noise with its own noise, so that the gradient is pathwise.
        """
        if action is None:
            raise ValueError("The entropy of a squashed Gaussian is estimated: it needs the actions drawn.")
        mean, log_std = params.chunk(2, -1)
        noise = ((action - mean) * (-log_std).exp()).detach()
        return super().entropy(params) + self._log_slope(mean + log_std.exp() * noise).sum(-1)

    def to_env(self, action: Tensor) -> Tensor:
        scaled = self.low + (self.high - self.low) * (action.tanh() + 1) / 2
        return super().to_env(scaled)
