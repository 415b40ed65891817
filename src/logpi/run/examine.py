"""A fresh batch of a run, collected with its newest checkpoint and looked at before any step: measures and judgements.

Nothing is written into the run folder and no lock is taken: a run that is still training can be examined.
"""

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from logpi import chance
from logpi.batch import Batch, Rows
from logpi.errors import EnvironmentFailed, LogpiError
from logpi.loop import Parts, update
from logpi.now import Divergence, Now, Surrogate
from logpi.run import checkpoint, config
from logpi.run.doctor import NEAR, RATIO, STILL, Finding, Log, State
from logpi.run.resume import reopen
from logpi.run.table import figure
from logpi.step.gradient import total
from logpi.step.natural import gradient

ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-12}  # of a ratio of 1, as the loop allows it
PADDING = 16  # masked slots put in front of each row: a mean over slots instead of actions moves by per cents
GARBAGE = 10**6  # a whole number that no action is
LEAK = 1e-3  # of the gradient or the credit: float32 sums in another order differ by 1e-5
DEAD = 0.8  # of the groups: four fifths of the rollout teach nothing
FAR, MANY, MOST = 4.0, 0.01, 0.1  # stds from the stored mean (1 is usual); shares of numbers cut at the limit
SCALE = 5.0  # times the stored std of the discounted return
NO_BATCH = "needs a fresh batch"


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
    equal_groups: float | None = None  # share of the groups whose returns are all equal
    distance: float | None = None  # rms of (raw obs - stored mean) / stored std, in the worst feature
    cut: float | None = None  # share of the raw numbers beyond the normaliser's limit
    reward_scale: float | None = None  # std of the discounted returns over the stored one


class Enough(Exception):  # noqa: N818
    """The update has come to its step."""


class Looking:
    """A page whose step only keeps what it is given."""

    def __init__(self, method: Any) -> None:
        self.method = method

    def __getattr__(self, name: str) -> Any:
        return getattr(self.method, name)

    def step(self, surrogate: Surrogate, kl: Divergence, rows: Rows, optimizer: Any) -> None:
        self.given = surrogate, kl, rows
        raise Enough


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
        with contextlib.closing(parts.collect.envs):
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
    yield rollout(batch)
    yield normalisers(parts)
    kl, rows, g = prepared(parts, batch)
    assert rows.batch.psi is not None
    yield {"credit": float(rows.batch.psi[rows.batch.mask].abs().amax()), "gradient": float(g.norm())}
    yield {"first_ratio": first_ratio(parts, rows), "kl": float(total(kl(rows.batch)))}
    yield {"leaks": leaks(parts, batch, rows, g)}


def prepared(parts: Parts, batch: Batch) -> tuple[Divergence, Rows, Tensor]:
    """What the loop gives to the page's step, and the flat gradient of the surrogate, of the policy's parameters."""
    looking = Looking(parts.method)
    with contextlib.suppress(Enough):
        update(dataclasses.replace(parts, method=looking, measure_gradient=0), batch)
    surrogate, kl, rows = looking.given
    return kl, rows, gradient(surrogate(rows.batch), [*parts.policy.parameters()])


def rollout(b: Batch) -> dict[str, Any]:
    log_pi = b.log_pi[b.mask]
    found = {
        "actions": int(b.mask.sum()),
        "masked": float((~b.mask).double().mean()),
        "reward": float(b.reward[b.mask].abs().amax()),
        "rounding": ROUNDING[log_pi.dtype] * max(1.0, float(log_pi.abs().amax())),
    }
    if b.mask.dim() == 3:
        ret = b.to_actions()[0].reward.sum(-1)
        found["equal_groups"] = float((ret.amax(-1) == ret.amin(-1)).double().mean())
    return found


def normalisers(parts: Parts) -> dict[str, float]:
    """How far what the rollout saw is from what was stored; of those that have seen something."""
    found = {}
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


def leaks(parts: Parts, batch: Batch, rows: Rows, g: Tensor) -> dict[str, float]:
    """What the masked slots reach: the relative change of credit and gradient when they hold garbage, and weights there."""
    try:
        _, other, g_other = prepared(parts, spoilt(batch))
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


def spoilt(b: Batch) -> Batch:
    """PADDING masked slots more in front of each row; garbage in them and in every masked slot that is no action's."""
    lead, T = b.mask.dim() - 1, b.mask.shape[-1]
    ends = b.ended.long().cumsum(-1) - b.ended.long()  # before the slot
    nobody = ~b.mask & (ends > torch.where(b.mask, ends, -1).cummax(-1).values)  # no action, or an end since the last
    index = torch.arange(-PADDING, T, device=b.mask.device)
    wide = b.with_(start=None, scores=None).map(lambda x: x.index_select(lead, index.clamp(min=0)))
    nobody = torch.nn.functional.pad(nobody, (PADDING, 0), value=True)

    def fill(x: Tensor) -> Tensor:
        junk = torch.nan if x.is_floating_point() else False if x.dtype == torch.bool else GARBAGE
        return torch.where(nobody.reshape(nobody.shape + (1,) * (x.dim() - nobody.dim())), junk, x).to(x.dtype)

    return wide.map(fill).with_(start=b.start)


def fresh(log: Log, live: Live) -> Finding:
    name = "fresh batch"
    if live.why:
        return Finding(name, "not measured", live.why)
    if live.failed:
        return Finding(name, "wrong", live.failed, "mend that: training would meet it too")
    return Finding(name, "ok", f"{live.actions:,} actions of {live.checkpoint}")


def ratio(log: Log, live: Live) -> Finding:
    name, history = "first ratio", log.column("first_ratio_error")
    told = f"at most {max(history):.1e} in the log" if history else "none in the log"
    if live.first_ratio is None:
        return Finding(name, "ok" if history else "not measured", f"|pi / pi_old - 1| {told}" if history else NO_BATCH)
    seen = f"|pi / pi_old - 1| up to {live.first_ratio:.1e} before any step, {told}"
    if not live.first_ratio <= live.rounding:
        return Finding(name, "wrong", seen, RATIO)
    return Finding(name, "ok", seen)


def first_kl(log: Log, live: Live) -> Finding:
    name = "first KL"
    if live.kl is None:
        return Finding(name, "not measured", NO_BATCH)
    seen = f"KL(old || new) {live.kl:.1e} before any step"
    if not abs(live.kl) <= live.rounding:
        cure = "as for the first ratio; where that is 1, the head's kl and its log_prob disagree"
        return Finding(name, "wrong", seen, cure)
    return Finding(name, "ok", seen)


def masks(log: Log, live: Live) -> Finding:
    name = "masks"
    if live.leaks is None or live.first_ratio is None:
        return Finding(name, "not measured", NO_BATCH)
    if not live.first_ratio <= live.rounding:
        return Finding(name, "not measured", "no two gradients are alike while the first ratio is off")
    share = f"{live.masked:.0%} of this batch was masked" if live.masked else "nothing in this batch was masked"
    found = [
        f"change the {what} {percent(live.leaks[what])}" for what in ("credit", "gradient") if live.leaks[what] > LEAK
    ]
    found += ["have weight in the average"] if live.leaks["weight"] else []
    if not found:
        return Finding(name, "ok", f"garbage and more padding there change neither credit nor gradient; {share}")
    cure = "use the mask in the page: average.weights, psi.standardise, where(mask, x, 0)"
    return Finding(name, "wrong", f"garbage and more padding there {' and '.join(found)}; {share}", cure)


def percent(x: float) -> str:
    return f"by {x:.0%}" if x < torch.inf else "to NaN"


def signal(log: Log, live: Live) -> Finding:
    name = "signal"
    if live.gradient is None:
        return Finding(name, "not measured", NO_BATCH)
    dead: State = "look" if log.height >= NEAR else "wrong"  # what is solved has no more to teach
    if live.equal_groups == 1:
        what = "loss is 0" if live.gradient == 0 else "credit is 0 (what is left of the loss is its bonuses)"
        cure = "harder or easier starts, a larger group, or a reward that tells one episode from another"
        return Finding(name, dead, f"the {what} because all rewards in every group are equal", cure)
    if live.reward == 0:
        cure = "a shaped reward, starts nearer to the goal, or more exploration (an entropy bonus)"
        state: State = "look" if any(log.curve) else "wrong"
        return Finding(name, state, f"every reward of {live.actions:,} actions is 0", cure)
    if live.credit == 0:
        return Finding(name, dead, "the credit of every action is 0", "look at the rewards, then at the page's psi")
    if live.gradient <= STILL:
        cure = "the policy is certain of every action: start again with a lower learning rate or an entropy bonus"
        return Finding(name, dead, f"the gradient is {live.gradient:.1e}, and the credit is not 0", cure)
    seen = f"gradient {figure(live.gradient)}, credit up to {figure(live.credit)}"
    if live.equal_groups is not None:
        seen += f"; all rewards are equal in {live.equal_groups:.0%} of the groups"
    if (live.equal_groups or 0.0) < DEAD:
        return Finding(name, "ok", seen)
    return Finding(name, "look", seen, "these teach nothing: harder or easier starts, or a larger group")


def normaliser(log: Log, live: Live) -> Finding:
    name, seen = "normaliser", []
    if live.distance is not None:
        seen.append(f"observations {figure(live.distance)} stds from the stored mean, {live.cut:.1%} of them cut")
    if live.reward_scale is not None:
        seen.append(f"returns spread {figure(live.reward_scale)} times what was stored")
    if not seen:
        return Finding(name, "not measured", NO_BATCH if live.credit is None else "no normaliser has seen anything yet")
    told, cut = "; ".join(seen), live.cut or 0.0
    cure = (
        "has the environment changed its units or its reward? then start a new run, else train on till it has followed"
    )
    if cut > MOST:
        return Finding(name, "wrong", told, cure)
    if (live.distance or 0.0) > FAR or cut > MANY or (live.reward_scale or 0.0) > SCALE:
        return Finding(name, "look", told, cure)
    return Finding(name, "ok", told)


CHECKS = (fresh, ratio, first_kl, masks, signal, normaliser)
