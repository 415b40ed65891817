"""The one record that flows through the library: what was done, how likely it was, what came of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from logpi.errors import LogpiError
from logpi.packing import alike, prompts_of, shared
from logpi.room import Room, slices

T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """Per-step tensors are [..., T], time last: [B, T] segments or episodes, [P, G, T] groups from one start.

    `mask` is True where the action was ours; what stands in masked slots means nothing and may be NaN.
    """

    obs: Tensor  # [..., T, *obs]  s_t, as the policy saw it (normalised)
    action: Tensor  # [..., T, *act]  a_t, raw: before clipping or scaling to the environment
    log_pi: Tensor  # [..., T]  log pi_old(a_t|s_t), from the parameters that drew a_t
    params: Tensor | None  # [..., T, P]  the distribution's parameters that drew a_t; None: the policy kept its weights
    reward: Tensor  # [..., T]  r_t, which follows a_t
    terminated: Tensor  # [..., T] bool  the task ended here: V(s_{t+1}) = 0
    truncated: Tensor  # [..., T] bool  we stopped looking here: V(s_{t+1}) still counts
    mask: Tensor  # [..., T] bool  False: padding, the dummy step of an autoreset, other people's text
    version: Tensor  # [..., T] int  which policy drew a_t: the iteration's number
    start: Tensor | None  # [...] int  steps the row's first episode had taken before the row
    value: Tensor | None = None  # [..., T]  V(s_t); with a Q critic E_pi Q(s_t, .)
    value_next: Tensor | None = None  # [..., T]  V(s_{t+1}) of the observation before any reset
    q: Tensor | None = None  # [..., T]  Q(s_t, a_t)
    q_next: Tensor | None = None  # [..., T]  Q(s_{t+1}, a_{t+1})
    log_ref: Tensor | None = None  # [..., T]  log pi_ref(a_t|s_t)
    log_mu: Tensor | None = None  # [..., T]  log mu(a_t|s_t) of a sampler that is not pi_old; None: pi_old drew a_t
    correction: Tensor | None = None  # [..., T]  what a_t counts for then: pi_old/mu, cut
    psi: Tensor | None = None  # [..., T]  the credit given to a_t
    target: Tensor | None = None  # [..., T]  what the critic should have said
    memory: Tensor | None = None  # [..., M]  what the policy remembered when the row began
    scores: Callable[[Tensor], Tensor] | None = None  # episodes: w [N, T] -> [N, params], grad sum_t w_t log pi_old_t
    look: Callable[["Batch"], "Batch"] | None = None  # the same rows with what the critic says of them by now

    @property
    def ended(self) -> Tensor:
        return self.terminated | self.truncated

    def with_(self, **changes: object) -> "Batch":
        return replace(self, **changes)  # type: ignore[arg-type]

    def map(self, f: Callable[[Tensor], Tensor]) -> "Batch":
        """f on every tensor; `scores` and `look` belong to the whole batch and are dropped."""
        values = {x.name: getattr(self, x.name) for x in fields(self)}
        return Batch(**{k: f(v) if isinstance(v, Tensor) else None for k, v in values.items()})  # type: ignore[arg-type]

    def __getitem__(self, rows: Tensor | slice) -> "Batch":
        if isinstance(rows, slice):
            return self.map(lambda x: x[rows])
        return self.map(lambda x: x.index_select(0, rows))

    def __len__(self) -> int:
        return self.reward.shape[0]

    def ours(self, x: Tensor) -> Tensor:
        """x [..., T, *] at our actions alone, [N, *]: padding never enters a network."""
        return x if self.mask.dim() == 1 else x[self.mask]

    def back(self, x: Tensor) -> Tensor:
        """x [N] of our actions in their slots, [..., T]; 0 elsewhere."""
        if self.mask.dim() == 1:
            return x
        return torch.zeros(self.mask.shape, dtype=x.dtype, device=x.device).masked_scatter(self.mask, x)

    def to_actions(self) -> "tuple[Batch, Callable[[Tensor], Tensor]]":
        """(rows in which our actions stand first, side by side; the way back to this batch's slots).

        Masked steps inside a row are transparent: their rewards and ends belong to the action before them,
        whose `value_next` becomes the next action's value. What follows an end, and whatever is not finite in a
        masked slot, is dropped; the slots left over are zero, ended and masked.
        """
        if bool(self.mask.all()):
            return self, lambda x: x
        return _compact(self)


def _per_slot(x: Tensor, like: Tensor) -> Tensor:
    """An index or mask [..., T] given the trailing axes of x."""
    return like.reshape(like.shape + (1,) * (x.dim() - like.dim())).expand(x.shape)


def _compact(b: Batch) -> tuple[Batch, Callable[[Tensor], Tensor]]:
    order = torch.sort((~b.mask).byte(), dim=-1, stable=True).indices  # our actions first, in their order
    ours = b.mask.gather(-1, order)
    owner = (b.mask.long().cumsum(-1) - 1).clamp(min=0)  # which of our actions each slot belongs to
    before = b.ended.long().cumsum(-1) - b.ended.long()
    owned = b.mask.long().cumsum(-1) > 0
    alive = owned & (before == before.gather(-1, order).gather(-1, owner))  # no end since that action

    def spread(x: Tensor) -> Tensor:
        """The sum over an action's slots, at the action."""
        x = torch.where(alive & (b.mask | x.isfinite()), x, 0)
        return torch.where(ours, torch.zeros_like(x).scatter_add(-1, owner, x), 0)

    def front(x: Tensor) -> Tensor:
        moved = x.gather(b.mask.dim() - 1, _per_slot(x, order))
        return torch.where(_per_slot(moved, ours), moved, torch.zeros((), dtype=x.dtype, device=x.device))

    def next_of(here: Tensor, following: Tensor) -> Tensor:
        slot = torch.arange(b.mask.shape[-1], device=b.mask.device).expand(b.mask.shape)
        last = torch.zeros_like(slot).scatter_reduce(-1, owner, torch.where(alive, slot, 0), "amax")
        at_last = following.nan_to_num(0.0, 0.0, 0.0).gather(-1, last)
        goes_on = torch.nn.functional.pad(ours[..., 1:], (0, 1)) & ~(terminated | truncated)
        return torch.where(
            ours, torch.where(goes_on, torch.nn.functional.pad(front(here)[..., 1:], (0, 1)), at_last), 0
        )

    terminated = spread(b.terminated.long()) > 0
    truncated = (spread(b.truncated.long()) > 0) | ~ours
    moved = {x.name: getattr(b, x.name) for x in fields(b)}
    moved = {k: v if k in ("start", "memory", "scores", "look") or v is None else front(v) for k, v in moved.items()}
    moved |= {"mask": ours, "terminated": terminated, "truncated": truncated, "reward": spread(b.reward)}
    for here, following in (("value", "value_next"), ("q", "q_next")):
        if moved[following] is not None:
            moved[following] = next_of(getattr(b, here), getattr(b, following))
    inverse = order.argsort(-1)

    def back(x: Tensor) -> Tensor:
        return torch.where(b.mask, x.gather(-1, inverse), 0)

    if b.scores is not None:
        in_slots = b.scores
        moved["scores"] = lambda weight: in_slots(back(weight))
    return Batch(**moved), back


def credited(method: Any, batch: Batch, state: dict[str, Any]) -> Batch:
    """The batch with psi and target, computed on our actions alone and put back in their slots."""
    actions, back = batch.to_actions()
    credit, target = method.psi(actions, state)
    for name, x in (("psi", credit), ("target", target)):
        if x is not None and x.shape != actions.reward.shape:
            shapes = f"{tuple(x.shape)}: it must be {tuple(actions.reward.shape)}"
            raise LogpiError(f"{type(method).__name__}.psi returned a {name} of shape {shapes}.")
    return batch.with_(psi=back(credit.detach()), target=None if target is None else back(target.detach()))


class Rows:
    """What an optimiser steps through: single steps, or whole rows where the average or a memory needs them.

    `generator` shuffles; `micro` bounds how many rows go through the network at once (None: all), or how many slots of rows
    that are sorted by length and cut to it (`pack`), or how many tokens of rows that share their prompts (`pack` "prompts",
    a part's first prompt not counted). That changes memory, never the gradient; it is halved where memory gives out.
    """

    def __init__(
        self,
        batch: Batch,
        generator: torch.Generator,
        whole: bool = False,
        micro: int | None = None,
        pack: str = "",
    ) -> None:
        self.whole, self.pack = whole or bool(pack) or batch.memory is not None, pack
        unit, cure = ("token", ", or shorter texts") if pack else ("row", " or --hidden, or fewer environments")
        self.generator, self.room = generator, Room(micro, unit, f"use a smaller --micro{cure}", halvings=5)
        self.take(batch)

    def take(self, batch: Batch) -> None:
        """These rows from now on."""
        self.source, lead = batch, batch.mask.dim() - 1
        if self.whole:
            self.batch = batch.with_(start=None).map(lambda x: x.flatten(0, lead - 1) if lead > 1 else x)
        else:
            steps = batch.with_(start=None, memory=None).map(lambda x: x.flatten(0, lead))
            self.batch = steps if bool(steps.mask.all()) else steps[steps.mask.nonzero()[:, 0]]

    def __len__(self) -> int:
        return len(self.batch)

    def order(self, minibatches: int) -> tuple[Tensor, list[int]]:
        """(every row's number once, shuffled; the sizes of `minibatches` equal parts, to one row). One part is not shuffled."""
        rows = len(self)
        if minibatches == 1 or rows < 2:
            return torch.arange(rows), [rows]
        size, longer = divmod(rows, count := min(minibatches, rows))
        return torch.randperm(rows, generator=self.generator), [size + (k < longer) for k in range(count)]

    def shuffled(self, minibatches: int) -> Iterator[Batch]:
        """The batch in that order and those parts."""
        order, sizes = self.order(minibatches)
        mixed, at = self.batch if len(sizes) == 1 else self.batch[order.to(self.batch.mask.device)], 0
        for size in sizes:
            yield mixed if len(sizes) == 1 else mixed[at : at + size]
            at += size

    def parts(self, mini: Batch, weight: Tensor, skip: bool = False) -> Iterator[tuple[Batch, Tensor]]:
        """`mini`, and its actions' weights, in micro-batches. skip: packed rows whose Psi is 0 throughout may be left out."""
        if self.pack:
            yield from _packed(mini, weight, self.room.size or mini.mask.numel(), skip, self.pack == "prompts")
            return
        each = slices(len(mini), self.room.size)
        for here in each:
            yield mini if len(each) == 1 else mini[here], weight[here]

    def in_memory(self, mini: Batch, run: Callable[[Batch], T]) -> T:
        """run(mini), a pass over its micro-batches; from the start, with half as many rows, when memory gives out."""
        return self.room(lambda: run(mini), mini.mask.numel() if self.pack else len(mini))


def _packed(mini: Batch, weight: Tensor, budget: int, skip: bool, share: bool) -> Iterator[tuple[Batch, Tensor]]:
    """Rows by length, longest first, in parts that are cut to their longest.

    skip: without the rows whose Psi is 0 throughout; one is always left.
    """
    slots = torch.arange(1, mini.mask.shape[-1] + 1, device=mini.mask.device)
    length = (mini.mask * slots).amax(-1)
    if skip and mini.psi is not None:
        length = torch.where(torch.where(mini.mask, mini.psi, 0.0).any(-1), length, 0)
    order = torch.sort(length, descending=True, stable=True)
    lengths = [n for n in order.values.tolist() if n] or [max(1, int((mini.mask[order.indices[0]] * slots).amax()))]
    rows = order.indices[: len(lengths)]
    if share:
        plan = shared(lengths, prompts_of(mini.obs[rows], mini.mask[rows]), budget)
    else:
        plan = [[*range(len(rows))[here]] for here in alike(lengths, budget)]
    for part in plan:
        here, longest = rows[part], max(lengths[k] for k in part)
        yield mini[here].map(lambda x, n=longest: x[:, :n] if x.dim() > 1 else x), weight[here, :longest]  # type: ignore[misc]
