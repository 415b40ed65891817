"""Checks of psi's credit: each an identity on rows in which episodes end, are cut, and go on past the last slot."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from logpi import psi
from logpi.batch import Batch
from logpi.exact.kit.holds import agree, apart, check, normal

GAMMA, LAM = 0.9, 0.7
LAST = torch.tensor([[2, 3, 6, 9], [0, 4, 8, -1], [1, 5, 7, -1], [11, -1, -1, -1]])  # slots at which episodes end


class Record(NamedTuple):
    """Rows [B, T] as a rollout of segments gives them, and the steps [B] that their first episode had taken before."""

    reward: Tensor
    value: Tensor
    value_next: Tensor
    terminated: Tensor
    truncated: Tensor
    start: Tensor

    @property
    def ended(self) -> Tensor:
        return self.terminated | self.truncated

    def critic(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        return self[:-1]

    def at(self, row: int, here: slice) -> "Record":
        """Some steps of one row, in a row of their own."""
        start = self.start[row] if here.start == 0 else torch.zeros((), dtype=torch.long)
        reward, value, value_next, terminated, truncated = (x[row, here] for x in self.critic())
        return Record(reward, value, value_next, terminated, truncated, start)


def record() -> Record:
    """Four rows of twelve steps; every other end is a cut, and V after an end is no other slot's."""
    ends = torch.zeros(4, 13, dtype=torch.bool).scatter(1, LAST % 13, torch.ones_like(LAST, dtype=torch.bool))[:, :12]
    cut = ends & (ends.long().cumsum(-1) % 2 == 0)
    value, after = normal(4, 12, seed=1), normal(4, 12, seed=2)
    goes_on = torch.nn.functional.pad(~ends[:, :-1], (0, 1))
    following = torch.where(goes_on, torch.nn.functional.pad(value[:, 1:], (0, 1)), after)
    return Record(normal(4, 12), value, following, ends & ~cut, cut, torch.tensor([3, 0, 5, 2]))


def episodes(x: Record) -> Iterator[tuple[int, slice]]:
    """(row, slots) of each episode, the unfinished ones at the tails included."""
    for row, ended in enumerate(x.ended.tolist()):
        first = 0
        for t, last in enumerate(ended):
            if last or t == len(ended) - 1:
                yield row, slice(first, t + 1)
                first = t + 1


CREDITS: dict[str, Callable[[Record], Tensor]] = {
    "total_return": lambda x: psi.total_return(x.reward, x.ended, GAMMA),
    "reward_to_go": lambda x: psi.reward_to_go(x.reward, x.ended, GAMMA),
    "discount_from_start": lambda x: psi.discount_from_start(x.reward, x.ended, GAMMA, x.start),
    "td": lambda x: psi.td(x.reward, x.value, x.value_next, x.terminated, GAMMA),
    "n_step": lambda x: psi.n_step(*x.critic(), GAMMA, 3),
    "gae": lambda x: psi.gae(*x.critic(), GAMMA, LAM),
    "vtrace": lambda x: psi.vtrace(*x.critic(), GAMMA, (x.reward / 3).exp(), LAM)[1],
    "the target of vtrace": lambda x: psi.vtrace(*x.critic(), GAMMA, (x.reward / 3).exp(), LAM)[0],
}


def bootstrapped(x: Record, t: int, n: int) -> Tensor:
    """sum_{k<n} gamma^k r_{t+k} + gamma^n V(s_{t+n}) of one episode [T], fewer rewards where it ends; for t = T its V."""
    T = len(x.reward)
    n = min(n, T - t)
    value = x.value[t + n] if t + n < T else torch.where(x.terminated[-1], 0.0, x.value_next[-1])
    return sum(GAMMA**k * x.reward[t + k] for k in range(n)) + GAMMA**n * value


def by_hand(f: Callable[[Record, int], Tensor]) -> Tensor:
    """f(episode, t) at every slot of the record."""
    x = record()
    out = torch.full_like(x.reward, torch.nan)
    for row, here in episodes(x):
        alone = x.at(row, here)
        out[row, here] = torch.stack([f(alone, t) for t in range(len(alone.reward))])
    return out


@check("an episode's credit does not depend on what stands beside it in the row")
def _() -> None:
    x = record()
    for name, f in CREDITS.items():
        whole = f(x)
        for row, here in episodes(x):
            agree(whole[row, here], f(x.at(row, here)), f"{name} of row {row}, steps {here.start} to {here.stop - 1}")


@check("rows with any leading axes give the same credit")
def _() -> None:
    x = record()
    split = Record(*(y.unflatten(0, (2, 2)) for y in x))
    for name, f in CREDITS.items():
        agree(f(split).flatten(0, 1), f(x), name)


@check("reward-to-go is the discounted sum of what follows, the total return that of the whole episode")
def _() -> None:
    x = record()
    agree(CREDITS["reward_to_go"](x), by_hand(lambda e, t: sum(GAMMA**k * r for k, r in enumerate(e.reward[t:]))))
    agree(CREDITS["total_return"](x), by_hand(lambda e, t: sum(GAMMA**k * r for k, r in enumerate(e.reward))))


@check("gamma^t counts from the episode's first step, the steps before the row included")
def _() -> None:
    x = record()
    agree(CREDITS["discount_from_start"](x), by_hand(lambda e, t: GAMMA ** int(e.start + t) * e.reward[t]))
    none = psi.discount_from_start(x.reward, x.ended, GAMMA)
    agree(none, psi.discount_from_start(x.reward, x.ended, GAMMA, torch.zeros(4, dtype=torch.long)), "start None")


@check("V after a termination counts nothing, after a truncation and at the row's end gamma V")
def _() -> None:
    x = record()
    up = x._replace(value_next=x.value_next + 1)
    agree(CREDITS["td"](up) - CREDITS["td"](x), GAMMA * (~x.terminated).double(), "td, V(s') + 1")
    for name in ("n_step", "gae", "vtrace", "the target of vtrace"):
        junk = x._replace(value_next=torch.where(x.terminated, 100.0, x.value_next))
        agree(CREDITS[name](junk), CREDITS[name](x), name)
        kept = x._replace(value_next=torch.where(x.truncated, 100.0, x.value_next))
        apart(CREDITS[name](kept)[x.truncated], CREDITS[name](x)[x.truncated], f"{name} at a truncation")


@check("n-step credit is n rewards and then V, less V")
def _() -> None:
    x = record()
    for n in (1, 2, 3, 5, 50):
        hand = by_hand(lambda e, t, n=n: bootstrapped(e, t, n) - e.value[t])  # type: ignore[misc]
        agree(psi.n_step(*x.critic(), GAMMA, n), hand, f"n {n}")


@check("GAE with lam 0 is the TD error")
def _() -> None:
    x = record()
    agree(psi.gae(*x.critic(), GAMMA, 0.0), CREDITS["td"](x))


@check("GAE with lam 1 is the bootstrapped return less V")
def _() -> None:
    x = record()
    agree(psi.gae(*x.critic(), GAMMA, 1.0), by_hand(lambda e, t: bootstrapped(e, t, 50) - e.value[t]))


@check("GAE is the mixture of n-step credits with weights (1 - lam) lam^(n-1)")
def _() -> None:
    x = record()
    steps = [psi.n_step(*x.critic(), GAMMA, n) for n in range(1, 13)]  # from 12 on they are all one
    mixture = (1 - LAM) * sum(LAM**k * y for k, y in enumerate(steps[:-1])) + LAM**11 * steps[-1]
    agree(CREDITS["gae"](x), mixture)


@check("on policy, V-trace is GAE, and its target is V plus GAE")
def _() -> None:
    x = record()
    for lam in (0.0, LAM, 1.0):
        target, credit = psi.vtrace(*x.critic(), GAMMA, torch.ones_like(x.reward), lam)
        gae = psi.gae(*x.critic(), GAMMA, lam)
        agree(credit, gae, f"psi, lam {lam}")
        agree(target, x.value + gae, f"target, lam {lam}")


@check("V-trace clips from above, each ratio at its own limit")
def _() -> None:
    x, rho = record(), normal(4, 12, seed=3).exp()
    plain = psi.vtrace(*x.critic(), GAMMA, rho.clamp(max=1.5), 1.0, 99.0, 99.0)
    for i, found in enumerate(psi.vtrace(*x.critic(), GAMMA, rho, 1.0, 1.5, 1.5)):
        agree(found, plain[i], ("target", "psi")[i])
    low = psi.vtrace(*x.critic(), GAMMA, rho, 1.0, 1.5, 0.0)  # no trace: one step
    agree(low[0], x.value + rho.clamp(max=1.5) * CREDITS["td"](x), "target, c 0")


@check("masked steps inside a row are transparent, whatever they hold")
def _() -> None:
    for name in CREDITS:
        transparent(name)


def transparent(name: str) -> None:
    """The twelve steps scattered among seventeen slots, the others masked, get the credit that they get alone."""
    x, slots = record(), torch.tensor([0, 1, 3, 4, 6, 7, 8, 9, 12, 13, 15, 16])
    thin = as_batch(x).map(lambda y: scattered(y, slots))
    packed, back = thin.to_actions()
    found = back(CREDITS[name](as_record(packed)))
    agree(found[:, slots], CREDITS[name](x), name)
    agree(found[~thin.mask], 0.0, f"{name} of masked steps")


def as_batch(x: Record) -> Batch:
    none, ours = torch.zeros(4, 12, dtype=torch.long), torch.ones(4, 12, dtype=torch.bool)
    same = x.reward[..., None]
    return Batch(
        same, none, x.reward, same, x.reward, x.terminated, x.truncated, ours, none, x.start, x.value, x.value_next
    )


def as_record(b: Batch) -> Record:
    assert b.value is not None and b.value_next is not None and b.start is not None
    return Record(b.reward, b.value, b.value_next, b.terminated, b.truncated, b.start)


def scattered(y: Tensor, slots: Tensor) -> Tensor:
    """[4, 12, ...] in seventeen slots, NaN or False or 0 in the others."""
    if y.dim() == 1:
        return y
    empty = torch.full((4, 17, *y.shape[2:]), torch.nan if y.is_floating_point() else 0, dtype=y.dtype)
    return empty.index_copy(1, slots, y)
