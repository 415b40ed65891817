"""A loss of the user's own as an estimator: what it may ask for, by the names of its parameters."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from logpi.errors import LogpiError, nearest
from logpi.exact.expectation import Said, Surrogate
from logpi.exact.problem import Padded

# name -> what it is, [n, T] of n episodes unless said; in padding mask is False and what was recorded 0
GIVEN: dict[str, Callable[[Said, Padded], Any]] = {
    "log_pi": lambda now, b: now.log_pi,  # log pi(a|s) of the policy that is to improve, with its gradient
    "log_pi_old": lambda now, b: b.log_pi,  # of the policy that drew the actions
    "log_ref": lambda now, b: b.log_ref,  # of the reference policy
    "logits": lambda now, b: now.params,  # [n, T, A], with their gradient
    "logits_ref": lambda now, b: now.ref,  # [n, T, A]
    "entropy": lambda now, b: now.entropy,  # H(pi(.|s)), with its gradient
    "action": lambda now, b: b.action,
    "reward": lambda now, b: b.reward,
    "mask": lambda now, b: b.mask,  # True on actions (the end token is one), False on padding
    "terminated": lambda now, b: b.terminated,
    "truncated": lambda now, b: b.truncated,
    "value": lambda now, b: b.value,  # V(s_t)
    "value_next": lambda now, b: b.value_next,  # V(s_{t+1}); of a terminal state it means nothing
}


def surrogate_of_loss(loss: Callable[..., Tensor], **constants: Any) -> Surrogate:
    """The surrogate -loss(...), for a loss is to be minimised; `constants`: gamma and what else it asks for by name."""
    name = name_of(loss)
    asked = _asked(loss, name, constants)

    def surrogate(now: Said, b: Padded) -> Tensor:
        said = {x: constants[x] if x in constants else GIVEN[x](now, b) for x in asked}
        missing = [x for x, value in said.items() if value is None and x not in constants]
        if any(asked[x] for x in missing):
            raise LogpiError(f"{name} asks for {missing[0]}: this problem has no reference policy, use sequences.")
        found = loss(**{x: value for x, value in said.items() if x not in missing})  # what has a default keeps it
        shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        if not isinstance(found, Tensor) or found.dim() > 0 or not found.is_floating_point():
            raise LogpiError(
                f"{name} returned {shape}: a loss is one number, a float tensor of shape [], for the batch."
            )
        return -found.to(torch.float64)

    return surrogate


def name_of(loss: Any) -> str:
    """What a loss is called; a partial by what it calls."""
    return getattr(loss, "__name__", None) or (name_of(loss.func) if hasattr(loss, "func") else type(loss).__name__)


def _asked(loss: Any, name: str, constants: dict[str, Any]) -> dict[str, bool]:
    """The parameters to fill, and whether they must be: those that are known, and no other without a default."""
    if not callable(loss) or isinstance(loss, type):
        what = "is a class: pass an instance" if isinstance(loss, type) else "is not a function"
        raise LogpiError(f"{name} {what}; an estimator is a loss, a function of a batch, or a method page.")
    known = {**GIVEN, **constants}
    asked: dict[str, bool] = {}
    for x in inspect.signature(getattr(loss, "forward", loss)).parameters.values():  # of a Module: its forward's
        if x.kind is x.VAR_KEYWORD:
            asked |= {every: False for every in known if every not in asked}
        elif x.kind is x.POSITIONAL_ONLY:
            raise LogpiError(f"{name} takes {x.name} by position only: its parameters are filled by their names.")
        elif x.name in known:
            asked[x.name] = x.default is x.empty
        elif x.default is x.empty and x.kind is not x.VAR_POSITIONAL:
            raise LogpiError(f"{name} asks for {x.name!r}, which no batch has.{nearest(x.name, known)}")
    for given in constants:
        if given not in asked and given != "gamma":
            raise LogpiError(f"{name} was given {given}, for which it does not ask.{nearest(given, asked)}")
    return asked
