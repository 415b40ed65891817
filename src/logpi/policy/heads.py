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
from logpi.layout import leaves
from logpi.policy.bernoulli import Bernoulli
from logpi.policy.beta import Beta
from logpi.policy.categorical import Categorical
from logpi.policy.gaussian import Gaussian, SquashedGaussian
from logpi.policy.several import Several


class Head(Protocol):
    """Four questions: sample, log_prob, entropy, kl; a fifth where the answer is fast: fisher."""

    outputs: int  # how many numbers the network must give
    choices: int  # entries of a mask: actions that can be ruled out, 0 where there are none
    draws: int  # numbers of noise for an action
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

    def masked(self, params: Tensor, allowed: Tensor) -> Tensor:
        """The same with every action ruled out that is not `allowed` [..., choices] bool; heads of choices alone have it."""
        ...


BOX: dict[str, Any] = {"gaussian": Gaussian, "squashed": SquashedGaussian, "beta": Beta}
SPREAD = ("gaussian", "squashed")  # heads that have a log-std


def head_for(space: spaces.Space, box: str = "gaussian", log_std: str = "free", begin: float = 0.0) -> Any:
    """The head of an action space; `box` names the density on a Box: gaussian, squashed, beta.

    log_std: 'free', one parameter for all states, or 'state', an output of the network; it begins at `begin`.
    """
    if isinstance(space, spaces.Discrete):
        return Categorical(int(space.n), int(space.start))
    if isinstance(space, spaces.MultiDiscrete):
        return Several(
            [Categorical(int(n), int(start)) for n, start in zip(space.nvec.flat, space.start.flat, strict=True)],
            tuple(space.shape),
        )
    if isinstance(space, spaces.MultiBinary):
        return Bernoulli(tuple(space.shape))
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return Several([head_for(leaf, box, log_std, begin) for _, leaf in leaves(space)])
    if isinstance(space, spaces.Box):
        if box not in BOX:
            raise LogpiError(f"There is no policy head {box!r} for a Box.{nearest(box, BOX)}")
        more = {"log_std": begin, "state": log_std == "state"} if box in SPREAD else {}
        return BOX[box](torch.as_tensor(space.low), torch.as_tensor(space.high), **more)
    raise LogpiError(
        f"The action space {space} has no policy head: there are heads for Discrete, MultiDiscrete, MultiBinary and Box, and for"
        " Dict and Tuple of these."
    )
