"""Rows that cannot move the policy: their Psi is 0, and the page's objective has no other term."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from logpi.batch import Batch

ANSWERS = ("log_pi", "entropy", "kl_old", "kl_new", "value")


def only_psi(method: Any, state: dict[str, Any]) -> bool:
    """Is the objective's gradient 0 wherever Psi is? Found by asking the page about a row of stand-ins."""
    mask = torch.ones(1, 4, dtype=torch.bool)
    at = torch.tensor([[-0.5, -1.0, -1.5, -2.0]], dtype=torch.float64)
    answers = {name: (at * (k + 1) / 2).requires_grad_() for k, name in enumerate(ANSWERS)}
    rest: dict[str, Any] = {
        "obs": at,
        "action": at,
        "params": None,
        "reward": at,
        "terminated": ~mask,
        "truncated": ~mask,
    }
    row = Batch(
        **rest, log_pi=at.flip(-1), log_ref=at * 1.1, psi=torch.zeros_like(at), mask=mask, version=at, start=None
    )
    gain = method.objective(SimpleNamespace(**answers), row, state)
    if not isinstance(gain, Tensor) or not gain.requires_grad:
        return False
    grads = torch.autograd.grad(gain.sum(), [*answers.values()], materialize_grads=True)
    return not any(bool(g.any()) for g in grads)
