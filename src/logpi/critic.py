"""What the critic says: V(s), or Q(s, a) and its mean under the policy; and how it is fitted to targets.

A critic reads `policy.trunk(obs)`: the features where policy and critic share a trunk, the observation where
they do not. A page whose `value_coef` is a number fits it jointly, in the same minibatches as the policy; every other
page leaves it a fit of its own, on detached features, so that a shared trunk never moves the policy out of the
region a natural step trusted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, Protocol

import torch
from gymnasium import spaces
from torch import Tensor, nn

from logpi import average, objective
from logpi.batch import Batch, Rows
from logpi.errors import LogpiError
from logpi.layout import Seen
from logpi.page import option
from logpi.policy import Policy
from logpi.policy.categorical import Categorical
from logpi.policy.encoder import front, network_for
from logpi.policy.networks import Build, mlp, orthogonal
from logpi.step.gradient import ascend


class Critic(Protocol):
    def __call__(self, features: Tensor, action: Tensor) -> Tensor:
        """What is fitted: V(s) or Q(s, a), [...]."""
        ...

    def evaluate(
        self, policy: Policy, features: Tensor, obs: Tensor, action: Tensor | None, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """value = V(s) or E_pi Q(s, .), and q = Q(s, a) of a Q critic, a drawn afresh where it is None."""
        ...


class V(nn.Module):
    """V(s): one number for each observation."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor, action: Tensor | None = None) -> Tensor:
        return self.network(features)[..., 0]

    def evaluate(
        self, policy: Policy, features: Tensor, obs: Tensor, action: Tensor | None, generator: torch.Generator
    ) -> dict[str, Tensor]:
        return {"value": self(features)}


class DiscreteQ(nn.Module):
    """Q(s, .) of finitely many actions; its mean under the policy is exact."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor, action: Tensor) -> Tensor:
        return self.network(features).gather(-1, action[..., None])[..., 0]

    def evaluate(
        self, policy: Policy, features: Tensor, obs: Tensor, action: Tensor | None, generator: torch.Generator
    ) -> dict[str, Tensor]:
        every, params = self.network(features), policy.params(features, obs)
        action = policy.head.sample(params, generator) if action is None else action
        return {"value": (params.softmax(-1) * every).sum(-1), "q": every.gather(-1, action[..., None])[..., 0]}


class ContinuousQ(nn.Module):
    """Q(s, a) of an action vector; its mean under the policy is that of `draws` fresh samples."""

    draws = 8

    def __init__(self, network: nn.Module, before: nn.Module | None = None) -> None:
        """before: from what it reads to what stands beside the action."""
        super().__init__()
        self.network, self.before = network, before

    def forward(self, features: Tensor, action: Tensor) -> Tensor:
        features = features if self.before is None else self.before(features)
        return self.network(torch.cat([features, action.to(features)], -1))[..., 0]

    def evaluate(
        self, policy: Policy, features: Tensor, obs: Tensor, action: Tensor | None, generator: torch.Generator
    ) -> dict[str, Tensor]:
        params = policy.params(features, obs)
        action = policy.head.sample(params, generator) if action is None else action
        fresh = policy.head.sample(params.expand(self.draws, *params.shape), generator)
        return {
            "value": self(features.expand(self.draws, *features.shape), fresh).mean(0),
            "q": self(features, action),
        }


def seen(obs: Tensor, x: Tensor) -> Tensor:
    """x [...], or the NaN or inf of its observation [..., *obs]: a tanh would hide an inf."""
    if not obs.is_floating_point():
        return x
    flat = obs.flatten(x.dim())
    return torch.where(flat.isfinite().all(-1), x, flat.abs().amax(-1))


def build_critic(
    kind: str | None, policy: Policy, observations: spaces.Space, hidden: Sequence[int], network: Build | None = None
) -> nn.Module | None:
    """The critic a page asks for ('v', 'q' or None): a network of its own, or a head on the policy's trunk."""
    if kind is None:
        return None
    if kind not in ("v", "q"):
        raise LogpiError(f"A page's critic is 'v', 'q' or None, not {kind!r}.")
    listed, head = kind == "q" and isinstance(policy.head, Categorical), policy.head
    outputs = head.outputs if listed else 1
    beside = head.action_shape[0] if kind == "q" and not listed else 0  # numbers of an action that it reads, too
    if policy.shared:
        body: nn.Module = orthogonal(nn.Linear(int(policy.network.in_features) + beside, outputs), 1.0)  # type: ignore[arg-type]
        return V(body) if kind == "v" else DiscreteQ(body) if listed else ContinuousQ(body)
    seen = Seen(observations)
    if not beside:
        body = network_for(seen, outputs, hidden, 1.0, network)
        return DiscreteQ(body) if listed else V(body)
    before, size, _ = front(seen, "auto")
    body = network(size + beside, 1) if network else mlp(size + beside, 1, hidden, gain=1.0)
    return ContinuousQ(body, before[0] if before else None)


@dataclass(frozen=True)
class Fit:
    """How a separate critic is fitted."""

    lr: float
    epochs: int
    minibatches: int


class Agreement:
    """-mean (V - target)^2 of a minibatch: what a separate fit ascends, on detached features."""

    moves = "critic"

    def __init__(self, critic: nn.Module, policy: Policy, rows: Rows, fused: Any = None) -> None:
        self.critic, self.policy, self.rows, self.fused = critic, policy, rows, fused

    def __call__(self, mini: Batch) -> Iterator[Tensor]:
        for part, weight in self.rows.parts(mini, self.average(mini.mask)):
            with torch.no_grad():
                features = self.policy.features(part)
            said = Value(part.back(self.critic(features, part.ours(part.action))))
            yield average.total(self.gain(said, part), weight, part.mask)

    def gain(self, now: Any, part: Any) -> Tensor:
        return -objective.value_error(now.value, part.target)

    def average(self, mask: Tensor) -> Tensor:
        return average.weights("per_action", mask)


class Value(NamedTuple):
    """What a critic says now, [..., T]."""

    value: Tensor


def fit(
    critic: nn.Module, policy: Policy, rows: Rows, optimizer: torch.optim.Optimizer, how: Fit, fused: Any = None
) -> dict[str, Tensor]:
    """Regress the critic on the targets over epochs of minibatches."""
    agreement = Agreement(critic, policy, rows, fused)
    return {"value_loss": -ascend(agreement, rows, optimizer, how.epochs, how.minibatches)["surrogate"]}


def plan(method: Any) -> Fit:
    """The page's figures for a separate fit."""
    return Fit(*(option(method, f"critic_{f.name}") for f in fields(Fit)))
