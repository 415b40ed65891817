"""pi(a|s) as a family of distributions: what is asked of every one of them, and the choice by action space.

A head turns a network's outputs into *parameters* [..., P], one tensor, stored with the action that they drew;
everything else is a function of that tensor. `params` first, actions as drawn (raw), [...] comes back.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from gymnasium import spaces
from torch import Tensor

from logpi.errors import LogpiError, nearest
from logpi.policy.beta import Beta
from logpi.policy.categorical import Categorical
from logpi.policy.gaussian import Gaussian, SquashedGaussian


class Head(Protocol):
    """Four questions: sample, log_prob, entropy, kl; a fifth where the answer is fast: fisher."""

    outputs: int  # how many numbers the network must give
    action_shape: tuple[int, ...]  # of one raw action
    action_dtype: torch.dtype | None  # None: the parameters' own

    def __call__(self, outputs: Tensor) -> Tensor:
        """Network outputs [..., outputs] -> parameters [..., P]."""
        ...

    def noise(self, shape: Sequence[int], like: Tensor, generator: torch.Generator | None = None) -> Tensor | None:
        """What `sample` needs of chance for `shape` actions, drawn ahead; None where that depends on the parameters."""
        ...

    def sample(self, params: Tensor, generator: torch.Generator | None = None, noise: Any = None) -> Tensor:
        """An action, from `noise` where it was drawn ahead."""
        ...

    def mode(self, params: Tensor) -> Tensor:
        """The deterministic action."""
        ...

    def log_prob(self, params: Tensor, action: Tensor) -> Tensor: ...

    def entropy(self, params: Tensor, action: Tensor) -> Tensor:
        """H(pi), exact where there is a closed form, else an estimate from the action that was drawn."""
        ...

    def kl(self, p: Tensor, q: Tensor) -> Tensor:
        """KL(p || q) of two parameter records."""
        ...

    def fisher(self, params: Tensor, v: Tensor) -> Tensor:
        """F v, F = E_a[grad log pi grad log pi'] with respect to the parameters, v [..., P]."""
        ...

    def to_env(self, action: Tensor) -> Tensor:
        """The raw action as the environment takes it: clipped, scaled, offset."""
        ...


BOX: dict[str, Any] = {"gaussian": Gaussian, "squashed": SquashedGaussian, "beta": Beta}


def head_for(space: spaces.Space, box: str = "gaussian") -> Any:
    """The head of an action space; `box` names the density on a Box: gaussian, squashed, beta."""
    if isinstance(space, spaces.Discrete):
        return Categorical(int(space.n), int(space.start))
    if isinstance(space, spaces.Box):
        if box not in BOX:
            raise LogpiError(f"There is no policy head {box!r} for a Box.{nearest(box, BOX)}")
        return BOX[box](torch.as_tensor(space.low), torch.as_tensor(space.high))
    raise LogpiError(f"The action space {space} has no policy head: there are heads for Discrete and Box.")
