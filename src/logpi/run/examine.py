"""A fresh batch of a run, collected with its newest checkpoint and measured before any step.

What the measures mean is said in `judge`. Nothing is written into the run folder and no lock is taken: a run
that is still training can be examined.
"""

import contextlib
import copy
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from logpi import average, chance
from logpi.batch import Batch, Rows
from logpi.errors import EnvironmentFailed, LogpiError
from logpi.loop import COARSE, Parts, rounding_of, update
from logpi.now import Divergence, Now, Surrogate
from logpi.policy import movable
from logpi.run import checkpoint, config
from logpi.run.doctor import STILL
from logpi.run.resume import reopen
from logpi.step.gradient import total
from logpi.step.natural import gradient

PADDING = 16  # masked slots put in front of each row: a mean over slots instead of actions moves by per cents
GARBAGE = 10**6  # a whole number that no action is


@dataclass(frozen=True)
class Live:
    """What was measured; None: it was not."""

    why: str = ""  # there is no batch
    failed: str = ""  # what collecting it, or the update before its step, raised
    checkpoint: str = ""
    actions: int = 0  # in the batch
    rounding: float = 0.0  # how far a ratio of 1 may be from 1
    first_ratio: float | None = None  # max |pi / pi_old - 1|
    kl: float | None = None  # mean KL(pi_old || pi)
    masked: float = 0.0  # share of the slots
    leaks: dict[str, float] | None = None  # how much of what changes when masked slots hold something else
    reward: float | None = None  # max |r|
    credit: float | None = None  # max |psi|
    gradient: float | None = None  # its norm, of the policy's parameters
    cosine: float | None = None  # of the surrogate's gradient, without a critic's error, and what log pi brings to it
    along: float | None = (
        None  # correlation over the actions of d surrogate / d log pi and credit; else cosine of gradients
    )
    equal_groups: float | None = None  # share of the groups whose returns are all equal
    distance: float | None = None  # rms of (raw obs - stored mean) / stored std, in the worst feature
    cut: float | None = None  # share of the raw numbers beyond the normaliser's limit
    reward_scale: float | None = None  # std of the discounted returns over the stored one


class Enough(Exception):  # noqa: N818
    """The update has come to its step."""


def examine(run: Path, given: dict[str, Any]) -> Live:
    """LogpiError where the run's parts cannot be built again. given: method, env and network where they are the user's."""
    folder, _ = checkpoint.choose(run)
    with chance.untouched():
        try:
            parts, *_ = reopen(folder, config.read(folder / "config.toml"), **given)
        except EnvironmentFailed as wrong:  # it does not come back to where it was
            return Live(checkpoint=folder.name, failed=str(wrong))
        except (LogpiError, OSError):
            if folder.is_dir():
                raise
            return examine(run, given)  # the run goes on, and has newer ones
        with contextlib.closing(parts.collect):
            return measured(parts, folder.name)


def measured(parts: Parts, name: str) -> Live:
    """As far as it comes: the user's page, network and environment may raise anything."""
    found: dict[str, Any] = {"checkpoint": name}
    try:
        for fields in measures(parts):
            found |= fields
    except Exception as wrong:
        found["failed"] = str(wrong) if isinstance(wrong, LogpiError) else f"{type(wrong).__name__}: {wrong}"
    return Live(**found)


def measures(parts: Parts) -> Iterator[dict[str, Any]]:
    """Fields of Live, in the order in which an iteration brings them about."""
    batch = parts.collect(parts.policy, parts.critic)
    yield rollout(batch, parts.policy.bf16)
    yield normalisers(parts, batch)
    kl, rows, g = prepared(parts, batch)
    assert rows.batch.psi is not None
    yield {"credit": float(rows.batch.psi[rows.batch.mask].abs().amax()), "gradient": float(g.norm())}
    yield {"first_ratio": first_ratio(parts, rows), "kl": float(total(kl(rows.batch)))}
    yield directions(parts, rows)
    yield {"leaks": leaks(parts, batch, rows, g)}


def prepared(parts: Parts, batch: Batch) -> tuple[Divergence, Rows, Tensor]:
    """What the loop gives to the page's step, and the flat gradient of the surrogate, of the policy's parameters."""
    given: list[Any] = []

    def step(*closures: Any) -> None:
        given.extend(closures)
        raise Enough

    page = copy.copy(parts.method)  # its type is its name in messages
    object.__setattr__(page, "step", step)  # it is frozen
    with contextlib.suppress(Enough):
        update(dataclasses.replace(parts, method=page, measure_gradient=0), batch)
    surrogate, kl, rows, _ = given
    return kl, rows, gradient(surrogate(rows.batch), [*movable(parts.policy).values()])


def rollout(b: Batch, bf16: bool) -> dict[str, Any]:
    log_pi = b.log_pi[b.mask]
    found = {
        "actions": int(b.mask.sum()),
        "masked": float((~b.mask).double().mean()),
        "reward": float(b.reward[b.mask].abs().amax()),
        "rounding": COARSE * max(1.0, float(log_pi.abs().amax())) if bf16 else rounding_of(b),
    }
    if b.mask.dim() == 3:
        ret = b.to_actions()[0].reward.sum(-1)
        found["equal_groups"] = float((ret.amax(-1) == ret.amin(-1)).double().mean())
    return found


def normalisers(parts: Parts, batch: Batch) -> dict[str, float]:
    """How far what the rollout saw is from what was stored; of those that have seen something."""
    found = dict[str, float]()
    if parts.policy.pack(batch.obs):
        return found
    policy, raw, returns = parts.policy, parts.collect.unseen_obs, parts.collect.unseen_returns
    if policy.normaliser is not None and raw is not None and policy.normaliser.count > 0:
        z = (raw.to(policy.normaliser.mean) - policy.normaliser.mean) * (policy.normaliser.var + 1e-8).rsqrt()
        found["distance"] = float(z.square().mean(0).sqrt().amax())
        found["cut"] = float((z.abs() > policy.normaliser.limit).double().mean())
    if policy.return_normaliser is not None and returns is not None and policy.return_normaliser.count > 0:
        found["reward_scale"] = float(returns.std(correction=0) * (policy.return_normaliser.var + 1e-8).rsqrt())
    return found


@torch.no_grad()
def first_ratio(parts: Parts, rows: Rows) -> float:
    """max |pi / pi_old - 1| over all our actions."""
    gaps = []
    for part, _ in rows.parts(rows.batch, rows.batch.log_pi):
        gap = (Now(parts.policy, None, part).log_pi - part.log_pi).expm1().abs()
        gaps.append(torch.where(part.mask, gap, 0.0).amax())
    return float(torch.stack(gaps).amax())


def directions(parts: Parts, rows: Rows) -> dict[str, float]:
    """Whether the surrogate rises where its credit says so; nothing of what is 0 or the same for all actions.

    `along` knows nothing of what a page says of the distribution (entropy, exact KL), nor of what is the same for all
    actions (a baseline, the k1 of a KL); `cosine` says how far the former bend the gradient.
    """
    found, page, params = dict[str, float](), parts.method, [*movable(parts.policy).values()]
    surrogate = Surrogate(page, parts.policy, parts.critic, rows, parts.state)
    surrogate.value_coef = None
    whole = gradient(surrogate(rows.batch), params)
    of_parts = [
        (b, weight.abs(), slope(parts, b, weight), torch.as_tensor(b.psi))
        for b, weight in rows.parts(rows.batch, page.average(rows.batch.mask))
    ]
    asked = any(bool(y.any()) for *_, y, _ in of_parts)
    pulls = ((b, y if asked else size * psi) for b, size, y, psi in of_parts)
    own = gradient((average.total(Now(parts.policy, None, b).log_pi, pull, b.mask) for b, pull in pulls), params)
    if min(float(whole.norm()), float(own.norm())) > STILL:
        found["cosine" if asked else "along"] = float(torch.cosine_similarity(whole, own, dim=0, eps=0.0))
    ours = [torch.stack([x[b.mask].double() for x in of_part]) for b, *of_part in of_parts]
    every = torch.cat(ours, 1)
    size, y, psi = every[:, every[0] > 0]
    share = size / size.sum()
    y, psi = ((x - (share * x).sum()) * share.sqrt() for x in (y / size, psi))
    if min(float(y.norm()), float(psi.norm())) > STILL:
        found["along"] = float(torch.cosine_similarity(y, psi, dim=0, eps=0.0))
    return found


def slope(parts: Parts, b: Batch, weight: Tensor) -> Tensor:
    """[..., T]: d surrogate / d log pi(a|s), by whatever the page does with `now.log_pi`."""
    now = Now(parts.policy, parts.critic, b)
    now.log_pi = log_pi = now.log_pi.detach().requires_grad_()
    gain = average.total(parts.method.objective(now, b, parts.state), weight, b.mask)
    return torch.autograd.grad(gain, [log_pi], materialize_grads=True)[0]


def leaks(parts: Parts, batch: Batch, rows: Rows, g: Tensor) -> dict[str, float]:
    """What the masked slots reach: the relative change of credit and gradient when they hold garbage, and weights there."""
    try:
        _, other, g_other = prepared(parts, (spoilt_text if parts.policy.pack(batch.obs) else spoilt)(batch))
    except LogpiError:  # NaN in the credit
        return {"credit": torch.inf, "gradient": torch.inf, "weight": 0.0}
    assert rows.batch.psi is not None and other.batch.psi is not None
    psi, psi_other = (x.batch.psi[x.batch.mask] for x in (rows, other))  # type: ignore[index]
    weight = parts.method.average(other.batch.mask)
    return {
        "credit": apart(psi, psi_other),
        "gradient": apart(g, g_other),
        "weight": float(torch.where(other.batch.mask, 0.0, weight).abs().amax() / weight.abs().amax()),
    }


def apart(x: Tensor, y: Tensor) -> float:
    """max |x - y| / max |x|; infinite where y is not finite."""
    gap = (x - y).abs().amax()
    return float(torch.where(gap.isfinite(), gap / x.abs().amax().clamp(min=1e-8), torch.inf))


def spoilt_text(b: Batch) -> Batch:
    """PADDING masked slots more behind each row; other tokens there and behind the last action, NaN in every masked slot."""
    behind = b.mask.flip(-1).cumsum(-1).flip(-1) == 0
    numbers = {
        f.name: x for f in dataclasses.fields(b) if isinstance(x := getattr(b, f.name), Tensor) and f.name != "start"
    }
    for name, x in numbers.items():
        if x.is_floating_point():
            numbers[name] = torch.where(b.mask, x, torch.nan)
        elif name in ("obs", "action"):
            numbers[name] = torch.where(behind, x.roll(1, -1), x)
    return b.with_(**{name: torch.nn.functional.pad(x, (0, PADDING)) for name, x in numbers.items()}, scores=None)


def spoilt(b: Batch) -> Batch:
    """PADDING masked slots more in front of each row; garbage in them and in every masked slot that is no action's.

    A memory would begin anew after such a slot: rows of one get none.
    """
    lead, T, more = b.mask.dim() - 1, b.mask.shape[-1], PADDING if b.memory is None else 0
    ends = b.ended.long().cumsum(-1) - b.ended.long()  # before the slot
    nobody = ~b.mask & (ends > torch.where(b.mask, ends, -1).cummax(-1).values)  # no action, or an end since the last
    index = torch.arange(-more, T, device=b.mask.device)
    wide = b.with_(start=None, memory=None, scores=None).map(lambda x: x.index_select(lead, index.clamp(min=0)))
    nobody = torch.nn.functional.pad(nobody, (more, 0), value=True)

    def fill(x: Tensor) -> Tensor:
        junk = torch.nan if x.is_floating_point() else False if x.dtype == torch.bool else GARBAGE
        return torch.where(nobody.reshape(nobody.shape + (1,) * (x.dim() - nobody.dim())), junk, x).to(x.dtype)

    return wide.map(fill).with_(start=b.start, memory=b.memory)
