"""Who is to blame when an environment fails: the environment, or a NaN that the policy gave it."""

from torch import Tensor

from logpi.finite import CURES, NotFinite, kind


def culprit(obs: Tensor, params: Tensor, before: int, iteration: int, environment: int) -> NotFinite | None:
    """The first NaN or inf in what one environment showed, [t, *], and in what the policy said of it; None if there is none.

    before: the steps that the rollout had taken before these.
    """
    for t, (seen, said) in enumerate(zip(obs, params, strict=True), before):
        for what, x in (("obs", seen), ("distribution parameter", said)):
            if not bool(x.isfinite().all()):
                where = {"environment": environment, "step": t, "iteration": iteration}
                return NotFinite(what, kind(x), CURES[what], where)
    return None
