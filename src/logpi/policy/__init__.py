"""The policy: a network, a head, and what stands before and after them."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from logpi.batch import Batch
from logpi.device import widest
from logpi.errors import LogpiError, short
from logpi.layout import MASK, Piece, Seen, Taken, arrays, choices
from logpi.policy.encoder import network_for, trunk_for
from logpi.policy.gaussian import rounded
from logpi.policy.heads import Head, head_for
from logpi.policy.memory import Recurrent
from logpi.policy.networks import Build, Normaliser, orthogonal

__all__ = ["Decision", "Policy", "build_policy", "movable"]


def movable(module: nn.Module) -> dict[str, Tensor]:
    """The parameters that a step moves, by name: all but the frozen ones."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


class Decision(NamedTuple):
    """An action, and what it came from; of one environment or of n."""

    obs: Tensor  # normalised
    features: Tensor  # what network and critic read
    params: Tensor  # of the distribution
    raw: Tensor  # the action as the head has it
    action: Any  # as the environment takes it


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
        self.bytes = seen is None or (seen.plain and bool(seen.of("picture")))  # may observations be bytes?
        masks = seen.of("mask") if seen else []
        self.mask = slice(masks[0].begin, masks[-1].end) if masks else None  # where an observation says what is allowed
        self.normaliser: Normaliser | None = None  # of observations
        self.return_normaliser: Normaliser | None = None  # of rewards, by the discounted return; training only
        self.spec: dict[str, Any] = {}  # what `build_policy` needs to make it again
        self.kept: Tensor | None = None  # what `act` remembers, [n, size]
        self.bf16 = False  # does a part of it compute in bfloat16?

    def place(self, device: str, dtype: torch.dtype) -> "Policy":
        """Move everything to a device, the networks to a float type; statistics stay float64 where there is float64."""
        for head in self.head.modules():
            if hasattr(head, "low"):
                head.low, head.high = (rounded(head.low, dtype, math.inf), rounded(head.high, dtype, -math.inf))
        for part in filter(None, (self.trunk, self.memory, self.network, self.head)):
            part.to(device, dtype)
        for statistics in (self.normaliser, self.return_normaliser):
            if statistics is not None:
                statistics.to(device, widest(device))
        return self

    def must_fit(self, observations: spaces.Space, actions: spaces.Space) -> None:
        """Refuse an environment whose spaces are not those the policy was made for; bounds count for actions alone."""
        for name, space in (("observations", observations), ("actions", actions)):
            own = self.spec.get(name, space)
            if form(own) != form(space) or (name == "actions" and bounds(own) != bounds(space)):
                raise LogpiError(f"The environment's {name} are {space}, the policy was made for {own}.")

    def forward(self, seen: Tensor | Batch) -> Tensor:
        """Normalised observations [..., *obs], or rows of a batch, [N] actions of ours -> the distribution's parameters [..., P]."""
        if isinstance(seen, Tensor):
            if self.memory is not None:
                raise LogpiError(
                    "This policy has a memory, and an observation does not tell what came before it: use step, sequence or act."
                )
            return self.params(self.trunk(seen), seen)
        return self.params(self.features(seen), seen.ours(seen.obs))

    def features(self, b: Batch) -> Tensor:
        """What network and critic read, [N, F] of our actions in rows of a batch."""
        return self.trunk(b.ours(b.obs)) if self.memory is None else b.ours(self.sequence(b)[0])

    def sequence(self, b: Batch) -> tuple[Tensor, Tensor]:
        """With a memory: (features [B, T, F], what is kept after it [B, T, size]); see `Memory.sequence`."""
        obs = torch.where(b.mask.reshape(b.mask.shape + (1,) * (b.obs.dim() - 2)), b.obs, 0)
        later = b.mask.flip(-1).cumsum(-1).flip(-1) > 0  # behind the last action of ours nothing needs to begin anew
        over = torch.nn.functional.pad((b.ended | ~b.mask & later)[:, :-1], (1, 0))  # the step before ended an episode
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
        return self.head.masked(params, obs[..., self.mask] > 0.5)

    def kl_old(self, b: Batch, params: Tensor, turned: bool = False) -> Tensor:
        """KL(pi_old || pi) at our actions, [N], pi_old by the parameters that drew them; turned: KL(pi || pi_old)."""
        old = b.ours(b.params)  # type: ignore[arg-type]
        return self.head.kl(params, old) if turned else self.head.kl(old, params)

    def received(self, obs: Tensor, like: Tensor) -> Tensor:
        """Observations where `like` is and in its type; pictures of bytes stay bytes."""
        return obs.to(like.device) if self.bytes and obs.dtype == torch.uint8 else obs.to(like)

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
        return self.decide(obs, deterministic, generator).action

    @torch.no_grad()
    def decide(self, obs: Any, deterministic: bool = True, generator: torch.Generator | None = None) -> Decision:
        """`act`, and what stood between the observation and the action."""
        like = next(self.parameters())
        own = isinstance(obs, Tensor) or self.seen is None
        x = torch.as_tensor(obs if own else self._laid_out(obs), device=like.device)
        x = self.normalise(self.received(x, like))
        alone = self.memory is not None and x.dim() == len(self.seen.shape)  # type: ignore[union-attr]
        rows = x[None] if alone else x
        features = self.trunk(rows) if self.memory is None else self._recalled(rows)
        params = self.params(features, rows)
        x, features, params = (rows[0], features[0], params[0]) if alone else (rows, features, params)
        raw = self.head.mode(params) if deterministic else self.head.sample(params, generator)
        action = self.head.to_env(raw)
        if not isinstance(obs, Tensor):
            action = action.cpu().numpy() if self.taken is None else self.taken.unpack(action.cpu().numpy())
        return Decision(x, features, params, raw, action)

    def _laid_out(self, obs: Any) -> np.ndarray:
        """A raw observation or a stack of them, if it is of the space and its mask allows something."""
        seen, taken = self.seen, self.taken
        assert seen is not None
        try:
            x = seen.array(obs)
        except (ValueError, TypeError, KeyError, IndexError) as wrong:
            found, why = short(repr(obs), 60), short(str(wrong), 80)
            raise LogpiError(f"The observation {found} ({why}) is not of {short(str(seen.space), 200)}.") from wrong
        at = 0 if self.mask is None else self.mask.start
        for size, must in choices(taken.space) if taken is not None and self.mask is not None else ():
            if must and not x[..., at : at + size].any(-1).all():
                raise LogpiError(f"The {MASK} allows none of the {size} choices of a part: it must allow one at least.")
            at += size
        return x

    def _recalled(self, rows: Tensor) -> Tensor:
        """Features of n environments, and what is remembered moves on."""
        if self.kept is not None and len(self.kept) != len(rows):
            raise LogpiError(
                f"The policy remembers {len(self.kept)} episodes and is shown {len(rows)}: call its forget() first."
            )
        kept = self.start(len(rows)) if self.kept is None else self.kept
        features, self.kept = self.memory.step(self.trunk(rows), kept)
        return features

    def pack(self, obs: Tensor) -> str:
        """What minibatches of these are made of. "rows": of unlike length; "prompts": whose beginnings are read once; empty: steps."""
        return ""

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
    """Refuse a mask that does not fit the actions: as one array of all choices, or an array for each part."""
    sizes, parts = [piece.end - piece.begin for piece in seen.of("mask")], [n for n, _ in choices(actions)]
    if sizes and (sum(sizes) != head.choices or (len(sizes) > 1 and sizes != parts)):
        told, known = (" + ".join(map(str, x)) for x in (sizes, parts if len(sizes) > 1 else [head.choices]))
        raise LogpiError(f"{MASK} has {told} entries, and {actions} has {known} choices that it could rule out.")


def form(space: spaces.Space) -> Any:
    """What two spaces have in common that one policy fits."""
    return [
        (path, type(leaf).__name__, leaf.shape, *(str(getattr(leaf, name, "")) for name in ("n", "nvec", "start")))
        for path, leaf in arrays(space)
    ]


def bounds(space: spaces.Space) -> list[Any]:
    """Of every Box in it."""
    return [(leaf.low.tolist(), leaf.high.tolist()) for _, leaf in arrays(space) if isinstance(leaf, spaces.Box)]
