"""Networks: an MLP with the initialisation of the field, and the user's own by import path."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Build = Callable[[int, int], nn.Module]  # (inputs, outputs) -> a module from [..., inputs] to [..., outputs]


def orthogonal(layer: nn.Linear, gain: float) -> nn.Linear:
    """Orthogonal weights times `gain`, no bias (Saxe et al. 2014): sqrt 2 inside, 0.01 policy, 1 value."""
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


class Layers(nn.Sequential):
    """nn.Sequential that calls its layers' forward directly: for a few rows the hook checks cost a third of the pass."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self._modules.values():
            x = layer.forward(x)
        return x


def mlp(inputs: int, outputs: int, hidden: Sequence[int] = (64, 64), gain: float = 1.0) -> nn.Sequential:
    """Linear, tanh, ..., linear; `gain` scales the last layer."""
    body = trunk(inputs, hidden)
    return body.append(orthogonal(nn.Linear(hidden[-1] if hidden else inputs, outputs), gain))


def trunk(inputs: int, hidden: Sequence[int] = (64, 64)) -> nn.Sequential:
    """The hidden part alone, for a policy and a critic that share it."""
    layers: list[nn.Module] = []
    for n_in, n_out in zip([inputs, *hidden], hidden, strict=False):
        layers += [orthogonal(nn.Linear(n_in, n_out), math.sqrt(2)), nn.Tanh()]
    return Layers(*layers)


class Normaliser(nn.Module):
    """(x - mean) / std of all that was seen, clipped to +-limit. `forward` never changes the statistics.

    `update` moves them, once an iteration, between an update and the next rollout (Chan's parallel variance).
    They are buffers: saved with the policy, frozen in evaluation.
    """

    mean: Tensor
    var: Tensor
    count: Tensor
    only: Tensor | None

    def __init__(
        self, shape: Sequence[int], limit: float = 10.0, centred: bool = True, only: Tensor | None = None
    ) -> None:
        """only [*shape] bool: the numbers that are normalised, others stay as they are. None: all."""
        super().__init__()
        self.limit, self.centred = limit, centred
        self.register_buffer("mean", torch.zeros(tuple(shape), dtype=torch.float64))
        self.register_buffer("var", torch.ones(tuple(shape), dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("only", only, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        centred = x - self.mean.to(x.dtype) if self.centred else x
        scaled = (centred * (self.var + 1e-8).rsqrt().to(x.dtype)).clamp(-self.limit, self.limit)
        return scaled if self.only is None else torch.where(self.only, scaled, x)

    def inverse(self, x: Tensor) -> Tensor:
        """What `forward` was given, but for what it clipped."""
        centre = self.mean.to(x.dtype) if self.centred else 0.0
        raw = x * (self.var + 1e-8).sqrt().to(x.dtype) + centre
        return raw if self.only is None else torch.where(self.only, raw, x)

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """x [N, *shape]: joins N observations to the statistics."""
        x = x.to(self.mean)
        n, total = len(x), self.count + len(x)
        if not n:
            return
        shift = x.mean(0) - self.mean
        square = x.var(0, correction=0) * n + self.var * self.count + shift.square() * self.count * n / total
        self.mean += shift * n / total
        self.var.copy_(square / total)
        self.count.copy_(total)
