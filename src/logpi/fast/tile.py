"""The one dense kernel: a tile of C = A B held in vector registers, written in LLVM's vector types, compiled by numba.

Forward pass, input gradient and weight gradient are all this product, for A is read with two strides.
"""

import platform
from typing import Any

from llvmlite import binding, ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic as typed_intrinsic

from logpi.fast.compiled import inner

intrinsic: Any = typed_intrinsic  # whose own types leave out that the first argument is numba's
PAD = 16  # floats: every row of B and C is this long, or a multiple


def registers() -> tuple[int, int]:
    """(floats in a vector register, how many registers) of the machine that numba compiles for."""
    asked = getattr(config, "CPU_FEATURES", None)
    has = {x: f"+{x}" in asked.split(",") for x in ("avx512f", "avx2")} if asked else binding.get_host_cpu_features()
    few = platform.machine().lower() in ("x86_64", "amd64") and not has.get("avx512f")
    return 16 if has.get("avx512f") else 8 if has.get("avx2") else 4, 16 if few else 32


WIDTH, COUNT = registers()
TALL = 8 if COUNT == 32 else 4  # rows of a tile two vectors wide, whose sums stay in registers


def tile_of(height: int, across: int) -> Any:
    """An intrinsic for `height` rows of C and `across` vectors of columns; all lengths count floats, a, b, c are addresses.

    c[i * ldc + j] = sum_k a[i * sm + k * sk] * b[k * ldb + j], j < across * WIDTH, added to what is there where `add`.
    """

    @intrinsic
    def tile(context: Any, a: Any, sm: Any, sk: Any, b: Any, ldb: Any, c: Any, ldc: Any, depth: Any, add: Any) -> Any:
        signature = types.void(*[types.intp] * 8, types.boolean)
        return signature, lambda context, builder, _, args: emit(context, builder, height, across, args)

    return tile


def emit(context: Any, builder: Any, height: int, across: int, args: Any) -> Any:
    """The loop over k: `across` loads of B, `height` broadcasts of A, a fused multiply-add for each of their pairs."""
    f32, i64, i32 = ir.FloatType(), ir.IntType(64), ir.IntType(32)
    vector = ir.VectorType(f32, WIDTH)
    fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{WIDTH}f32")
    a, sm, sk, b, ldb, c, ldc, depth, add = args
    a, b, c = (builder.inttoptr(x, f32.as_pointer()) for x in (a, b, c))
    zero, undefined = ir.Constant(vector, None), ir.Constant(vector, ir.Undefined)

    def at(base: Any, offset: Any) -> Any:
        return builder.gep(base, [offset])

    def load(place: Any) -> Any:
        found = builder.load(builder.bitcast(place, vector.as_pointer()))
        found.align = 4
        return found

    def vectors(row: Any) -> list[Any]:
        return [at(row, ir.Constant(i64, j * WIDTH)) for j in range(across)]

    def times(i: int, stride: Any) -> Any:
        return builder.mul(ir.Constant(i64, i), stride)

    places = [place for i in range(height) for place in vectors(at(c, times(i, ldc)))]
    start, more = builder.block, builder.append_basic_block("add")
    loop, done = builder.append_basic_block("k"), builder.append_basic_block("done")
    builder.cbranch(add, more, loop)
    builder.position_at_end(more)
    before = [load(place) for place in places]
    builder.branch(loop)

    builder.position_at_end(loop)
    k = builder.phi(i64)
    sums = [builder.phi(vector) for _ in places]
    for block, begins in ((start, [zero] * len(places)), (more, before)):
        k.add_incoming(ir.Constant(i64, 0), block)
        for total, begin in zip(sums, begins, strict=True):
            total.add_incoming(begin, block)
    columns, here = [load(x) for x in vectors(at(b, builder.mul(k, ldb)))], at(a, builder.mul(k, sk))
    everywhere = ir.Constant(ir.VectorType(i32, WIDTH), None)
    following = []
    for i in range(height):
        one = builder.insert_element(undefined, builder.load(at(here, times(i, sm))), ir.Constant(i32, 0))
        one = builder.shuffle_vector(one, undefined, everywhere)
        own = sums[i * across : (i + 1) * across]
        following += [builder.call(fma, [one, column, total]) for column, total in zip(columns, own, strict=True)]
    k_next = builder.add(k, ir.Constant(i64, 1))
    k.add_incoming(k_next, loop)
    for total, x in zip(sums, following, strict=True):
        total.add_incoming(x, loop)
    builder.cbranch(builder.icmp_signed("<", k_next, depth), loop, done)

    builder.position_at_end(done)
    for place, x in zip(places, following, strict=True):
        builder.store(x, builder.bitcast(place, vector.as_pointer())).align = 4
    return context.get_dummy_value()


def pointer_to(kind: Any) -> Any:
    """An intrinsic: an address as a pointer that is indexed like an array, without a length or an owner."""

    @intrinsic
    def pointer(context: Any, address: Any) -> Any:
        made = types.CPointer(kind)
        return made(types.intp), lambda context, builder, _, args: builder.inttoptr(
            args[0], context.get_value_type(made)
        )

    return pointer


floats, ints, doubles, halves, octets = (
    pointer_to(kind) for kind in (types.float32, types.int64, types.float64, types.uint16, types.uint8)
)


@intrinsic
def at(context: Any, pointer: Any, offset: Any) -> Any:
    """The pointer to its element `offset`."""
    return pointer(pointer, types.intp), lambda context, builder, _, args: builder.gep(args[0], [args[1]])


@intrinsic
def call(context: Any, place: Any, numbers: Any) -> Any:
    """The `compiled.Part` at an address, with a tuple of whole numbers."""

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        given, whole = cgutils.unpack_tuple(builder, args[1]), ir.IntType(64)
        kind = ir.FunctionType(ir.VoidType(), [whole] * len(given))
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), given)
        return context.get_dummy_value()

    return types.void(types.int64, numbers), generate


@intrinsic
def address(context: Any, pointer: Any) -> Any:
    return types.intp(pointer), lambda context, builder, _, args: builder.ptrtoint(args[0], ir.IntType(64))


def same_bits(source: Any, target: Any) -> Any:
    """An intrinsic: the bits of a number of 32 bits, read as another kind."""

    @intrinsic
    def bits(context: Any, x: Any) -> Any:
        made = ir.IntType(32) if target == types.int32 else ir.FloatType()
        return target(source), lambda context, builder, _, args: builder.bitcast(args[0], made)

    return bits


bits_of, float_of = same_bits(types.float32, types.int32), same_bits(types.int32, types.float32)


@intrinsic
def copy(context: Any, to: Any, source: Any, count: Any) -> Any:
    """`count` floats from one pointer to another."""

    def generate(context: Any, builder: Any, _: Any, args: Any) -> Any:
        byte = ir.IntType(8).as_pointer()
        to, source = (builder.bitcast(x, byte) for x in args[:2])
        cgutils.raw_memcpy(builder, to, source, args[2], ir.Constant(ir.IntType(64), 4))
        return context.get_dummy_value()

    return types.void(to, source, types.intp), generate


_pairs, _column, _rest = tile_of(TALL, 2), tile_of(8, 1), tile_of(4, 1)
STRIP = 2 * WIDTH  # columns of B that a tile reads


@inner()
def product(
    a: Any, sm: int, sk: int, b: Any, ldb: int, strip: int, c: Any, ldc: int, rows: int, columns: int, depth: int, add: bool
) -> None:  # fmt: skip
    """C [rows, columns] (+)= A [rows, depth] B [depth, columns]; depth >= 1. a, b, c are pointers, lengths count floats.

    A[i, k] is a[i sm + k sk]. Strips of B, STRIP columns each, begin `strip` apart: STRIP where B lies in rows, and anything
    where each strip lies by itself. Whole tiles are written: up to 7 rows more, and columns to a multiple of WIDTH.
    """
    for n in range(0, columns, STRIP):
        here, m = address(at(b, n // STRIP * strip)), 0
        if columns - n > WIDTH:
            for m in range(0, rows, TALL):
                _pairs(address(at(a, m * sm)), sm, sk, here, ldb, address(at(c, m * ldc + n)), ldc, depth, add)
        else:
            while rows - m > 4:
                _column(address(at(a, m * sm)), sm, sk, here, ldb, address(at(c, m * ldc + n)), ldc, depth, add)
                m += 8
            if m < rows:
                _rest(address(at(a, m * sm)), sm, sk, here, ldb, address(at(c, m * ldc + n)), ldc, depth, add)
