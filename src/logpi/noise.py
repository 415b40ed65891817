"""How noisy a gradient is, read off the gradients of parts of a batch.

A batch has independent units: episodes, segments of one environment, groups from one start; never single steps of one
trajectory. Its gradient is a mean over U of them, with covariance Sigma / U. Split into K parts of n_k units, with
gradients g_k and their mean gbar (weighted by n_k), it tells

    S       = sum_k n_k |g_k - gbar|^2 / (K - 1)     tr Sigma: the total variance of one unit's gradient
    |G|^2   = |gbar|^2 - S / U                       the true gradient's square, which may come out negative
    SNR     = U |G|^2 / S,   noise scale = S / |G|^2: the number of units whose SNR is 1

S and |G|^2 are unbiased. With equal parts they are what McCandlish et al. 2018 ("An empirical model of large-batch
training", appendix A) make of the squares at two batch sizes, the part's and the whole's. A divisor made from the batch
(its number of actions) and credit that couples its rows (standardising) count as given. After the backward passes
everything is a function of the inner products of the parts: their Gram matrix [K, K].
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from logpi import average
from logpi.batch import Batch, Rows
from logpi.device import widest
from logpi.now import Now
from logpi.policy import Policy, movable

PARTS = 8
LIMIT = 2**27  # numbers that the gradients of all parts may hold together; two parts are always allowed
# Student's t at 97.5 %: of 1 to 10 degrees of freedom, and of more in powers of 1 / degrees
FEW = (12.70620, 4.30265, 3.18245, 2.77645, 2.57058, 2.44691, 2.36462, 2.30600, 2.26216, 2.22814)
SERIES = (1.9599640, 2.3722712, 2.8224986, 2.5558497, 1.5895341)


def part_gradients(
    method: Any, policy: Policy, batch: Batch, rows: Rows, state: dict[str, Any], parts: int = PARTS
) -> tuple[Tensor, Tensor]:
    """(g [K, P], n [K]): the gradient of the policy's surrogate from each of K <= `parts` parts alone; how many units each has.

    method: whatever has a page's `objective` and `average`. rows: those of the batch, its psi in them. One backward pass
    a part and micro-batch; no `.grad` is touched, nothing is drawn.
    """
    params, units = [*movable(policy).values()], len(batch)
    size, weight = sum(p.numel() for p in params), method.average(rows.batch.mask)
    count = min(parts, units, max(2, LIMIT // size))
    edges = [k * units // count for k in range(count + 1)]
    begins = [0, *rows_per_unit(batch, rows).cumsum(0).tolist()]

    def gradient(mini: Batch, weight: Tensor) -> Tensor:
        found = params[0].new_zeros(size)
        for part, w in rows.parts(mini, weight):
            gain = average.total(method.objective(Now(policy, None, part), part, state), w, part.mask)
            found += torch.cat([g.flatten() for g in torch.autograd.grad(gain, params, materialize_grads=True)])
        return found

    out = []
    for low, high in pairwise(edges):
        here = slice(begins[low], begins[high])
        share = rows.in_memory(rows.batch[here], lambda mini, w=weight[here]: gradient(mini, w))  # type: ignore[misc]
        out.append(share * (units / (high - low)))
    return torch.stack(out), torch.tensor(edges, device=weight.device).diff()


def rows_per_unit(batch: Batch, rows: Rows) -> Tensor:
    """[U]: the rows that each unit, an entry of the batch's first axis, became: its actions, or its episodes."""
    if rows.batch.mask.dim() > 1:
        return torch.full((len(batch),), len(rows) // len(batch))
    return batch.mask.flatten(1).sum(1)


def gram(g: Tensor, other: Tensor | None = None) -> Tensor:
    """<g_k, h_l>, [K, K], of g and h [K, P] (h = g where not given), in the widest float there is."""
    g = g.to(widest(g.device))
    return g @ (g if other is None else other.to(g)).T


def moments(inner: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
    """(S, |G|^2), both unbiased, from the Gram matrix [K, K] of parts of n [K] units; NaN for one part."""
    total, n = n.sum(), n.to(inner)
    square = n @ inner @ n / total.square()
    variance = (n @ inner.diagonal() - total * square) / (len(n) - 1 if len(n) > 1 else torch.nan)
    return variance, square - variance / total


def halves(inner: Tensor, n: Tensor) -> Tensor:
    """The cosine between the gradients of the first half of the parts and of the rest; NaN for one part."""
    n, first = n.to(inner), torch.arange(len(n), device=n.device) < len(n) // 2
    a, b = n * first, n * ~first
    return a @ inner @ b / (a @ inner @ a * (b @ inner @ b)).sqrt()


def alignment(own: Tensor, cross: Tensor, other: Tensor) -> Tensor:
    """The mean cosine of each part's g_k to the mean of the *other* parts' h_l; own = <g, g>, cross = <g, h>, other = <h, h>.

    To its own part's h the cosine would be too high: both hold the same noise.
    """
    to_rest = cross.sum(1) - cross.diagonal()
    rest = other.sum() - 2 * other.sum(1) + other.diagonal()
    return (to_rest / (own.diagonal() * rest).sqrt()).mean()


def jackknife(statistic: Callable[..., Tensor], *data: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(value, low, high) of a statistic of parts, its 95 % interval with K - 1 degrees of freedom.

    Every axis of every tensor in `data` counts the parts.
    """
    count, value = len(data[0]), statistic(*data)
    half = half_interval(torch.stack([statistic(*(_without(x, k) for x in data)) for k in range(count)]))
    return value, value - half, value + half


def half_interval(left_out: Tensor) -> Tensor:
    """t sqrt((K - 1) / K sum_k (x_k - mean)^2), [...], from the K values with one part left out each, [K, ...]; NaN for K = 1.

    The jackknife (Efron & Stein 1981), in the widest float there is; t is the 97.5 % point of Student's distribution.
    """
    x, degrees = left_out.to(widest(left_out.device)), len(left_out) - 1
    return student(degrees) * (degrees * x.var(0, correction=0)).sqrt() if degrees else torch.full_like(x[0], torch.nan)


def student(degrees: int) -> float:
    """The 97.5 % point of Student's t, to 1e-5: by a table, then the series (Abramowitz & Stegun 1964, eq. 26.7.5)."""
    if degrees <= len(FEW):
        return FEW[degrees - 1]
    return sum(c / degrees**k for k, c in enumerate(SERIES))


def _without(x: Tensor, k: int) -> Tensor:
    """x without the k-th entry along each of its axes."""
    for axis in range(x.dim()):
        x = torch.cat([x.narrow(axis, 0, k), x.narrow(axis, k + 1, x.shape[axis] - k - 1)], axis)
    return x


def measure(method: Any, policy: Policy, batch: Batch, rows: Rows, state: dict[str, Any]) -> dict[str, Tensor]:
    """What a training iteration logs of its gradient, before the step; the unit is an entry of the batch's first axis.

    The SNR is that of the whole batch. The noise scale is inf where the batch shows no signal; over iterations it is the
    mean of grad_variance over the mean of grad_signal, not the mean of the ratios.
    """
    g, n = part_gradients(method, policy, batch, rows, state)
    inner = gram(g)
    variance, signal = moments(inner, n)
    return {
        "grad_variance": variance,
        "grad_signal": signal,
        "grad_snr": n.sum() * signal / variance,
        "grad_noise_scale": noise_scale(variance, signal),
        "grad_cosine_halves": halves(inner, n),
    }


def noise_scale(variance: Tensor, signal: Tensor) -> Tensor:
    """S / |G|^2 in units (McCandlish et al. 2018, B_simple); inf where |G|^2 does not come out positive."""
    return variance / signal.clamp(min=0)


def ess(log_rho: Tensor) -> Tensor:
    """(sum rho)^2 / (n sum rho^2), the effective share of n actions, from log rho [n] (Kong 1992).

    rho = pi / pi_old. 1 while the policy is the one that drew them, 1/n where one action holds all the weight.
    """
    log_rho = log_rho.to(widest(log_rho.device))
    return (2 * log_rho.logsumexp(0) - (2 * log_rho).logsumexp(0)).exp() / len(log_rho)
