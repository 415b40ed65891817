"""Scalar functions in float32 that loops can be vectorised over, and those that no maths library of numba's has."""

import math
from typing import Any

import numpy as np
from numba import njit

from logpi.fast.tile import OPTIONS

f32 = np.float32
LOG2E, LN2_HIGH, LN2_LOW = f32(1.44269504088896341), f32(0.693359375), f32(-2.12194440e-4)
SMALLEST, LARGEST, HALF, ONE = f32(-87.3), f32(88.7), f32(0.5), f32(1)
# exp r - 1 - r over r^2 for |r| <= ln 2 / 2: the minimax of Cephes' expf
E0, E1, E2, E3, E4, E5 = (
    f32(x)
    for x in (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
)
ASYMPTOTIC = 8.0  # from here on the series of digamma and trigamma are exact to 1e-12


@njit(**OPTIONS)
def exp(x: Any) -> Any:
    """e^x to 1e-7, relative; 0 below -87, inf above 88.7, NaN for NaN."""
    held = LARGEST if x > LARGEST else x
    held = SMALLEST if held < SMALLEST else held
    n = math.floor(held * LOG2E + HALF)
    r = held - n * LN2_HIGH - n * LN2_LOW
    y = (((((E0 * r + E1) * r + E2) * r + E3) * r + E4) * r + E5) * r * r + r + ONE
    y *= np.int32((np.int32(n if n == n else f32(0)) + np.int32(127)) << np.int32(23)).view(np.float32)
    y = f32(np.inf) if x > LARGEST else y
    return f32(0) if x < SMALLEST else y


@njit(**OPTIONS)
def digamma(x: float) -> float:
    """d/dx log Gamma(x), x > 0, in float64."""
    total = 0.0
    while x < ASYMPTOTIC:
        total -= 1 / x
        x += 1
    s = 1 / (x * x)
    return total + math.log(x) - 0.5 / x - s * (1 / 12 - s * (1 / 120 - s * (1 / 252 - s * (1 / 240 - s / 132))))


@njit(**OPTIONS)
def trigamma(x: float) -> float:
    """d^2/dx^2 log Gamma(x), x > 0, in float64."""
    total = 0.0
    while x < ASYMPTOTIC:
        total += 1 / (x * x)
        x += 1
    s = 1 / (x * x)
    return total + 1 / x + s / 2 + s / x * (1 / 6 - s * (1 / 30 - s * (1 / 42 - s * (1 / 30 - s * 5 / 66))))
