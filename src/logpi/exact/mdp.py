"""Finite Markov decision processes solved: values, visits, J, its gradient, the Fisher matrix, KL. No sampling.

A process is a `Table` (P, R, start, terminal, limit). With `limit=None` it runs until it terminates, and the
answers are linear solves, [S]; with a limit the step counts too, and they are a recursion over it, [limit, S].
pi [S, A] may come from any policy: all of it is differentiable in pi. float64 stays float64.
"""

import torch
from torch import Tensor
from torch.func import functional_call, jacrev, vmap

from logpi.envs.tabular import Table
from logpi.errors import LogpiError
from logpi.policy import Policy
from logpi.step.natural import flat


def onward(table: Table) -> Tensor:
    """P [S, A, S] as far as it goes on: nothing follows a terminal state, and nothing happens in one."""
    alive = (~table.terminal).to(table.P)
    return table.P * alive * alive[:, None, None]


def rewards(table: Table) -> Tensor:
    """E[r | s, a], [S, A]; 0 in terminal states."""
    R = table.R if table.R.dim() == 2 else (table.P * table.R).sum(-1)
    return R * (~table.terminal).to(R)[:, None]


def values(table: Table, pi: Tensor, gamma: float, limit: int | None = None) -> tuple[Tensor, Tensor]:
    """(V, Q): V = (I - gamma P_pi)^-1 R_pi, Q = R + gamma P V. [S] and [S, A], or with a leading axis of steps."""
    P, R = gamma * onward(table), rewards(table)
    if limit is None:
        V = _solve(torch.einsum("sa,sax->sx", pi, P), (pi * R).sum(-1), gamma)
        return V, R + P @ V
    V, Vs, Qs = torch.zeros_like(table.start), [], []
    for _ in range(limit):
        Q = R + P @ V
        V = (pi * Q).sum(-1)
        Vs.append(V)
        Qs.append(Q)
    return torch.stack(Vs[::-1]), torch.stack(Qs[::-1])


def visits(table: Table, pi: Tensor, gamma: float, limit: int | None = None) -> Tensor:
    """d(s) = sum_t gamma^t P(s_t = s) where an action is taken: d = (I - gamma P_pi')^-1 start. Without gamma^t: gamma=1."""
    P_pi = torch.einsum("sa,sax->sx", pi, onward(table))
    d = table.start * ~table.terminal
    if limit is None:
        return _solve(gamma * P_pi.T, d, gamma)
    out = [d]
    for _ in range(limit - 1):
        d = gamma * d @ P_pi
        out.append(d)
    return torch.stack(out)


def _solve(M: Tensor, x: Tensor, gamma: float) -> Tensor:
    """(I - M)^-1 x."""
    try:
        found = torch.linalg.solve(torch.eye(len(x), dtype=x.dtype) - M, x)
    except torch.linalg.LinAlgError as singular:
        found = singular
    if isinstance(found, Exception) or not bool(found.isfinite().all()) or bool(found.detach().abs().max() > 1e12):
        raise LogpiError(f"This process may never end, and gamma is {gamma:g}: use a gamma below 1, or a limit.")
    return found


def expected_return(table: Table, pi: Tensor, gamma: float, limit: int | None = None) -> Tensor:
    """J = E[sum_t gamma^t r_t], a scalar."""
    V, _ = values(table, pi, gamma, limit)
    return table.start @ (V if limit is None else V[0])


def probabilities(policy: Policy, obs: Tensor) -> Tensor:
    """pi [S, A] of a policy over finitely many actions, obs [S, F] what it sees in each state."""
    return policy(obs).softmax(-1)


def gradient(
    table: Table, policy: Policy, obs: Tensor, gamma: float, from_start: bool = True, limit: int | None = None
) -> Tensor:
    """sum_s d(s) sum_a grad pi(a|s) Q(s, a), flat [P]: grad J; without gamma^t in d where `from_start` is False.

    The policy gradient theorem (Sutton et al. 2000). The direction without gamma^t, which nearly everyone follows, is
    the gradient of no objective (Nota & Thomas 2020) unless gamma is 1.
    """
    pi = probabilities(policy, obs)
    with torch.no_grad():
        _, Q = values(table, pi, gamma, limit)
        d = visits(table, pi, gamma if from_start else 1.0, limit)
    return flat(torch.autograd.grad((d[..., None] * pi * Q).sum(), list(policy.parameters()), materialize_grads=True))


def jacobian(policy: Policy, obs: Tensor) -> Tensor:
    """d params / d theta, [S, A, P]: of every parameter of the distribution in every state."""
    theta = {name: p.detach() for name, p in policy.named_parameters()}

    def params(theta: dict[str, Tensor], obs: Tensor) -> Tensor:
        return functional_call(policy, theta, (obs[None],))[0]

    found = vmap(jacrev(params), in_dims=(None, 0))(theta, obs)
    return torch.cat([x.flatten(2) for x in found.values()], -1)


def fisher(policy: Policy, obs: Tensor, weight: Tensor) -> Tensor:
    """F = sum_s weight(s) E_a[grad log pi grad log pi'], [P, P], dense. weight [S], as `visits` over its sum."""
    J = jacobian(policy, obs)
    with torch.no_grad():
        moved = policy.head.fisher(policy(obs)[:, None], J.transpose(1, 2))
    return torch.einsum("s,sap,sqa->pq", weight, J, moved)


def natural_gradient(F: Tensor, g: Tensor) -> Tensor:
    """F^+ g: the pseudo-inverse, for F is singular where parameters do not move the policy (a softmax's shift)."""
    return torch.linalg.pinv(F, hermitian=True) @ g


def kl(p: Tensor, q: Tensor, weight: Tensor) -> Tensor:
    """sum_s weight(s) KL(p(.|s) || q(.|s)); p, q [S, A]. Weighted by `visits` without a discount: KL of the episodes.

    Written out here, for it judges `logpi.kl`.
    """
    gap = torch.where(p > 0, p.log() - q.log(), 0.0)
    return (weight * (p * gap).sum(-1)).sum()


def kl_gradient(
    table: Table,
    policy: Policy,
    obs: Tensor,
    ref: Tensor,
    per_action: bool = False,
    gamma: float = 1.0,
    limit: int | None = None,
) -> Tensor:
    """The gradient of sum_t gamma^t E[KL(pi || ref)], flat [P]: at gamma 1 that of whole episodes' KL.

    `per_action`: with the visits held fixed. ref [S, A] probabilities.
    """
    pi = probabilities(policy, obs)
    d = visits(table, pi, gamma, limit)
    d = d if limit is None else d.sum(0)
    total = kl(pi, ref, d.detach() if per_action else d)
    return flat(torch.autograd.grad(total, list(policy.parameters()), materialize_grads=True))
