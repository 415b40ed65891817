"""What a policy says of its actions, and the way back from there to the network's outputs: a block of rows at a time.

Answers are rows of BLOCK floats: log pi(a|s), entropy, KL(old || pi), KL(pi || old), the last two where `kl` asks for them.
out [n, ld] are network outputs, action [n, *] what was done, old [n, size] the parameters that drew it; `know` holds what a
head knows beside the outputs: log-stds, and the log-widths of its Box.
"""

import math
from typing import Any

import numpy as np
from numba import njit

from logpi.fast.special import digamma, exp, trigamma
from logpi.fast.tile import OPTIONS, at

BLOCK = 128  # rows that go through a network at once: what they leave behind stays in the cache
LOG_PI, ENTROPY, KL_OLD, KL_NEW = (BLOCK * i for i in range(4))
CATEGORICAL, GAUSSIAN, SQUASHED, BETA = range(4)

f32 = np.float32
HALF_LOG_2PI, HALF, ONE, TWO, ZERO = f32(0.5 * math.log(2 * math.pi)), f32(0.5), f32(1), f32(2), f32(0)
LOWEST = f32(np.finfo(np.float32).min)



@njit(**OPTIONS, inline="always")
def answer(head: int, out: Any, ld: int, know: Any, action: Any, old: Any, size: int, kl: bool, said: Any, n: int) -> None:
    """What is said of n rows."""
    if head == CATEGORICAL:
        categorical(out, ld, action, old, size, kl, said, n)
    elif head == BETA:
        beta(out, ld, know, action, old, size // 2, kl, said, n)
    else:
        gaussian(head == SQUASHED, out, ld, know, action, old, size // 2, kl, said, n)


@njit(**OPTIONS, inline="always")
def pull(head: int, out: Any, ld: int, know: Any, action: Any, old: Any, size: int, kl: bool, g: Any, d: Any, on_know: Any, n: int) -> None:
    """The slopes g of a sum by the answers -> its gradient d [n, ld] by the outputs, and added to on_know by the log-stds."""
    if head == CATEGORICAL:
        pull_categorical(out, ld, action, old, size, kl, g, d, n)
    elif head == BETA:
        pull_beta(out, ld, action, old, size // 2, kl, g, d, n)
    else:
        pull_gaussian(head == SQUASHED, out, ld, know, action, old, size // 2, kl, g, d, on_know, n)


@njit(**OPTIONS)
def log_softmax(x: Any, into: Any, size: int) -> None:
    top = x[0]
    for j in range(1, size):
        top = x[j] if x[j] > top else top
    total = ZERO
    for j in range(size):
        into[j] = x[j] - top
        total += exp(into[j])
    shift = f32(math.log(total))
    for j in range(size):
        into[j] -= shift


@njit(**OPTIONS)
def categorical(out: Any, ld: int, action: Any, old: Any, size: int, kl: bool, said: Any, n: int) -> None:
    """Afterwards `out` holds log p, and old log p_old where `kl`."""
    for r in range(n):
        log_p, other = at(out, r * ld), at(old, r * size)
        log_softmax(log_p, log_p, size)
        entropy = ZERO
        for j in range(size):
            entropy -= exp(log_p[j]) * max(log_p[j], LOWEST)
        said[LOG_PI + r], said[ENTROPY + r] = log_p[int(action[r])], entropy
        if kl:
            log_softmax(other, other, size)
            forth = back = ZERO
            for j in range(size):
                p, q = exp(other[j]), exp(log_p[j])
                forth += p * (other[j] - log_p[j]) if p > ZERO else ZERO
                back += q * (log_p[j] - other[j]) if q > ZERO else ZERO
            said[KL_OLD + r], said[KL_NEW + r] = forth, back


@njit(**OPTIONS)
def pull_categorical(
    out: Any, ld: int, action: Any, old: Any, size: int, kl: bool, g: Any, d: Any, n: int
) -> None:
    """d log p_a = 1_a - p; dH = -p (log p + H); dKL(old || p) = p - p_old; dKL(p || old) = p (log p - log p_old - KL)."""
    for r in range(n):
        log_p, other, into = at(out, r * ld), at(old, r * size), at(d, r * ld)
        on_log_pi, on_entropy, on_old, on_new = g[LOG_PI + r], g[ENTROPY + r], g[KL_OLD + r], g[KL_NEW + r]
        entropy = divergence = ZERO
        for j in range(size):
            p = exp(log_p[j])
            entropy -= p * max(log_p[j], LOWEST)
            if kl and p > ZERO:
                divergence += p * (log_p[j] - other[j])
        for j in range(size):
            p = exp(log_p[j])
            slope = -on_log_pi * p - on_entropy * p * (max(log_p[j], LOWEST) + entropy)
            if kl:
                slope += on_old * (p - exp(other[j]))
                if p > ZERO:
                    slope += on_new * p * (log_p[j] - other[j] - divergence)
            into[j] = slope
        into[int(action[r])] += on_log_pi


@njit(**OPTIONS)
def gaussian(
    squashed: bool, out: Any, ld: int, know: Any, action: Any, old: Any, size: int, kl: bool, said: Any, n: int
) -> None:
    """size: of the action; `know` has, for the squashed one, the logs of half the widths behind the log-stds."""
    for r in range(n):
        mean, done, was = at(out, r * ld), at(action, r * size), at(old, 2 * r * size)
        log_pi = entropy = forth = back = ZERO
        for j in range(size):
            s = know[j]
            z = (done[j] - mean[j]) * exp(-s)
            log_pi -= z * z * HALF + s + HALF_LOG_2PI
            entropy += s + HALF + HALF_LOG_2PI
            if squashed:
                u = abs(done[j])
                bend = know[size + j] + TWO * (f32(math.log(2.0)) - u - f32(math.log1p(exp(-TWO * u))))
                log_pi -= bend
                entropy += bend
            if kl:
                t, shift = was[size + j], was[j] - mean[j]
                forth += (f32(math.expm1(TWO * (t - s))) + shift * shift * exp(-TWO * s)) * HALF - (t - s)
                back += (f32(math.expm1(TWO * (s - t))) + shift * shift * exp(-TWO * t)) * HALF - (s - t)
        said[LOG_PI + r], said[ENTROPY + r] = log_pi, entropy
        if kl:
            said[KL_OLD + r], said[KL_NEW + r] = forth, back


@njit(**OPTIONS)
def pull_gaussian(
    squashed: bool, out: Any, ld: int, know: Any, action: Any, old: Any, size: int, kl: bool, g: Any, d: Any, on_know: Any, n: int
) -> None:
    for r in range(n):
        mean, done, was = at(out, r * ld), at(action, r * size), at(old, 2 * r * size)
        on_log_pi, on_entropy, on_old, on_new = g[LOG_PI + r], g[ENTROPY + r], g[KL_OLD + r], g[KL_NEW + r]
        for j in range(size):
            s, away = know[j], done[j] - mean[j]
            precision = exp(-TWO * s)
            slope, on_s = on_log_pi * away * precision, on_log_pi * (away * away * precision - ONE) + on_entropy
            if squashed:  # the entropy's own sample is the action, written as mean + std * noise
                bend = -TWO * f32(math.tanh(done[j]))
                slope += on_entropy * bend
                on_s += on_entropy * bend * away
            if kl:
                t, shift = was[size + j], was[j] - mean[j]
                slope -= on_old * shift * precision + on_new * shift * exp(-TWO * t)
                on_s += on_old * (ONE - exp(TWO * (t - s)) - shift * shift * precision)
                on_s += on_new * f32(math.expm1(TWO * (s - t)))
            d[r * ld + j] = slope
            on_know[j] += on_s


@njit(**OPTIONS)
def softplus(x: Any) -> Any:
    """log(1 + e^x), as torch's: x itself above 20."""
    return x if x > f32(20) else f32(math.log1p(math.exp(x)))


@njit(**OPTIONS)
def beta(out: Any, ld: int, know: Any, action: Any, old: Any, size: int, kl: bool, said: Any, n: int) -> None:
    """size: of the action; alpha and beta are 1 + softplus of the outputs."""
    for r in range(n):
        z, done, was = at(out, r * ld), at(action, r * size), at(old, 2 * r * size)
        log_pi = entropy = forth = back = 0.0
        for j in range(size):
            a, b, x = 1.0 + softplus(z[j]), 1.0 + softplus(z[size + j]), done[j]
            norm = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
            log_pi += (a - 1) * math.log(x) + (b - 1) * math.log1p(-x) - norm - know[j]
            both = digamma(a + b)
            entropy += norm + know[j] - (a - 1) * digamma(a) - (b - 1) * digamma(b) + (a + b - 2) * both
            if kl:
                p, q = float(was[j]), float(was[size + j])
                other = math.lgamma(p) + math.lgamma(q) - math.lgamma(p + q)
                total = digamma(p + q)
                forth += norm - other + (p - a) * (digamma(p) - total) + (q - b) * (digamma(q) - total)
                back += other - norm + (a - p) * (digamma(a) - both) + (b - q) * (digamma(b) - both)
        said[LOG_PI + r], said[ENTROPY + r] = log_pi, entropy
        if kl:
            said[KL_OLD + r], said[KL_NEW + r] = forth, back


@njit(**OPTIONS)
def pull_beta(out: Any, ld: int, action: Any, old: Any, size: int, kl: bool, g: Any, d: Any, n: int) -> None:
    """With respect to alpha, then times the slope of softplus; beta is alpha of the other side."""
    for r in range(n):
        z, done, was = at(out, r * ld), at(action, r * size), at(old, 2 * r * size)
        for j in range(size):
            a, b, x = 1.0 + softplus(z[j]), 1.0 + softplus(z[size + j]), float(done[j])
            p, q = float(was[j]), float(was[size + j])
            both, curve = digamma(a + b), trigamma(a + b)
            for side in range(2):
                own, log_x, before = (a, math.log(x), p) if side == 0 else (b, math.log1p(-x), q)
                on_own = g[LOG_PI + r] * (log_x - digamma(own) + both)
                on_own += g[ENTROPY + r] * ((a + b - 2) * curve - (own - 1) * trigamma(own))
                if kl:
                    on_own += g[KL_OLD + r] * (digamma(own) - both - digamma(before) + digamma(p + q))
                    on_own += g[KL_NEW + r] * ((own - before) * trigamma(own) - (a + b - p - q) * curve)
                k = side * size + j
                d[r * ld + k] = on_own * (1 / (1 + math.exp(-z[k])))
