"""Forward and backward pass of a multilayer perceptron over a block of rows, in float32, without an allocation.

All numbers of a machine lie in one array of floats, `x`, and where they lie in one array of integers. A network is a table
in it, COLUMNS integers a layer. Parameters stand in torch's layout; rows of everything else are padded to PAD floats, and
what a pad holds is finite and never read back.
"""

from typing import Any

import numpy as np

from logpi.fast.compiled import Part, inner
from logpi.fast.tile import PAD, STRIP, at, copy, floats, ints, product

# columns of the table: widths, then places of parameters, weights in strips of columns, transposed and as they are, padded
# biases, activations, their gradients, the gradients of the parameters; of a tangent, its transposed weights and its activations
IN, OUT, W, B, WT, WS, BIAS, H, D, G, DB, GRAD, LD_IN, LD_OUT, KIND, TURNED, VT, T = range(18)
COLUMNS = 18
LINEAR, TANH, RELU = range(3)
NARROW = 4  # outputs up to which a layer is a few dot products

f32 = np.float32
# tanh x = x p(x^2) / q(x^2) for |x| < LIMIT: the rational minimax of Eigen's MathFunctionsImpl.h, error 3e-7
LIMIT, ONE, ZERO = f32(7.90531110763549805), f32(1), f32(0)
P0, P1, P2, P3, P4, P5, P6 = (
    f32(x)
    for x in (
        *(-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08),
        *(1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03),
    )
)
Q0, Q1, Q2, Q3 = (
    f32(x) for x in (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
)


def pad(n: int) -> int:
    return -(-n // PAD) * PAD


@inner()
def tanh(x: Any) -> Any:
    x = LIMIT if x > LIMIT else x  # a NaN stays one
    x = -LIMIT if x < -LIMIT else x
    s = x * x
    p = ((((((P0 * s + P1) * s + P2) * s + P3) * s + P4) * s + P5) * s + P6) * x
    return p / (((Q0 * s + Q1) * s + Q2) * s + Q3)


@inner()
def strips(w: Any, n_in: int, n_out: int, to: Any) -> None:
    """The weights [n_out, n_in] in strips of STRIP columns; what a last one lacks is left as it is."""
    for begin in range(0, n_in, STRIP):
        count, own = min(STRIP, n_in - begin), at(to, begin * n_out)
        for j in range(n_out):
            copy(at(own, j * STRIP), at(w, j * n_in + begin), count)


@inner()
def turned(w: Any, n_in: int, n_out: int, to: Any) -> None:
    """The same of their transpose [n_in, n_out]."""
    for begin in range(0, n_out, STRIP):
        count, own = min(STRIP, n_out - begin), at(to, begin * n_in)
        for k in range(n_in):
            for j in range(count):
                own[k * STRIP + j] = w[(begin + j) * n_in + k]


@inner()
def load(net: Any, depth: int, x: Any) -> None:
    """Weights in strips and padded biases, from the parameters."""
    for layer in range(depth):
        t = at(net, layer * COLUMNS)
        turned(at(x, t[W]), t[IN], t[OUT], at(x, t[WT]))
        if layer:
            strips(at(x, t[W]), t[IN], t[OUT], at(x, t[WS]))
        copy(at(x, t[BIAS]), at(x, t[B]), t[OUT])


@inner("reassoc", "nsz")
def narrow(x: Any, ld_in: int, w: Any, n_in: int, y: Any, ld: int, n_out: int, n: int) -> None:
    """y = x w' for a few outputs."""
    for r in range(n):
        for j in range(n_out):
            total = ZERO
            for k in range(n_in):
                total += x[r * ld_in + k] * w[j * n_in + k]
            y[r * ld + j] = total


@inner()
def activate(y: Any, bias: Any, ld: int, n: int, kind: int) -> None:
    """y <- f(y + bias), rows of ld."""
    for r in range(n):
        row = at(y, r * ld)
        if kind == TANH:
            for j in range(ld):
                row[j] = tanh(row[j] + bias[j])
        else:
            for j in range(ld):
                z = row[j] + bias[j]
                row[j] = ZERO if kind == RELU and z <= ZERO else z


@Part
def forward(net_at: int, depth: int, x_at: int, rows: int, n: int) -> None:
    """Activations, at the table's H, of n rows that stand at x[rows:]."""
    net, x = ints(net_at), floats(x_at)
    below = at(x, rows)
    for layer in range(depth):
        t = at(net, layer * COLUMNS)
        n_in, ld_in, ld, y = t[IN], t[LD_IN], t[LD_OUT], at(x, t[H])
        if t[OUT] <= NARROW:
            narrow(below, ld_in, at(x, t[W]), n_in, y, ld, t[OUT], n)
        else:
            product(below, ld_in, 1, at(x, t[WT]), STRIP, STRIP * n_in, y, ld, n, ld, n_in, False)
        activate(y, at(x, t[BIAS]), ld, n, t[KIND])
        below = y


@inner()
def slope(d: Any, h: Any, count: int, kind: int) -> None:
    """d <- d f'(z), from h = f(z)."""
    if kind == TANH:
        for i in range(count):
            d[i] *= ONE - h[i] * h[i]
    elif kind == RELU:
        for i in range(count):
            d[i] = d[i] if h[i] > ZERO else ZERO


@inner()
def total(d: Any, ld: int, n: int, into: Any, add: bool) -> None:
    """The sum of n rows of ld."""
    if not add:
        for j in range(ld):
            into[j] = ZERO
    for r in range(n):
        for j in range(ld):
            into[j] += d[r * ld + j]


@Part
def backward(net_at: int, depth: int, x_at: int, rows: int, n: int, more: int) -> None:
    """Gradients of weights (at G) and biases (at DB), from the one of the outputs, which stands at the last layer's D.

    They are added to what is there where there is `more`.
    """
    net, x, add = ints(net_at), floats(x_at), more != 0
    for layer in range(depth - 1, -1, -1):
        t = at(net, layer * COLUMNS)
        n_in, ld_in, ld, d, g = t[IN], t[LD_IN], t[LD_OUT], at(x, t[D]), at(x, t[G])
        below = at(x, rows if layer == 0 else net[(layer - 1) * COLUMNS + H])
        if t[TURNED]:
            product(below, 1, ld_in, d, ld, STRIP, g, ld, n_in, ld, n, add)
        else:
            product(d, 1, ld, below, ld_in, STRIP, g, ld_in, t[OUT], ld_in, n, add)
        total(d, ld, n, at(x, t[DB]), add)
        if layer:
            under = at(x, net[(layer - 1) * COLUMNS + D])
            product(d, ld, 1, at(x, t[WS]), STRIP, STRIP * t[OUT], under, ld_in, n, ld_in, t[OUT], False)
            slope(under, below, n * ld_in, net[(layer - 1) * COLUMNS + KIND])


@inner()
def gather(net: Any, depth: int, x: Any) -> None:
    """The parameters' gradients in torch's layout, at GRAD."""
    for layer in range(depth):
        t = at(net, layer * COLUMNS)
        n_in, n_out, to, g = t[IN], t[OUT], at(x, t[GRAD]), at(x, t[G])
        for j in range(n_out):
            if t[TURNED]:
                for k in range(n_in):
                    to[j * n_in + k] = g[k * t[LD_OUT] + j]
            else:
                copy(at(to, j * n_in), at(g, j * t[LD_IN]), n_in)
        copy(at(to, n_in * n_out), at(x, t[DB]), n_out)


@inner()
def turn(net: Any, depth: int, x: Any, v: Any, theta: int) -> None:
    """The transposed weights of a direction `v`, which lies as the parameters do from x[theta] on."""
    for layer in range(depth):
        t = at(net, layer * COLUMNS)
        turned(at(v, t[W] - theta), t[IN], t[OUT], at(x, t[VT]))


@inner()
def tangent(net: Any, depth: int, x: Any, rows: int, n: int, v: Any, theta: int) -> None:
    """After `forward`: how the outputs of n rows change along `v`, at the last layer's T."""
    for layer in range(depth):
        t = at(net, layer * COLUMNS)
        n_in, ld_in, ld, y, bias = t[IN], t[LD_IN], t[LD_OUT], at(x, t[T]), at(v, t[B] - theta)
        below = at(x, rows if layer == 0 else net[(layer - 1) * COLUMNS + H])
        product(below, ld_in, 1, at(x, t[VT]), STRIP, STRIP * n_in, y, ld, n, ld, n_in, False)
        if layer:
            product(
                at(x, net[(layer - 1) * COLUMNS + T]),
                ld_in,
                1,
                at(x, t[WT]),
                STRIP,
                STRIP * n_in,
                y,
                ld,
                n,
                ld,
                n_in,
                True,
            )
        for r in range(n):
            for j in range(t[OUT]):
                y[r * ld + j] += bias[j]
        slope(y, at(x, t[H]), n * ld, t[KIND])


class Places:
    """Hands out places in an array of floats."""

    def __init__(self) -> None:
        self.size = 0

    def take(self, n: int) -> int:
        at, self.size = self.size, self.size + pad(n)
        return at


def table(sizes: list[int], kinds: list[int], places: Places, rows: int, theta: int, grad: int) -> np.ndarray:
    """A network of these widths, whose parameters begin at `theta`, their gradients at `grad`; blocks of `rows`."""
    net = np.zeros((len(kinds), COLUMNS), np.int64)
    for t, n_in, n_out, kind in zip(net, sizes, sizes[1:], kinds, strict=False):
        ld_in, ld = pad(n_in), pad(n_out)
        turn_it = -(-n_in // 4) * ld < -(-n_out // 4) * ld_in
        t[[IN, OUT, W, B, GRAD]] = n_in, n_out, theta, theta + n_in * n_out, grad
        across, along = (-(-n // STRIP) * STRIP for n in (n_out, n_in))
        t[[WT, VT, WS, BIAS, DB]] = [places.take(x) for x in (n_in * across, n_in * across, n_out * along, ld, ld)]
        t[G] = places.take((n_in + 8) * ld if turned else (n_out + 8) * ld_in)
        t[[H, D, T]] = [places.take((rows + 8) * ld) for _ in range(3)]
        t[[LD_IN, LD_OUT, KIND, TURNED]] = ld_in, ld, kind, turn_it
        theta, grad = theta + n_in * n_out + n_out, grad + n_in * n_out + n_out
    return net
