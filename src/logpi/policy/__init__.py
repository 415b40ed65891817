"""The policy: a network, a head, and what stands before and after them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from logpi.device import widest
from logpi.errors import LogpiError
from logpi.policy.heads import Head, head_for
from logpi.policy.networks import Build, Normaliser, mlp, orthogonal, trunk

__all__ = ["Policy", "build_policy"]


class Policy(nn.Module):
    """pi(a|s): `trunk` (nothing, unless a critic shares it), `network`, `head`.

    `normalise` stands before all of it; a rollout applies it once, so that a Batch holds what the policy saw and
    `forward` takes normalised observations. `act` takes raw ones.
    """

    head: Any  # a Head; torch has no protocols for modules

    def __init__(self, trunk: nn.Module, network: nn.Module, head: Head, spec: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.trunk, self.network, self.head = trunk, network, head
        self.shared = not isinstance(trunk, nn.Identity)  # does a critic read the trunk's features too?
        self.normaliser: Normaliser | None = None  # of observations
        self.return_normaliser: Normaliser | None = None  # of rewards, by the discounted return; training only
        self.spec = spec or {}  # what `build_policy` needs to make it again

    def place(self, device: str, dtype: torch.dtype) -> "Policy":
        """Move everything to a device, the networks to a float type; statistics stay float64 where there is float64."""
        for part in (self.trunk, self.network, self.head):
            part.to(device, dtype)
        for statistics in (self.normaliser, self.return_normaliser):
            if statistics is not None:
                statistics.to(device, widest(device))
        return self

    def must_fit(self, observations: spaces.Space, actions: spaces.Space) -> None:
        """Refuse an environment whose spaces are not those the policy was made for."""
        for name, space in (("observations", observations), ("actions", actions)):
            own = self.spec.get(name, space)
            if (
                own.shape != space.shape
                or type(own) is not type(space)
                or getattr(own, "n", 0) != getattr(space, "n", 0)
            ):
                raise LogpiError(f"The environment's {name} are {space}, the policy was made for {own}.")

    def forward(self, obs: Tensor) -> Tensor:
        """Normalised observations [..., *obs] -> the distribution's parameters [..., P]."""
        return self.head(self.network(self.trunk(obs) if self.shared else obs))

    def from_features(self, features: Tensor) -> Tensor:
        return self.head(self.network(features))

    def normalise(self, obs: Tensor) -> Tensor:
        return obs if self.normaliser is None else self.normaliser(obs)

    def sample(self, obs: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """a ~ pi(.|s) and log pi(a|s); obs normalised."""
        params = self(obs)
        action = self.head.sample(params, generator)
        return action, self.head.log_prob(params, action)

    def log_prob(self, obs: Tensor, action: Tensor) -> Tensor:
        return self.head.log_prob(self(obs), action)

    def entropy(self, obs: Tensor, action: Tensor) -> Tensor:
        return self.head.entropy(self(obs), action)

    @torch.no_grad()
    def act(
        self, obs: np.ndarray | Tensor, deterministic: bool = True, generator: torch.Generator | None = None
    ) -> np.ndarray | Tensor:
        """The action to give to the environment for a raw observation, or for a stack of them.

        Normalises, chooses (the mode, or a sample), clips or scales. numpy in, numpy out.
        """
        like = next(self.parameters())
        x = torch.as_tensor(obs, device=like.device).to(like.dtype)
        params = self(self.normalise(x))
        raw = self.head.mode(params) if deterministic else self.head.sample(params, generator)
        action = self.head.to_env(raw)
        return action if isinstance(obs, Tensor) else action.cpu().numpy()


def build_policy(
    observations: spaces.Space,
    actions: spaces.Space,
    head: str = "gaussian",
    hidden: Sequence[int] = (64, 64),
    shared: bool = False,
    normalise_obs: bool = False,
    normalise_reward: bool = False,
    network: Build | None = None,
) -> Policy:
    """The policy for two spaces: MLP of tanh layers, or the user's `network(inputs, outputs)`."""
    size, family = vector_size(observations), head_for(actions, head)
    width = hidden[-1] if hidden else size
    if shared:
        body = network(size, width) if network else trunk(size, hidden)
        policy = Policy(body, orthogonal(nn.Linear(width, family.outputs), 0.01), family)
    else:
        body = network(size, family.outputs) if network else mlp(size, family.outputs, hidden, gain=0.01)
        policy = Policy(nn.Identity(), body, family)
    policy.normaliser = Normaliser((size,)) if normalise_obs else None
    policy.return_normaliser = Normaliser((), limit=float("inf"), centred=False) if normalise_reward else None
    return policy


def vector_size(space: spaces.Space) -> int:
    """The length of a vector observation."""
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return int(space.shape[0])
    raise LogpiError(
        f"The observation space {space} is not a vector: wrap the environment with gymnasium.wrappers.FlattenObservation."
    )
