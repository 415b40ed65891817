"""Independent yes-or-no actions. Parameters: logits of yes, [..., n]."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from logpi.policy.categorical import RULED_OUT


class Bernoulli(nn.Module):
    """n coins; the environment takes them in its own shape."""

    action_dtype = torch.long

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.outputs = self.choices = self.draws = prod(shape)
        self.action_shape, self.box_shape = (self.outputs,), shape

    def forward(self, outputs: Tensor) -> Tensor:
        return outputs

    def noise(self, shape: Sequence[int], like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Logistic, [*shape, n]: the difference of two Gumbels."""
        race = like.new_empty((2, *shape, self.outputs)).exponential_(generator=generator).log()
        return race[1] - race[0]

    def sample(self, params: Tensor, generator: torch.Generator | None = None, noise: Tensor | None = None) -> Tensor:
        noise = self.noise(params.shape[:-1], params, generator) if noise is None else noise
        return (params + noise > 0).long()

    def mode(self, params: Tensor) -> Tensor:
        return (params > 0).long()

    def log_prob(self, params: Tensor, action: Tensor) -> Tensor:
        return logsigmoid(torch.where(action > 0, params, -params)).sum(-1)

    def entropy(self, params: Tensor, action: Tensor | None = None) -> Tensor:
        """-p log p - (1 - p) log(1 - p) = log(1 + e^-|x|) + |x| / (1 + e^|x|), summed."""
        x = params.abs()
        return (x * (-x).sigmoid() - logsigmoid(x)).sum(-1)

    def kl(self, p: Tensor, q: Tensor) -> Tensor:
        yes = p.sigmoid() * (logsigmoid(p) - logsigmoid(q))
        return (yes + (-p).sigmoid() * (logsigmoid(-p) - logsigmoid(-q))).sum(-1)

    def fisher(self, params: Tensor, v: Tensor) -> Tensor:
        """p (1 - p) v."""
        p = params.sigmoid()
        return p * (1 - p) * v

    def to_env(self, action: Tensor) -> Tensor:
        return action.reshape(action.shape[:-1] + self.box_shape)

    def masked(self, params: Tensor, allowed: Tensor) -> Tensor:
        """What is not allowed stays no."""
        return torch.where(allowed, params, RULED_OUT)
