"""Checks of the divergences: estimates by enumeration, closed forms beside torch's own and beside integrals."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Beta, Normal, kl_divergence

from logpi import kl
from logpi.exact.kit.holds import agree, apart, check, claim, normal

S, A = 3, 4
Estimate = Callable[[Tensor, Tensor], Tensor]


def policies() -> tuple[Tensor, Tensor, Tensor]:
    """(theta, log other, log old), [S, A]: a softmax that is to move, and two others."""
    theta = normal(S, A).requires_grad_(True)
    return theta, normal(S, A, seed=1).log_softmax(-1), (theta.detach() + normal(S, A, seed=2) / 2).log_softmax(-1)


def exact(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL(p || q), summed over states."""
    return (log_p.exp() * (log_p - log_q)).sum()


def slope(f: Tensor, theta: Tensor) -> Tensor:
    return torch.autograd.grad(f, theta, retain_graph=True)[0]


@check("k1 and k3 have KL(pi || other) as their mean, and k3 is never negative")
def _() -> None:
    theta, other, _ = policies()
    log_pi = theta.log_softmax(-1)
    for f in (kl.k1, kl.k3):
        agree((log_pi.exp() * f(log_pi, other)).sum(), exact(log_pi, other), f.__name__)
    claim((kl.k3(log_pi, other) >= 0).all() and (kl.k2(log_pi, other) >= 0).all(), "negative")
    claim((kl.k1(log_pi, other) < 0).any(), "k1 is never negative: another estimate")


@check("k1, k2, k3 are x, x^2/2 and e^-x - 1 + x of x = log pi - log other")
def _() -> None:
    x = torch.linspace(-3, 3, 13, dtype=torch.float64)
    for f, value in ((kl.k1, x), (kl.k2, x * x / 2), (kl.k3, (-x).exp() - 1 + x)):
        agree(f(x - 1, torch.full_like(x, -1.0)), value, f.__name__)
    agree(kl.from_old(x - 1, torch.full_like(x, -1.0)), x.exp() * x - x.exp() + 1, "from_old")


@check("as a loss k1 has no mean gradient, k2 that of KL(pi || other), k3 that of KL(other || pi)")
def _() -> None:
    theta, other, _ = policies()
    log_pi = theta.log_softmax(-1)
    drawn = log_pi.detach().exp()
    right = {
        kl.k1: torch.zeros(S, A),
        kl.k2: slope(exact(log_pi, other), theta),
        kl.k3: slope(exact(other, log_pi), theta),
    }
    for f, gradient in right.items():
        agree(slope((drawn * f(log_pi, other)).sum(), theta), gradient, f.__name__)
    apart(right[kl.k2], right[kl.k3], "the two directions")


@check("an estimate made live is right in value and gradient for actions of an older policy")
def _() -> None:
    theta, other, old = policies()
    log_pi = theta.log_softmax(-1)
    for f in (kl.k1, kl.k3):
        live = (old.exp() * kl.live(f(log_pi, other), log_pi, old)).sum()
        agree(live, exact(log_pi, other), f"{f.__name__}, value")
        agree(slope(live, theta), slope(exact(log_pi, other), theta), f"{f.__name__}, gradient")
    apart(slope((old.exp() * kl.k3(log_pi, other)).sum(), theta), slope(exact(log_pi, other), theta), "k3 not live")


@check("from_old is KL(pi || pi_old) in value and gradient for actions of pi_old, and never negative")
def _() -> None:
    theta, _, old = policies()
    log_pi = theta.log_softmax(-1)
    found = kl.from_old(log_pi, old)
    agree((old.exp() * found).sum(), exact(log_pi, old), "value")
    agree(slope((old.exp() * found).sum(), theta), slope(exact(log_pi, old), theta), "gradient")
    claim((found >= 0).all(), "negative")


@check("the KL of two categoricals is the sum over actions; an action that p never takes adds nothing")
def _() -> None:
    p, q = normal(S, A).requires_grad_(True), normal(S, A, seed=1) + 2  # logits, not normalised
    agree(kl.categorical(p, q).sum(), exact(p.log_softmax(-1), q.log_softmax(-1)))
    agree(kl.categorical(p, p + 3), 0.0, "p, p")
    never = torch.tensor([0.0, 0.0, 0.0, -torch.inf])
    few, rest = (p + never).log_softmax(-1), q.log_softmax(-1)
    found = kl.categorical(p + never, q)
    agree(found.sum(), exact(few[:, :3], rest[:, :3]), "an action of probability 0")
    agree(kl.categorical(p + never, q + never).sum(), exact(few[:, :3], (q + never).log_softmax(-1)[:, :3]), "in both")
    claim(slope(found.sum(), p).isfinite().all(), "the gradient is not finite where p is 0")


@check("records with any leading axes have the same KL")
def _() -> None:
    p, q = (normal(3, 2, 4, seed=i).abs() + 1 for i in (0, 1))
    for f in (kl.categorical, kl.gaussian, kl.beta):
        agree(
            f(p, q), torch.stack([torch.stack([f(*y) for y in zip(*x, strict=True)]) for x in zip(p, q, strict=True)])
        )


@check("the KL of two Gaussians is torch's, and the integral of its definition")
def _() -> None:
    p, q = normal(5, 4), normal(5, 4, seed=1)
    own, other = (Normal(x[:, :2], x[:, 2:].exp()) for x in (p, q))
    agree(kl.gaussian(p, q), kl_divergence(own, other).sum(-1), "torch.distributions")
    agree(kl.gaussian(p, p), 0.0, "p, p")
    z = torch.arange(-14, 14, 0.05, dtype=torch.float64)[:, None, None]
    x = own.mean + own.stddev * z
    density = own.log_prob(x).exp() * own.stddev * 0.05
    agree((density * (own.log_prob(x) - other.log_prob(x))).sum(0).sum(-1), kl.gaussian(p, q), "integral")


@check("the KL of two Betas is torch's, and the integral of its definition")
def _() -> None:
    p, q = (1 + normal(5, 4, seed=i).exp() for i in (0, 1))
    own, other = (Beta(x[:, :2], x[:, 2:]) for x in (p, q))
    agree(kl.beta(p, q), kl_divergence(own, other).sum(-1), "torch.distributions")
    agree(kl.beta(p, p), 0.0, "p, p")
    y = torch.arange(-36, 36, 0.1, dtype=torch.float64)[:, None, None].expand(-1, 5, 2)  # x = sigmoid(y)
    x = y.sigmoid().clamp(1e-16, 1 - 1e-16)
    density = own.log_prob(x).exp() * x * (-y).sigmoid() * 0.1
    agree((density * (own.log_prob(x) - other.log_prob(x))).sum(0).sum(-1), kl.beta(p, q), "integral", 1e-8)
