"""The policy: a network, a head, and what stands before and after them."""

from collections.abc import Sequence
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from logpi.batch import Batch
from logpi.device import widest
from logpi.errors import LogpiError
from logpi.layout import MASK, Piece, Seen, Taken, leaves
from logpi.policy.encoder import network_for, trunk_for
from logpi.policy.heads import Head, head_for
from logpi.policy.memory import Recurrent
from logpi.policy.networks import Build, Normaliser, orthogonal

__all__ = ["Policy", "build_policy"]


class Policy(nn.Module):
    """pi(a|s): `trunk` (nothing, unless a critic shares it), `memory` (nothing, or of what came before), `network`, `head`.

    `normalise` stands before all of it; a rollout applies it once, so that a Batch holds what the policy saw and
    `forward` takes normalised observations. `act` takes raw ones.
    """

    head: Any  # a Head; torch has no protocols for modules
    memory: Any  # a Memory, or None

    def __init__(
        self,
        trunk: nn.Module,
        network: nn.Module,
        head: Head,
        seen: Seen | None = None,
        taken: Taken | None = None,
        memory: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.trunk, self.network, self.head, self.memory = trunk, network, head, memory
        self.shared = not isinstance(trunk, nn.Identity)  # does a critic read the trunk's features too?
        self.seen, self.taken = seen, taken  # how observations and actions lie in arrays; None: as they are
        self.mask = next(iter(seen.of("mask")), None) if seen else None  # where an observation says what is allowed
        self.normaliser: Normaliser | None = None  # of observations
        self.return_normaliser: Normaliser | None = None  # of rewards, by the discounted return; training only
        self.spec: dict[str, Any] = {}  # what `build_policy` needs to make it again
        self.kept: Tensor | None = None  # what `act` remembers, [n, size]
        self.bf16 = False  # does a part of it compute in bfloat16?

    def place(self, device: str, dtype: torch.dtype) -> "Policy":
        """Move everything to a device, the networks to a float type; statistics stay float64 where there is float64."""
        for part in filter(None, (self.trunk, self.memory, self.network, self.head)):
            part.to(device, dtype)
        for statistics in (self.normaliser, self.return_normaliser):
            if statistics is not None:
                statistics.to(device, widest(device))
        return self

    def must_fit(self, observations: spaces.Space, actions: spaces.Space) -> None:
        """Refuse an environment whose spaces are not those the policy was made for."""
        for name, space in (("observations", observations), ("actions", actions)):
            own = self.spec.get(name, space)
            if form(own) != form(space):
                raise LogpiError(f"The environment's {name} are {space}, the policy was made for {own}.")

    def forward(self, seen: Tensor | Batch) -> Tensor:
        """Normalised observations [..., *obs], or rows of a batch, [N] actions of ours -> the distribution's parameters [..., P]."""
        if isinstance(seen, Tensor):
            return self.params(self.trunk(seen), seen)
        return self.params(self.features(seen), seen.ours(seen.obs))

    def features(self, b: Batch) -> Tensor:
        """What network and critic read, [N, F] of our actions in rows of a batch."""
        return self.trunk(b.ours(b.obs)) if self.memory is None else b.ours(self.sequence(b)[0])

    def sequence(self, b: Batch) -> tuple[Tensor, Tensor]:
        """With a memory: (features [B, T, F], what is kept after it [B, T, size]); see `Memory.sequence`."""
        obs = torch.where(b.mask.reshape(b.mask.shape + (1,) * (b.obs.dim() - 2)), b.obs, 0)
        over = torch.nn.functional.pad((b.ended | ~b.mask)[:, :-1], (1, 0))  # the step before ended an episode
        return self.memory.sequence(self.trunk(obs), b.memory, over)

    def step(self, obs: Tensor, kept: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Parameters of n environments, and what is kept of them now."""
        if self.memory is None:
            return self(obs), None
        features, kept = self.memory.step(self.trunk(obs), kept)
        return self.params(features, obs), kept

    def params(self, features: Tensor, obs: Tensor) -> Tensor:
        """What the head says of features; obs tells what is allowed."""
        params = self.head(self.network(features))
        if self.mask is None:
            return params
        return self.head.masked(params, obs[..., self.mask.begin : self.mask.end] > 0.5)

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
    def act(self, obs: Any, deterministic: bool = True, generator: torch.Generator | None = None) -> Any:
        """The action for a raw observation, or for a stack of them, in the environment's own form; tensors in, tensors out.

        Normalises, chooses (the mode, or a sample), clips or scales. A memory goes on from the call before: `forget` begins
        an episode. Tensors are laid out as `seen` and `taken` say.
        """
        like = next(self.parameters())
        own = isinstance(obs, Tensor) or self.seen is None or self.seen.plain
        x = torch.as_tensor(obs if own else self.seen.array(obs), device=like.device)  # type: ignore[union-attr]
        x = self.normalise(x if x.dtype == torch.uint8 else x.to(like.dtype))
        params = self(x) if self.memory is None else self._recalled(x)
        raw = self.head.mode(params) if deterministic else self.head.sample(params, generator)
        action = self.head.to_env(raw)
        if isinstance(obs, Tensor):
            return action
        return action.cpu().numpy() if self.taken is None else self.taken.unpack(action.cpu().numpy())

    def _recalled(self, x: Tensor) -> Tensor:
        """Parameters of one environment or of n, and what is remembered moves on."""
        rows = x if x.dim() > len(self.seen.shape) else x[None]  # type: ignore[union-attr]
        params, self.kept = self.step(rows, self.start(len(rows)) if self.kept is None else self.kept)
        return params if rows is x else params[0]

    def start(self, n: int) -> Tensor | None:
        """What is kept at the start of n episodes; None without a memory."""
        like = next(self.parameters())
        return None if self.memory is None else like.new_zeros(n, self.memory.size)

    def forget(self, ended: Tensor | None = None) -> None:
        """What `act` remembers of episodes: of those that ended [n], or of all."""
        if ended is None or self.kept is None:
            self.kept = None
        else:
            self.kept = torch.where(ended.to(self.kept.device)[:, None], 0.0, self.kept)


def build_policy(
    observations: spaces.Space,
    actions: spaces.Space,
    head: str = "gaussian",
    hidden: Sequence[int] = (64, 64),
    shared: bool = False,
    normalise_obs: bool = False,
    normalise_reward: bool = False,
    network: Build | None = None,
    log_std: str = "free",
    log_std_init: float = 0.0,
    pictures: str = "auto",
    memory: str = "none",
) -> Policy:
    """The policy for two spaces: MLP of tanh layers, after the pictures' own network, or the user's `network(inputs, outputs)`.

    Pictures and a memory are shared with the critic, whatever `shared` says.
    """
    seen, family = Seen(observations), head_for(actions, head, log_std, log_std_init)
    must_be_of(seen, family, actions)
    if shared or memory != "none" or seen.of("picture"):
        body, width = trunk_for(seen, hidden, pictures, network)
        mind = Recurrent(width, hidden[-1] if hidden else width, memory) if memory != "none" else None
        last = orthogonal(nn.Linear(mind.width if mind else width, family.outputs), 0.01)
        policy = Policy(body, last, family, seen, Taken(actions), mind)
    else:
        policy = Policy(
            nn.Identity(), network_for(seen, family.outputs, hidden, 0.01, network), family, seen, Taken(actions)
        )
    numbers = [piece for piece in seen.pieces if piece.kind == "numbers"]
    if normalise_obs and numbers:
        policy.normaliser = Normaliser(seen.shape, only=None if seen.plain else _entries(seen, numbers))
    policy.return_normaliser = Normaliser((), limit=float("inf"), centred=False) if normalise_reward else None
    return policy


def _entries(seen: Seen, pieces: Sequence[Piece]) -> Tensor:
    """[D] bool: the numbers of these pieces."""
    found = torch.zeros(seen.shape, dtype=torch.bool)
    for piece in pieces:
        found[piece.begin : piece.end] = True
    return found


def must_be_of(seen: Seen, head: Any, actions: spaces.Space) -> None:
    """Refuse a mask that does not fit the actions."""
    for piece in seen.of("mask"):
        if piece.end - piece.begin != head.choices:
            raise LogpiError(
                f"{MASK} has {piece.end - piece.begin} entries, and {actions} has {head.choices} choices that it could rule out."
            )


def form(space: spaces.Space) -> Any:
    """What two spaces have in common that one policy fits."""
    return [
        (path, type(leaf).__name__, leaf.shape, str(getattr(leaf, "nvec", getattr(leaf, "n", ""))))
        for path, leaf in leaves(space)
    ]
