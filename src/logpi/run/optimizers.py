"""torch's optimisers, by name."""

from typing import Any

import torch

from logpi.critic import plan
from logpi.errors import LogpiError, nearest
from logpi.now import joint_coef
from logpi.policy import movable
from logpi.run.undecorated import undecorated


def optimizers(
    method: Any, name: str, policy: torch.nn.Module, critic: Any, eps: float = 1e-5, beta2: float = 0.999
) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer | None]:
    """One for policy and critic where the page fits them jointly, else one for each. eps, beta2: of Adam."""
    others = ("Optimizer", "LBFGS", "SparseAdam", "Muon")  # they need a closure, sparse gradients, matrices only
    known = [x for x in dir(torch.optim) if isinstance(getattr(torch.optim, x), type) and x not in others]
    if name not in known:
        raise LogpiError(f"torch.optim has no optimiser {name!r} for any gradient.{nearest(name, known)}")
    kind = getattr(torch.optim, name)
    fused = next(policy.parameters()).device.type != "mps"
    extra = {"eps": eps, "betas": (0.9, beta2), "fused": fused} if name in ("Adam", "AdamW") else {}
    joint = critic is not None and joint_coef(method) is not None
    params = [*movable(policy).values(), *(critic.parameters() if joint else [])]
    with undecorated():
        own = None if joint or critic is None else kind(critic.parameters(), lr=plan(method).lr, **extra)
        if hasattr(method, "lr"):
            main = kind(params, lr=method.lr, **extra)
        else:  # a natural step sets its own length; `ascend` refuses this one
            main = torch.optim.SGD(params, lr=0.0)
    for optimizer in (main, own):
        for part in optimizer.param_groups if optimizer is not None else ():
            part["initial_lr"] = part["lr"]
    return main, own
