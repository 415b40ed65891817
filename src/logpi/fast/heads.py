"""What a policy says of its actions, and the way back from there to the network's outputs: a block of rows at a time.

Answers are rows of BLOCK floats: log pi(a|s), entropy, KL(old || pi), KL(pi || old), the last two where `kl` asks for them.
out [n, ld] are network outputs, action [n, *] what was done, old [n, size] the parameters that drew it; `know` holds what a
head knows beside the outputs (log-stds, the log-widths of its Box), or is room for it.
"""

import math
from typing import Any

import numpy as np

from logpi.fast.compiled import Part, inner
from logpi.fast.special import digamma, exp, log, trigamma
from logpi.fast.tile import at, floats

BLOCK = 128  # rows that go through a network at once: what they leave behind stays in the cache
LOG_PI, ENTROPY, KL_OLD, KL_NEW = (BLOCK * i for i in range(4))
CATEGORICAL, GAUSSIAN, SQUASHED, BETA = range(4)

f32 = np.float32
HALF_LOG_2PI, HALF, ONE, TWO, ZERO = f32(0.5 * math.log(2 * math.pi)), f32(0.5), f32(1), f32(2), f32(0)
LOWEST = f32(np.finfo(np.float32).min)


@inner()
def log_softmax(x: Any, ld: int, size: int, into: Any, n: int) -> None:
    """Logits x [n, ld] -> log p, a row of BLOCK floats for each action: what follows then runs over rows, in vectors."""
    top, total = at(into, size * BLOCK), at(into, (size + 1) * BLOCK)
    for r in range(n):
        top[r], total[r] = x[r * ld], ZERO
    for j in range(size):
        y = at(into, j * BLOCK)
        for r in range(n):
            y[r] = x[r * ld + j]
            top[r] = y[r] if y[r] > top[r] or y[r] != y[r] else top[r]
    for j in range(size):
        y = at(into, j * BLOCK)
        for r in range(n):
            total[r] += exp(y[r] - top[r])
    for r in range(n):
        top[r] += log(total[r])
    for j in range(size):
        y = at(into, j * BLOCK)
        for r in range(n):
            y[r] -= top[r]


@Part
def categorical(
    head: int, out_at: int, ld: int, know_at: int, action_at: int, old_at: int, size: int, kl: int, said_at: int, n: int
) -> None:  # fmt: skip
    """`know` is room: log p, and behind it log p_old where `kl`; each with two rows more."""
    out, know, action, old, said = floats(out_at), floats(know_at), floats(action_at), floats(old_at), floats(said_at)
    log_p, other = know, at(know, (size + 2) * BLOCK)
    entropy, forth, back = at(said, ENTROPY), at(said, KL_OLD), at(said, KL_NEW)
    log_softmax(out, ld, size, log_p, n)
    for r in range(n):
        said[LOG_PI + r] = log_p[int(action[r]) * BLOCK + r]
        entropy[r] = forth[r] = back[r] = ZERO
    for j in range(size):
        y = at(log_p, j * BLOCK)
        for r in range(n):
            entropy[r] -= exp(y[r]) * (y[r] if y[r] > LOWEST or y[r] != y[r] else LOWEST)
    if kl:
        log_softmax(old, size, size, other, n)
        for j in range(size):
            y, z = at(log_p, j * BLOCK), at(other, j * BLOCK)
            for r in range(n):
                p, q = exp(z[r]), exp(y[r])
                forth[r] += p * (z[r] - y[r]) if p > ZERO else p * ZERO
                back[r] += q * (y[r] - z[r]) if q > ZERO else q * ZERO


@Part
def pull_categorical(
    head: int, out_at: int, ld: int, know_at: int, action_at: int, old_at: int, size: int, kl: int, said_at: int,
    g_at: int, d_at: int, on_know_at: int, n: int,
) -> None:  # fmt: skip
    """d log p_a = 1_a - p; dH = -p (log p + H); dKL(old || p) = p - p_old; dKL(p || old) = p (log p - log p_old - KL)."""
    know, action, said, g, d = floats(know_at), floats(action_at), floats(said_at), floats(g_at), floats(d_at)
    log_p, other = know, at(know, (size + 2) * BLOCK)
    on_log_pi, on_entropy, on_old, on_new = at(g, LOG_PI), at(g, ENTROPY), at(g, KL_OLD), at(g, KL_NEW)
    entropy, divergence = at(said, ENTROPY), at(said, KL_NEW)
    for j in range(size):
        y, z = at(log_p, j * BLOCK), at(other, j * BLOCK)
        for r in range(n):
            p = exp(y[r])
            held = y[r] if y[r] > LOWEST or y[r] != y[r] else LOWEST
            slope = -p * (on_log_pi[r] + on_entropy[r] * (held + entropy[r]))
            if kl:
                slope += on_old[r] * (p - exp(z[r]))
                slope += on_new[r] * p * (y[r] - z[r] - divergence[r]) if p > ZERO else ZERO
            d[r * ld + j] = slope
    for r in range(n):
        d[r * ld + int(action[r])] += on_log_pi[r]


@Part
def gaussian(
    head: int, out_at: int, ld: int, know_at: int, action_at: int, old_at: int, size: int, kl: int, said_at: int, n: int
) -> None:  # fmt: skip
    """`know` has, for the squashed one, the logs of half the widths behind the log-stds."""
    out, know, action, old, said = floats(out_at), floats(know_at), floats(action_at), floats(old_at), floats(said_at)
    squashed, size = head == SQUASHED, size // 2
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


@Part
def pull_gaussian(
    head: int, out_at: int, ld: int, know_at: int, action_at: int, old_at: int, size: int, kl: int, said_at: int,
    g_at: int, d_at: int, on_know_at: int, n: int,
) -> None:  # fmt: skip
    out, know, action, old = floats(out_at), floats(know_at), floats(action_at), floats(old_at)
    g, d, on_know = floats(g_at), floats(d_at), floats(on_know_at)
    squashed, size = head == SQUASHED, size // 2
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


@inner()
def softplus(x: Any) -> Any:
    """log(1 + e^x), as torch's: x itself above 20."""
    return x if x > f32(20) else f32(math.log1p(math.exp(x)))


@Part
def beta(
    head: int, out_at: int, ld: int, know_at: int, action_at: int, old_at: int, size: int, kl: int, said_at: int, n: int
) -> None:  # fmt: skip
    """alpha and beta are 1 + softplus of the outputs."""
    out, know, action, old, said = floats(out_at), floats(know_at), floats(action_at), floats(old_at), floats(said_at)
    size //= 2
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


@Part
def pull_beta(
    head: int, out_at: int, ld: int, know_at: int, action_at: int, old_at: int, size: int, kl: int, said_at: int,
    g_at: int, d_at: int, on_know_at: int, n: int,
) -> None:  # fmt: skip
    """With respect to alpha, then times the slope of softplus; beta is alpha of the other side."""
    out, action, old, g, d = floats(out_at), floats(action_at), floats(old_at), floats(g_at), floats(d_at)
    size //= 2
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


SAYS = {
    CATEGORICAL: (categorical, pull_categorical),
    GAUSSIAN: (gaussian, pull_gaussian),
    SQUASHED: (gaussian, pull_gaussian),
    BETA: (beta, pull_beta),
}
