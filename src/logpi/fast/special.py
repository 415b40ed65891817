"""Scalar functions in float32 that loops can be vectorised over, and those that no maths library of numba's has."""

import math
from typing import Any

import numpy as np

from logpi.fast.compiled import inner
from logpi.fast.tile import bits_of, float_of

f32 = np.float32
LOG2E, LN2_HIGH, LN2_LOW = f32(1.44269504088896341), f32(0.693359375), f32(-2.12194440e-4)
SMALLEST, LARGEST, ROOT_HALF, INF = f32(-87.3), f32(88.37), f32(0.70710678118654752), f32(np.inf)
ZERO, HALF, ONE = f32(0), f32(0.5), f32(1)
ROUND = f32(1.5 * 2**23)
ROUND_BITS = int(ROUND.view(np.int32))
# exp r - 1 - r over r^2 for |r| <= ln 2 / 2: the minimax of Cephes' expf
E0, E1, E2, E3, E4, E5 = (
    f32(x)
    for x in (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
)
# log(1 + r) - r + r^2 / 2 over r^3 for 1 + r in [sqrt 1/2, sqrt 2]: the minimax of Cephes' logf
L0, L1, L2, L3, L4, L5, L6, L7, L8 = (
    f32(x)
    for x in (
        *(7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1),
        *(-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1),
    )
)
ASYMPTOTIC = 8.0  # from here on the series of digamma and trigamma are exact to 1e-12


@inner()
def exp(x: Any) -> Any:
    """e^x to 1e-7, relative; 0 below -87.3, inf above 88.37, NaN for NaN."""
    held = LARGEST if x > LARGEST else x
    held = SMALLEST if held < SMALLEST else held
    shifted = held * LOG2E + ROUND  # the nearest whole number stands in the last bits
    n = shifted - ROUND
    r = held - n * LN2_HIGH - n * LN2_LOW
    y = (((((E0 * r + E1) * r + E2) * r + E3) * r + E4) * r + E5) * r * r + r + ONE
    y *= float_of(np.int32((bits_of(shifted) - ROUND_BITS + 127) << 23))
    y = INF if x > LARGEST else y
    return ZERO if x < SMALLEST else y


@inner()
def log(x: Any) -> Any:
    """log x of a normal x > 0 to 1e-7; of no other number."""
    bits = bits_of(x)
    exponent = f32(np.int32((bits >> 23) - 126))
    m = float_of(np.int32((bits & 0x007FFFFF) | 0x3F000000))  # [0.5, 1)
    low = m < ROOT_HALF
    exponent = exponent - ONE if low else exponent
    r = (m + m if low else m) - ONE
    z = r * r
    y = ((((((((L0 * r + L1) * r + L2) * r + L3) * r + L4) * r + L5) * r + L6) * r + L7) * r + L8) * r * z
    return r + (y + exponent * LN2_LOW - HALF * z) + exponent * LN2_HIGH


@inner()
def digamma(x: float) -> float:
    """d/dx log Gamma(x), x > 0, in float64."""
    total = 0.0
    while x < ASYMPTOTIC:
        total -= 1 / x
        x += 1
    s = 1 / (x * x)
    return total + math.log(x) - 0.5 / x - s * (1 / 12 - s * (1 / 120 - s * (1 / 252 - s * (1 / 240 - s / 132))))


@inner()
def trigamma(x: float) -> float:
    """d^2/dx^2 log Gamma(x), x > 0, in float64."""
    total = 0.0
    while x < ASYMPTOTIC:
        total += 1 / (x * x)
        x += 1
    s = 1 / (x * x)
    return total + 1 / x + s / 2 + s / x * (1 / 6 - s * (1 / 30 - s * (1 / 42 - s * (1 / 30 - s * 5 / 66))))
