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
from logpi.policy import Policy

PARTS = 8
LIMIT = 2**27  # numbers that the gradients of all parts may hold together; two parts are always allowed


def part_gradients(
    method: Any, policy: Policy, batch: Batch, rows: Rows, state: dict[str, Any], parts: int = PARTS
) -> tuple[Tensor, Tensor]:
    """(g [K, P], n [K]): the gradient of the policy's surrogate from each of K <= `parts` parts alone; how many units each has.

    method: whatever has a page's `objective` and `average`. rows: those of the batch, its psi in them. One backward pass
    a part and micro-batch; no `.grad` is touched, nothing is drawn.
    """
    params, units = list(policy.parameters()), len(batch)
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
    """(value, low, high) of a statistic of parts: value -+ 1.96 sqrt((K - 1) / K sum_k (value without part k - mean)^2).

    Every axis of every tensor in `data` counts the parts (Efron & Stein 1981; the normal's 95 %).
    """
    count, value = len(data[0]), statistic(*data)
    without = torch.stack([statistic(*(_without(x, k) for x in data)) for k in range(count)])
    half = 1.96 * ((count - 1) * without.var(0, correction=0)).sqrt()
    return value, value - half, value + half


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
