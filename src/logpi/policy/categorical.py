"""pi(a|s) over finitely many actions. Parameters: logits [..., A]."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from logpi import kl

RULED_OUT = -1e30  # a logit: finite, and so far below any other that its exponential is 0 in every float type


class Categorical(nn.Module):
    """A softmax over `n` actions, numbered from `start` in the environment."""

    action_shape: tuple[int, ...] = ()
    action_dtype = torch.long

    def __init__(self, n: int, start: int = 0) -> None:
        super().__init__()
        self.outputs = self.choices = self.draws = n
        self.start = start

    def forward(self, outputs: Tensor) -> Tensor:
        return outputs

    def noise(self, shape: Sequence[int], like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """When each action would arrive, were all equally likely: [*shape, A], exponential."""
        return like.new_empty((*shape, self.outputs)).exponential_(generator=generator)

    def sample(self, params: Tensor, generator: torch.Generator | None = None, noise: Tensor | None = None) -> Tensor:
        """argmax(logits + Gumbel noise) is distributed as the softmax: no normalising, no host sync."""
        race = self.noise(params.shape[:-1], params, generator) if noise is None else noise
        return (params - race.log()).argmax(-1)

    def mode(self, params: Tensor) -> Tensor:
        return params.argmax(-1)

    def log_prob(self, params: Tensor, action: Tensor) -> Tensor:
        return params.log_softmax(-1).gather(-1, action[..., None])[..., 0]

    def entropy(self, params: Tensor, action: Tensor | None = None) -> Tensor:
        log_p = params.log_softmax(-1)
        return -(log_p.exp() * log_p.clamp(min=torch.finfo(log_p.dtype).min)).sum(-1)  # 0 * -inf would be NaN

    def kl(self, p: Tensor, q: Tensor) -> Tensor:
        return kl.categorical(p, q)

    def fisher(self, params: Tensor, v: Tensor) -> Tensor:
        """(diag(p) - p p') v."""
        p = params.softmax(-1)
        return p * (v - (p * v).sum(-1, keepdim=True))

    def to_env(self, action: Tensor) -> Tensor:
        return action + self.start if self.start else action

    def masked(self, params: Tensor, allowed: Tensor) -> Tensor:
        """Probability and gradient of what is not allowed are exactly 0."""
        return torch.where(allowed, params, RULED_OUT)
