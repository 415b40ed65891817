"""What stands between the products of `decoding.Decoder`, in fused kernels: norms, rotation, attention of few texts, the gate.

Of one text torch's operations take 0.45 ms a layer, mostly to begin; these 0.1. They run on one core, where two read keys and
values no sooner; with more, attention of many texts is left to torch.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding

from logpi.fast.attention import products
from logpi.fast.compiled import entry, inner
from logpi.fast.special import exp
from logpi.fast.tile import at, bits_of, float_of, floats, halves, ints, octets

# keys of all texts and heads that one core hears sooner than torch's products do on all cores; on two
MANY, ENOUGH = 6_000, 100_000
LOWEST = np.finfo(np.float32).min
f32, i32 = np.float32, np.int32
ZERO, ONE = f32(0), f32(1)


@inner()
def rounded(x: Any) -> Any:
    """The bits of the nearest number in bfloat16; of two the even one."""
    bits = bits_of(x)
    return np.uint16((bits + i32(0x7FFF) + ((bits >> i32(16)) & i32(1))) >> i32(16))


@inner()
def read(x: Any, x16: Any, k: int, half: bool) -> Any:
    return float_of(i32(x16[k]) << i32(16)) if half else x[k]


@inner("reassoc", "nsz")
def squares(x: Any, n: int) -> Any:
    total = ZERO
    for i in range(n):
        total += x[i] * x[i]
    return total


@inner("reassoc", "nsz")
def dots(x: Any, y: Any, n: int, out: Any) -> None:
    """Of x with four rows of y: what x and the loop cost is shared."""
    a = b = c = d = ZERO
    for i in range(n):
        a += x[i] * y[i]
        b += x[i] * y[n + i]
        c += x[i] * y[2 * n + i]
        d += x[i] * y[3 * n + i]
    out[0], out[1], out[2], out[3] = a, b, c, d


@inner("reassoc", "nsz")
def dot(x: Any, y: Any, n: int) -> Any:
    total = ZERO
    for i in range(n):
        total += x[i] * y[i]
    return total


@entry
def add_norm(
    x_at: int, more_at: int, weight_at: int, out_at: int, rows: int, n: int, eps: float, half: bool, out_half: bool
) -> None:
    """x += more, where that is not null; out = x / sqrt(mean x^2 + eps) weight. x [rows, n]."""
    weight, many = floats(weight_at), f32(n)
    for r in range(rows):
        x, more, more16 = at(floats(x_at), r * n), at(floats(more_at), r * n), at(halves(more_at), r * n)
        out, out16 = at(floats(out_at), r * n), at(halves(out_at), r * n)
        if more_at:
            if half:
                for i in range(n):
                    x[i] += float_of(i32(more16[i]) << i32(16))
            else:
                for i in range(n):
                    x[i] += more[i]
        scale = ONE / np.sqrt(squares(x, n) / many + f32(eps))
        if out_half:
            for i in range(n):
                out16[i] = rounded(x[i] * scale * weight[i])
        else:
            for i in range(n):
                out[i] = x[i] * scale * weight[i]


@entry
def turn(
    qkv_at: int, norms_at: int, cos_at: int, sin_at: int, position_at: int, query_at: int, key_at: int, value_at: int,
    room_at: int, rows: int, queries: int, keys: int, size: int, room: int, filled: int, eps: float, half: bool,
) -> None:  # fmt: skip
    """qkv [rows, (queries + 2 keys) size] -> query [rows, queries, size], scaled and rotated; key and value in their slot.

    norms [queries + keys, size]: of heads, before they are rotated; null: none. room_at: for a head.
    """
    x, position, half_size = floats(room_at), ints(position_at), size // 2
    scale = ONE / np.sqrt(f32(size))
    for r in range(rows):
        begin = r * (queries + 2 * keys) * size
        cos, sin = at(floats(cos_at), position[r] * size), at(floats(sin_at), position[r] * size)
        for h in range(queries + keys):
            given, given16 = at(floats(qkv_at), begin + h * size), at(halves(qkv_at), begin + h * size)
            for i in range(size):
                x[i] = read(given, given16, i, half)
            if norms_at:
                norm, by = at(floats(norms_at), h * size), ONE / np.sqrt(squares(x, size) / f32(size) + f32(eps))
                for i in range(size):
                    x[i] *= by * norm[i]
            if h < queries:
                to, by = at(floats(query_at), (r * queries + h) * size), scale
            else:
                to, by = at(floats(key_at), ((r * keys + h - queries) * room + filled) * size), ONE
            for i in range(half_size):
                to[i] = (x[i] * cos[i] + x[i + half_size] * sin[i]) * by
                to[i + half_size] = (x[i + half_size] * cos[i + half_size] + x[i] * sin[i + half_size]) * by
        for h in range(keys):
            place = begin + (queries + keys + h) * size
            given, given16 = at(floats(qkv_at), place), at(halves(qkv_at), place)
            to = at(floats(value_at), ((r * keys + h) * room + filled) * size)
            for i in range(size):
                to[i] = read(given, given16, i, half)


@entry
def attend(
    query_at: int, key_at: int, value_at: int, seen_at: int, out_at: int, room_at: int,
    rows: int, queries: int, keys: int, size: int, room: int, tokens: int, half: bool,
) -> None:  # fmt: skip
    """query [rows, queries, size], scaled -> out [rows, queries, size]: what is heard of the first `tokens` in their room.

    seen [rows, tokens]: of what; null: of all. room_at: for `tokens` and for a head.
    """
    heard, total = floats(room_at), at(floats(room_at), tokens)
    for r in range(rows):
        seen = at(octets(seen_at), r * tokens)
        for h in range(queries):
            query = at(floats(query_at), (r * queries + h) * size)
            place = (r * keys + h * keys // queries) * room * size
            key, value = at(floats(key_at), place), at(floats(value_at), place)
            fours = tokens // 4 * 4
            for t in range(0, fours, 4):
                dots(query, at(key, t * size), size, at(heard, t))
            for t in range(fours, tokens):
                heard[t] = dot(query, at(key, t * size), size)
            if seen_at:
                for t in range(tokens):
                    heard[t] = heard[t] if seen[t] else LOWEST
            most, whole = LOWEST, ZERO
            for t in range(tokens):
                most = max(most, heard[t])
            for t in range(tokens):
                heard[t] = exp(heard[t] - most)
            for t in range(tokens):
                whole += heard[t]
            for i in range(size):
                total[i] = ZERO
            for t in range(0, fours, 4):
                told = at(value, t * size)
                a, b, c, d = heard[t], heard[t + 1], heard[t + 2], heard[t + 3]
                for i in range(size):
                    total[i] += a * told[i] + b * told[size + i] + c * told[2 * size + i] + d * told[3 * size + i]
            for t in range(fours, tokens):
                told = at(value, t * size)
                for i in range(size):
                    total[i] += heard[t] * told[i]
            out, out16 = at(floats(out_at), (r * queries + h) * size), at(halves(out_at), (r * queries + h) * size)
            for i in range(size):
                if half:
                    out16[i] = rounded(total[i] / whole)
                else:
                    out[i] = total[i] / whole


@entry
def gate(up_at: int, out_at: int, rows: int, n: int, half: bool) -> None:
    """up [rows, 2 n]: gates, then what they let through -> gate sigma(gate) through, [rows, n]."""
    for r in range(rows):
        up, up16 = at(floats(up_at), 2 * r * n), at(halves(up_at), 2 * r * n)
        out, out16 = at(floats(out_at), r * n), at(halves(out_at), r * n)
        if half:
            for i in range(n):
                x = float_of(i32(up16[i]) << i32(16))
                out16[i] = rounded(x / (ONE + exp(-x)) * float_of(i32(up16[n + i]) << i32(16)))
        else:
            for i in range(n):
                out[i] = up[i] / (ONE + exp(-up[i])) * up[n + i]


def hidden(decoder: Any, token: Tensor, position: Tensor, cache: Any, seen: Tensor | None) -> Tensor:
    """What `Decoder` says."""
    d, x, rows, tokens = decoder, embedding(token, decoder.embed), len(token), cache.layers[0].filled + 1
    half, width, sizes = d.dtype is torch.bfloat16, x.shape[1], (rows, d.queries, d.keys, d.size)
    few = rows * d.queries * tokens < (MANY if torch.get_num_threads() > 2 else ENOUGH)
    position, seen = position.contiguous(), None if seen is None else seen.contiguous()
    normed, query = torch.empty(rows, width, dtype=d.dtype), torch.empty(rows, d.queries, d.size)
    heard, room = torch.empty(rows, d.queries * d.size, dtype=d.dtype), torch.empty(tokens + d.size)
    opened, found, more = torch.empty(rows, d.opened, dtype=d.dtype), torch.empty_like(x), None

    def add(more: Tensor | None, weight: Tensor, out: Tensor) -> None:
        given = (at_of(x), at_of(more), at_of(weight), at_of(out))
        add_norm(*given, rows, width, d.eps, half, out.dtype is torch.bfloat16)

    for layer, slots in zip(d.layers, cache.layers, strict=True):
        add(more, layer.before, normed)
        qkv, begin = layer.qkv(normed), slots.begin(1, slots.room)
        key, value = slots.room
        turn(
            *(at_of(z) for z in (qkv, layer.turned, d.cos, d.sin, position, query, key, value, room)),
            *sizes, key.shape[2], begin, d.eps, half,
        )  # fmt: skip
        if few:
            given = (at_of(z) for z in (query, key, value, seen, heard, room))
            attend(*given, *sizes, key.shape[2], tokens, half)
        else:
            grouped, mask = query.unflatten(1, (d.keys, -1)), None if seen is None else seen[:, None, None]
            heard = products(grouped, key[:, :, :tokens], value[:, :, :tokens], 1.0, mask).flatten(1).to(d.dtype)
        add(layer.out(heard), layer.between, normed)
        up = layer.up(normed)
        gate(at_of(up), at_of(opened), rows, d.opened, half)
        more = layer.down(opened)
    add(more, d.norm, found)
    return found


def at_of(x: Tensor | None) -> int:
    """The address of a contiguous tensor; null: none."""
    return 0 if x is None else x.data_ptr()
