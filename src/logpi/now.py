"""What the current policy says about rows of a Batch, and the closures over it that a step receives."""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

from logpi import average, objective
from logpi.batch import Batch, Rows, credited
from logpi.errors import LogpiError
from logpi.page import option
from logpi.policy import Policy, movable
from logpi.silent import only_psi

Side = Literal["old_new", "new_old"]


class Now:
    """The lazy record: each answer is computed when first asked for, [..., T], 0 where the action was not ours."""

    def __init__(self, policy: Policy, critic: nn.Module | None, b: Batch) -> None:
        self.policy, self.critic, self.b = policy, critic, b

    @cached_property
    def _features(self) -> Tensor:
        return self.policy.features(self.b)

    @cached_property
    def params(self) -> Tensor:
        """The distribution's parameters for our actions, [N, P]."""
        return self.policy.params(self._features, self.b.ours(self.b.obs))

    @cached_property
    def log_pi(self) -> Tensor:
        """log pi(a|s) of the actions taken."""
        return self.b.back(self.policy.head.log_prob(self.params, self.b.ours(self.b.action)))

    @cached_property
    def entropy(self) -> Tensor:
        """H(pi(.|s))."""
        return self.b.back(self.policy.head.entropy(self.params, self.b.ours(self.b.action)))

    @cached_property
    def kl_old(self) -> Tensor:
        """KL(pi_old || pi), exact, from the parameters that drew the actions."""
        return self.b.back(self.policy.kl_old(self.b, self.params))

    @cached_property
    def kl_new(self) -> Tensor:
        """KL(pi || pi_old), exact: the other direction."""
        return self.b.back(self.policy.kl_old(self.b, self.params, turned=True))

    @cached_property
    def value(self) -> Tensor:
        """V(s), or Q(s, a) with a Q critic."""
        assert self.critic is not None
        return self.b.back(self.critic(self._features, self.b.ours(self.b.action)))


class Surrogate:
    """The surrogate of a minibatch, as scalars that sum to it, one for each micro-batch.

    sum(weights * (objective - value_coef * critic's error)); the last term on pages with a `value_coef`.
    """

    moves = "policy"

    def __init__(
        self,
        method: Any,
        policy: Policy,
        critic: nn.Module | None,
        rows: Rows,
        state: dict[str, Any],
        fused: Any = None,
    ) -> None:
        self.method, self.policy, self.critic, self.rows, self.state = method, policy, critic, rows, state
        self.fused = fused  # what may do the ascent instead (fast/)
        self.value_coef = joint_coef(method) if critic is not None else None
        self.first_ratio: Tensor | None = None  # max |rho - 1| before the first step
        self.skip = bool(rows.pack) and self.value_coef is None and only_psi(method, state)

    def __call__(self, mini: Batch) -> Iterator[Tensor]:
        weights = self.average(mini.mask)
        weights = weights if mini.correction is None else weights * mini.correction
        for part, weight in self.rows.parts(mini, weights, self.skip):
            now = Now(self.policy, self.critic, part)
            gain = self.gain(now, part)
            if self.first_ratio is None:
                gap = (now.log_pi.detach() - part.log_pi).expm1().abs()
                self.first_ratio = torch.where(part.mask, gap, 0.0).amax()
            yield average.total(gain, weight, part.mask)

    def gain(self, now: Any, part: Any) -> Tensor:
        """What each action adds, before its weight."""
        gain = self.method.objective(now, part, self.state)
        if self.value_coef is None:
            return gain
        old = part.value if part.q is None else part.q
        clip = option(self.method, "value_clip")
        return gain - self.value_coef * objective.value_error(now.value, part.target, old, clip)

    def average(self, mask: Tensor) -> Tensor:
        return self.method.average(mask)

    @torch.no_grad()
    def refresh(self) -> None:
        """Psi and target anew, from what the critic says by now."""
        batch = self.rows.source
        if batch.look is None:
            raise LogpiError(
                f"{type(self.method).__name__} asks for V anew: it needs a critic, and a field recompute that is True."
            )
        self.rows.take(credited(self.method, batch.look(batch), self.state))


def joint_coef(method: Any) -> float | None:
    """The weight of the critic's error in the surrogate; None: the critic has a fit of its own."""
    found: float | str | None = option(method, "value_coef")
    return None if found == "own" else found  # type: ignore[return-value]


class Divergence:
    """The mean KL over the actions of a minibatch, as scalars that sum to it; and its Fisher product."""

    def __init__(self, policy: Policy, rows: Rows) -> None:
        self.policy, self.rows = policy, rows

    def __call__(self, mini: Batch, side: Side = "old_new") -> Iterator[Tensor]:
        """'old_new' is KL(pi_old || pi), 'new_old' KL(pi || pi_old)."""
        for part, weight in self.rows.parts(mini, average.weights("per_action", mini.mask)):
            now = Now(self.policy, None, part)
            yield average.total(now.kl_old if side == "old_new" else now.kl_new, weight, part.mask)

    def fisher(self, mini: Batch, v: list[Tensor]) -> Iterator[list[Tensor]]:
        """F v from the head's own Fisher matrix: J' F_head J v, J the network's Jacobian; needs no double backward."""
        named = movable(self.policy)
        tangents = dict(zip(named, v, strict=True))
        for part, weight in self.rows.parts(mini, average.weights("per_action", mini.mask)):
            ours = part.ours(weight)
            params, moved = jvp(lambda p, part=part: functional_call(self.policy, p, (part,)), (named,), (tangents,))  # type: ignore[misc]
            pull = ours[:, None].to(params.dtype) * self.policy.head.fisher(params, moved)
            grads = torch.autograd.grad(params, list(named.values()), pull.detach(), materialize_grads=True)
            del params, moved, pull  # the graph goes before the next is built
            yield list(grads)


def row_scores(policy: Policy, b: Batch, weight: Tensor) -> Tensor:
    """[N, params]: for each row the gradient of sum_t weight_t log pi(a_t|s_t). One backward pass a row."""
    rows = Rows(b, torch.Generator(), whole=True).batch
    weight, params = weight.reshape(rows.mask.shape), [*movable(policy).values()]
    out = []
    for i in range(len(rows)):
        total = torch.where(rows.mask[i], weight[i], 0).mul(Now(policy, None, rows[i : i + 1]).log_pi[0]).sum()
        grads = torch.autograd.grad(total, params, materialize_grads=True)
        out.append(torch.cat([g.flatten() for g in grads]))
    return torch.stack(out)


@torch.no_grad()
def reference_log_prob(reference: Policy, policy: Policy, b: Batch, micro: int | None = None) -> Tensor:
    """log pi_ref(a|s) of a batch [..., T] with at least one leading axis; each policy has a normaliser, and a memory, of its own.

    A reference with a memory remembers nothing of what came before a row. micro: slots through it at once, where rows pack;
    fewer rows where memory gives out.
    """
    raw = b.obs if policy.normaliser is None else policy.normaliser.inverse(b.obs)
    rows = b.with_(start=None, scores=None).map(lambda x: x.flatten(0, b.mask.dim() - 2))
    rows = rows.with_(obs=reference.normalise(raw).reshape(rows.obs.shape), memory=reference.start(len(rows)))
    return answers(rows, lambda part: Now(reference, None, part).log_pi, micro, policy.pack(b.obs)).reshape(
        b.mask.shape
    )


@torch.no_grad()
def answers(b: Batch, ask: Callable[[Batch], Tensor], micro: int | None, pack: str) -> Tensor:
    """What is said of rows [B, T], in the parts in which an update takes them; fewer rows at once where memory gives out."""
    rows = Rows(b, torch.Generator(), True, micro if pack else None, pack)
    slots = torch.arange(b.mask.numel(), device=b.mask.device).view(b.mask.shape)

    def said(b: Batch) -> Tensor:
        found = torch.zeros_like(b.log_pi).flatten()
        for part, at in rows.parts(b, slots):
            found[at] = ask(part)
        return found.view(b.mask.shape)

    return rows.in_memory(rows.batch, said)
