"""Several independent actions at once: pi(a|s) is the product of its parts'. Records lie side by side."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn


class Several(nn.Module):
    """One head for each part. An action is one vector; it is of whole numbers where all its parts are.

    The environment takes them in `shape`; None: side by side.
    """

    def __init__(self, heads: Sequence[Any], shape: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.heads: Any = nn.ModuleList(heads)
        self.outputs = sum(h.outputs for h in heads)
        self.choices, self.draws = (sum(getattr(h, name) for h in heads) for name in ("choices", "draws"))
        self.widths = [prod(h.action_shape) for h in heads]
        self.action_shape, self.box_shape = (sum(self.widths),), (-1,) if shape is None else shape
        self.action_dtype = torch.long if all(h.action_dtype == torch.long for h in heads) else None
        self.params = [h(torch.zeros(h.outputs)).numel() for h in heads]

    def forward(self, outputs: Tensor) -> Tensor:
        shares = outputs.split([h.outputs for h in self.heads], -1)
        return torch.cat([h(x) for h, x in zip(self.heads, shares, strict=True)], -1)

    def _each(self, question: str, params: Tensor, *more: Tensor) -> list[Tensor]:
        """What every part answers about its own parameters, and its own share of what has as many numbers as they."""
        split = [x.split(self.params, -1) for x in (params, *more)]
        return [getattr(h, question)(*own) for h, *own in zip(self.heads, *split, strict=True)]

    def _of_actions(self, question: str, params: Tensor, action: Tensor) -> Tensor:
        """The sum of what every part says of its own action."""
        actions = action.split(self.widths, -1)
        every = zip(self.heads, params.split(self.params, -1), map(self._own, self.heads, actions), strict=True)
        return torch.stack([getattr(h, question)(p, a) for h, p, a in every]).sum(0)

    def _own(self, head: Any, action: Tensor) -> Tensor:
        """A part's action in its own shape and type."""
        action = action if head.action_dtype is None else action.to(head.action_dtype)
        return action if head.action_shape else action[..., 0]

    def _together(self, actions: Sequence[Tensor], like: Tensor) -> Tensor:
        flat = [a if h.action_shape else a[..., None] for h, a in zip(self.heads, actions, strict=True)]
        return torch.cat(flat if self.action_dtype else [a.to(like) for a in flat], -1)

    def noise(self, shape: Sequence[int], like: Tensor, generator: torch.Generator | None = None) -> Tensor | None:
        """Each part's, one after the other; None where one of them has to see its parameters first."""
        drawn = [h.noise(shape, like, generator) for h in self.heads]
        return None if any(x is None for x in drawn) else torch.cat(drawn, -1)

    def sample(self, params: Tensor, generator: torch.Generator | None = None, noise: Tensor | None = None) -> Tensor:
        drawn: Any = [None] * len(self.heads) if noise is None else noise.split([h.draws for h in self.heads], -1)
        every = zip(self.heads, params.split(self.params, -1), drawn, strict=True)
        return self._together([h.sample(p, generator, x) for h, p, x in every], params)

    def mode(self, params: Tensor) -> Tensor:
        return self._together(self._each("mode", params), params)

    def log_prob(self, params: Tensor, action: Tensor) -> Tensor:
        return self._of_actions("log_prob", params, action)

    def entropy(self, params: Tensor, action: Tensor) -> Tensor:
        return self._of_actions("entropy", params, action)

    def kl(self, p: Tensor, q: Tensor) -> Tensor:
        return torch.stack(self._each("kl", p, q)).sum(0)

    def fisher(self, params: Tensor, v: Tensor) -> Tensor:
        return torch.cat(self._each("fisher", params, v), -1)

    def to_env(self, action: Tensor) -> Tensor:
        """Of a Dict or a Tuple one vector: `layout.Taken` knows its parts."""
        parts = [h.to_env(self._own(h, a)) for h, a in zip(self.heads, action.split(self.widths, -1), strict=True)]
        flat = torch.cat([x.reshape(*action.shape[:-1], -1) for x in parts], -1)
        return flat.reshape(*action.shape[:-1], *self.box_shape)

    def masked(self, params: Tensor, allowed: Tensor) -> Tensor:
        """allowed: the entries of those parts that have some, in their order."""
        shares = allowed.split([h.choices for h in self.heads], -1)
        every = zip(self.heads, params.split(self.params, -1), shares, strict=True)
        return torch.cat([h.masked(p, x) if h.choices else p for h, p, x in every], -1)
