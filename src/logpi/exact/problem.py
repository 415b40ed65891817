"""A problem on which an estimator is judged: a finite process, the policy that is to improve, and what its critic says."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from logpi.batch import Batch
from logpi.envs.tabular import Table
from logpi.errors import LogpiError, short
from logpi.exact import mdp, trajectories
from logpi.exact.trajectories import Trajectories
from logpi.policy import Policy


class Padded(Batch):
    """Rows whose padding is zero and may enter a network: nothing depends on the mask's values, as `vmap` needs."""

    def ours(self, x: Tensor) -> Tensor:
        return x

    def back(self, x: Tensor) -> Tensor:
        return x


class Direction(NamedTuple):
    """What an estimator may be the gradient of."""

    name: str
    gradient: Tensor  # [P]


@dataclass(frozen=True, eq=False)
class Problem:
    """A table, a float64 policy over its actions, and all else that a batch may hold.

    obs [S, F] is what the policy sees in each state. The critic says the true V and Q, and is off by a normal
    draw for each state (and action) of `critic_error` standard deviations of Q. `behaviour` drew the actions (None: the policy itself).
    """

    name: str
    table: Table
    policy: Policy
    obs: Tensor
    gamma: float = 1.0
    reference: Policy | None = None
    behaviour: Policy | None = None
    critic_error: float = 0.0
    states: tuple[str, ...] = ()  # names, for sentences
    actions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for role in ("policy", "reference", "behaviour"):
            self._must_fit(role, getattr(self, role))
        over = float(self.table.start[self.table.terminal].sum())
        if over:
            cure = "start where there is something to do"
            raise LogpiError(f"{self.name} starts on a terminal state with probability {over:g}: {cure}.")

    def _must_fit(self, role: str, policy: Policy | None) -> None:
        if policy is None:
            return
        asked = f"float64 logits {list(self.table.P.shape[:2])} from obs {list(self.obs.shape)}, a row for each state"
        try:
            with torch.no_grad():
                logits = policy(self.obs)
        except RuntimeError as wrong:
            raise LogpiError(f"The {role} of {self.name} must give {asked}: {short(str(wrong))}.") from wrong
        if logits.shape != self.table.P.shape[:2] or logits.dtype != torch.float64:
            found = f"{str(logits.dtype).removeprefix('torch.')} {list(logits.shape)}"
            raise LogpiError(f"The {role} of {self.name} gives {found}: it must give {asked}.")

    @property
    def limit(self) -> int:
        return self.table.limit

    @cached_property
    def pi(self) -> Tensor:
        """pi(a|s), [S, A]."""
        return mdp.probabilities(self.policy, self.obs).detach()

    @cached_property
    def drawing(self) -> Tensor:
        """Logits [S, A] of the policy that draws the actions."""
        return (self.behaviour or self.policy)(self.obs).detach()

    @cached_property
    def ref(self) -> Tensor | None:
        """Logits [S, A] of the reference policy."""
        return None if self.reference is None else self.reference(self.obs).detach()

    @cached_property
    def jacobian(self) -> Tensor:
        """[S, A, P]."""
        return mdp.jacobian(self.policy, self.obs).detach()

    @cached_property
    def critic(self) -> tuple[Tensor, Tensor]:
        """(V [limit + 1, S], Q [limit, S, A]) as the critic says them; a terminal state's V means nothing, and is never 0."""
        V, Q = mdp.values(self.table, self.pi, self.gamma, self.limit)
        error = self.critic_error * Q[0][~self.table.terminal].std(correction=0)
        generator = torch.Generator().manual_seed(1)
        wrong = [torch.randn(x.shape[1:], dtype=x.dtype, generator=generator) for x in (V, Q)]
        V = torch.cat([V, torch.zeros_like(V[:1])])  # nothing follows the limit
        return torch.where(self.table.terminal, 7.0, V + error * wrong[0]), Q + error * wrong[1]

    @cached_property
    def every(self) -> Trajectories:
        return trajectories.every(self.table)

    @cached_property
    def probability(self) -> Tensor:
        """Of each trajectory, [N], under the policy that draws."""
        x, log_pi = self.every, self.drawing.log_softmax(-1)
        return x.chance * torch.where(x.mask, log_pi[x.state, x.action], 0.0).sum(-1).exp()

    def directions(self, beta: float = 0.0, discounted: bool = False) -> list[Direction]:
        """grad J, with gamma^t and without, and of the undiscounted J; with beta, less that of beta KL(pi || ref).

        discounted: that KL, too, counts gamma^t times at step t, as one that was put in the reward.
        """
        P, gamma = (self.table, self.policy, self.obs), self.gamma
        if beta:
            J = mdp.gradient(*P, gamma, limit=self.limit)
            parts = (("of episodes", False), ("per action", True))
            return [
                Direction(f"J - KL {name}", J - beta * self.kl_gradient(per_action, discounted))
                for name, per_action in parts
            ]
        found = [Direction("J", mdp.gradient(*P, gamma, limit=self.limit))]
        if gamma < 1:
            found.append(Direction("J, no gamma^t", mdp.gradient(*P, gamma, False, self.limit)))
            found.append(Direction("J at gamma 1", mdp.gradient(*P, 1.0, limit=self.limit)))
        return found

    def kl_gradient(self, per_action: bool = False, discounted: bool = False) -> Tensor:
        """Of KL(pi || ref) of whole episodes; `per_action`: with the visits held fixed."""
        if self.ref is None:
            raise LogpiError(f"{self.name} has no reference policy: a KL needs one.")
        ref = self.ref.softmax(-1)
        gamma = self.gamma if discounted else 1.0
        return mdp.kl_gradient(self.table, self.policy, self.obs, ref, per_action, gamma, self.limit)

    def without_reward(self) -> "Problem":
        return replace(self, table=replace(self.table, R=torch.zeros_like(self.table.R)))

    def batch(self, x: Trajectories) -> Padded:
        """Trajectories [..., T] as a record of a rollout; `obs` is the state's number."""
        s, a, last = x.state, x.action, x.mask & ~torch.nn.functional.pad(x.mask[..., 1:], (0, 1))
        ends = self.table.terminal[x.after]
        (V, Q), R, t = self.critic, self.table.R, torch.arange(s.shape[-1])
        log_pi = self.drawing.log_softmax(-1)[s, a]
        q = Q[t, s, a]
        fields: dict[str, Any] = {
            "log_pi": log_pi,
            "reward": R[s, a] if R.dim() == 2 else R[s, a, x.after],
            "value": V[t, s],
            "value_next": V[t + 1, x.after],
            "q": q,
            "q_next": torch.nn.functional.pad(q[..., 1:], (0, 1)),
        }
        if self.ref is not None:
            fields["log_ref"] = self.ref.log_softmax(-1)[s, a]
        fields = {name: torch.where(x.mask, value, 0.0) for name, value in fields.items()}
        return Padded(
            obs=s,
            action=a,
            params=self.drawing[s],
            terminated=last & ends,
            truncated=last & ~ends,
            mask=x.mask,
            version=torch.zeros_like(s),
            start=torch.zeros_like(s[..., 0]),
            **fields,
        )
