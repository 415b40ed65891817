"""Where a NaN or an infinity came from.

A healthy update pays for two reads: of the rollout with its credit, and of the parameters at the end. All else here
runs once something was found.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from logpi import objective
from logpi.batch import Batch, Rows
from logpi.fast.switch import twinned
from logpi.finite import CURES, NotFinite, kind
from logpi.now import Now
from logpi.policy import movable

if TYPE_CHECKING:
    from logpi.loop import Parts

# Fields of a Batch by what they are called, in the order in which a step brings them about.
ROLLOUT = {
    "obs": "obs",
    "params": "distribution parameter",
    "action": "action",
    "log_pi": "log pi",
    "reward": "reward",
    "value": "value",
    "q": "q",
}
FOLLOWING = {"value_next": "value of the final obs", "q_next": "q of the final obs"}  # elsewhere the next step's value
CREDIT = {"log_ref": "reference log pi", "psi": "psi", "target": "target"}


@contextmanager
def watched(parts: "Parts", batch: Batch, rows: Rows) -> Iterator[None]:
    """An update that NaN and inf do not reach: NotFinite names where they come from, before a step is taken on them."""
    now = {"iteration": parts.state["iteration"] + 1}
    fields = [rollout(parts, rows.batch), at_actions(rows.batch, FOLLOWING), at_actions(rows.batch, CREDIT)]
    moved = [
        p
        for o in (parts.optimizer, parts.critic_optimizer)
        if o is not None
        for group in o.param_groups
        for p in group["params"]
    ]
    if not finite([*moved, *(x for group in fields for x in group.values())]):
        raise sick_parameter(parts, now) or next(filter(None, (first(group, batch, now) for group in fields)))
    try:
        yield
    except NotFinite as found:
        raise source(found, parts, batch, rows, now | found.where) from None
    if not finite(moved):
        raise sick_parameter(parts, now)  # type: ignore[misc]


@torch.no_grad()
@twinned(torch.float32)
def finite(tensors: list[Tensor]) -> bool:
    """Are all of them? One read, of the largest number of each."""
    return bool(torch.stack(torch._foreach_norm(tensors, torch.inf)).isfinite().all())


def parameters(parts: "Parts") -> dict[str, Tensor]:
    """What the update moves, by name."""
    modules = {"policy": parts.policy, "critic": parts.critic}
    return {
        f"{who} parameter {name}": p
        for who, module in modules.items()
        for name, p in (movable(module).items() if module is not None else ())
    }


def at_actions(b: Batch, names: dict[str, str]) -> dict[str, Tensor]:
    """Fields at our actions alone, [N, *]; what stands for an observation after the end of the task is never read."""
    found = {}
    for field, name in names.items():
        x = getattr(b, field)
        if x is not None and x.is_floating_point():
            found[name] = b.ours(torch.where(b.terminated, 0.0, x) if field.endswith("_next") else x)
    return found


def rollout(parts: "Parts", b: Batch) -> dict[str, Tensor]:
    """What was seen, done and said, [N, *]; observations as the environment gave them, before a normaliser clips them."""
    seen = at_actions(b, ROLLOUT)
    raw = getattr(parts.collect, "unseen_obs", None)
    return seen if raw is None else {"obs": raw, "normalised obs": seen.pop("obs"), **seen}


def first(fields: dict[str, Tensor], batch: Batch, where: dict[str, int], causal: bool = False) -> NotFinite | None:
    """The earliest step at which a field [N, *] is not finite; there the first field, and its first environment.

    causal: each field is made of those before it, may be of other steps': the first field, and its earliest step.
    """
    places, found = batch.mask.flatten(0, -2).nonzero(), []  # [N, 2]: environment and step of our actions
    for order, (what, x) in enumerate(fields.items()):
        sick = (~x.isfinite()).reshape(len(x), -1).any(1).nonzero()[:, 0]
        if len(sick):
            row, t = places[sick].unbind(1)
            i = (t * (row.max() + 1) + row).argmin()
            found.append((int(t[i]), order, int(row[i]), what, x[sick[i]]))
    if not found:
        return None
    step, _, environment, what, x = min(found, key=lambda one: one[1::-1] if causal else one[:2])
    name = f"{what}[{int(x.flatten().isfinite().byte().argmin())}]" if x.dim() else what
    return NotFinite(name, kind(x), CURES[what], {"environment": environment, "step": step} | where)


def sick_parameter(parts: "Parts", where: dict[str, int]) -> NotFinite | None:
    """The first parameter that is not finite."""
    for name, p in parameters(parts).items():
        if not finite([p]):
            return NotFinite(name, kind(p), CURES["parameter"], where)
    return None


def source(found: NotFinite, parts: "Parts", batch: Batch, rows: Rows, where: dict[str, int]) -> NotFinite:
    """A finding of a step, by its cause: a parameter, an action about which something is not finite, or a gradient."""
    cause = sick_parameter(parts, where) or first(said(parts, rows), batch, where, causal=True)
    owner = "".join(f" of {name}" for name, p in parameters(parts).items() if p is found.parameter)
    return cause or NotFinite(found.what + owner, found.value, found.cure, where)


@torch.no_grad()
def said(parts: "Parts", rows: Rows) -> dict[str, Tensor]:
    """What policy, page and critic say now of our actions, [N, *]: evaluated again."""
    found = defaultdict(list)
    for part, _ in rows.parts(rows.batch, rows.batch.log_pi):
        now = Now(parts.policy, parts.critic, part)
        answers = {"log pi": now.log_pi, "importance ratio": (now.log_pi - part.log_pi).exp()}
        answers["objective"] = parts.method.objective(now, part, parts.state)
        if parts.critic is not None and part.target is not None:
            answers |= {"value": now.value, "critic's error": objective.value_error(now.value, part.target)}
        for name, x in ({"distribution parameter": now.params} | {k: part.ours(x) for k, x in answers.items()}).items():
            found[name].append(x)
    return {name: torch.cat(x) for name, x in found.items()}
