"""Lanes: numbers, `LANES` at a time, or bytes, `BYTES` at a time, that are worked on together in registers.

Loops that LLVM vectorizes by itself are plain loops. These stand where it would not: within loops that do more than
arithmetic, or whose arrays it cannot tell apart. A value of lanes is `LANES` float64 or `BYTES` uint8; it fills as many
registers as the processor's are narrower. Nothing here checks a bound.
"""

from functools import cache
from typing import Any

from vecstore.kernels.code import Primitive
from vecstore.kernels.memory import element_address

__all__ = [
    "BYTES",
    "LANES",
    "add",
    "add_within",
    "bfloat16s",
    "float32s",
    "halves",
    "integers",
    "larger",
    "load",
    "load_bytes",
    "multiply",
    "padded_row",
    "row_part",
    "store",
    "store_bytes",
    "within",
]

LANES = 16
"""How many numbers: a cache line of float32, and of AVX-512's registers two of float64."""

BYTES = 64
"""How many bytes: as many as a uint64 has bits."""


@cache
def _kind(name: str) -> Any:
    """Return numba's type of lanes of numbers, or of bytes."""
    from llvmlite import ir
    from numba import types
    from numba.extending import models, register_model

    class Lanes(types.Type):
        pass

    @register_model(Lanes)
    class _LanesModel(models.PrimitiveModel):
        def __init__(self, manager: Any, kind: Any) -> None:
            vectors = {"numbers": (ir.DoubleType(), LANES), "bytes": (ir.IntType(8), BYTES)}
            super().__init__(manager, kind, ir.VectorType(*vectors[name]))

    return Lanes(f"lanes of {name}")


def _lanes() -> Any:
    return _kind("numbers")


def _vector(element: Any) -> Any:
    from llvmlite import ir

    return ir.VectorType(element, LANES)


def _repeated(builder: Any, value: Any, count: int = LANES) -> Any:
    from llvmlite import ir

    i32, kind = ir.IntType(32), ir.VectorType(value.type, count)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, i32(0))
    places = ir.Constant(ir.VectorType(i32, count), [0] * count)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), places)


@Primitive
def load() -> Any:
    """``load(sums, at)``: return ``sums[at:at + LANES]`` of a float64 array."""
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def load(typing_context, sums, at):
        def generate(context, builder, signature, args):
            address = element_address(context, builder, signature.args[0], args[0], args[1])
            kind = context.get_value_type(signature.return_type)
            return builder.load(builder.bitcast(address, kind.as_pointer()), align=8)

        return _lanes()(sums, types.int64), generate

    return load


@Primitive
def store() -> Any:
    """``store(lanes, sums, at)``: write lanes to ``sums[at:at + LANES]`` of a float64 array."""
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def store(typing_context, lanes, sums, at):
        def generate(context, builder, signature, args):
            address = element_address(context, builder, signature.args[1], args[1], args[2])
            builder.store(args[0], builder.bitcast(address, args[0].type.as_pointer()), align=8)
            return context.get_dummy_value()

        return types.void(lanes, sums, types.int64), generate

    return store


@Primitive
def row_part() -> Any:
    """``row_part(matrix, row, at)``: return a pointer to ``matrix[row, at]``."""
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def row_part(typing_context, matrix, row, at):
        def generate(context, builder, signature, args):
            address = element_address(context, builder, signature.args[0], args[0], args[1])
            kind = context.get_value_type(signature.return_type)
            return builder.gep(builder.bitcast(address, kind), [args[2]])

        return types.CPointer(matrix.dtype)(matrix, types.int64, types.int64), generate

    return row_part


@Primitive
def padded_row() -> Any:
    """``padded_row(matrix, row)``: return a pointer to a row of fewer than `LANES` numbers, and zeros after them.

    Whatever an earlier call within a function returned is written over.
    """
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    @intrinsic
    def padded_row(typing_context, matrix, row):
        def generate(context, builder, signature, args):
            kind = _vector(context.get_data_type(signature.args[0].dtype))
            place = cgutils.alloca_once(builder, kind)
            builder.store(ir.Constant(kind, None), place)
            address = element_address(context, builder, signature.args[0], args[0], args[1])
            view = context.make_array(signature.args[0])(context, builder, args[0])
            width = builder.extract_value(view.strides, 0)
            cgutils.raw_memcpy(builder, builder.bitcast(place, address.type), address, width, 1)
            return builder.bitcast(place, context.get_value_type(signature.return_type))

        return types.CPointer(matrix.dtype)(matrix, types.int64), generate

    return padded_row


def _widen(element: str, to_float: Any) -> Any:
    """Return an intrinsic that reads numbers at a pointer, and widens what `to_float` makes of them to float64."""
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def widen(typing_context, pointer):
        kind = getattr(types, element)

        def generate(context, builder, signature, args):
            vector = _vector(context.get_data_type(kind))
            numbers = builder.load(builder.bitcast(args[0], vector.as_pointer()), align=kind.bitwidth // 8)
            return builder.fpext(to_float(builder, numbers), _vector(ir.DoubleType()))

        return _lanes()(types.CPointer(kind)), generate

    return widen


@Primitive
def float32s() -> Any:
    """``float32s(pointer)``: return the float32 numbers at a pointer."""
    return _widen("float32", lambda builder, numbers: numbers)


@Primitive
def bfloat16s() -> Any:
    """``bfloat16s(pointer)``: return the bfloat16 numbers at a pointer to uint16."""
    from llvmlite import ir

    def to_float(builder: Any, numbers: Any) -> Any:
        words = _vector(ir.IntType(32))
        bits = builder.shl(builder.zext(numbers, words), ir.Constant(words, [16] * LANES))
        return builder.bitcast(bits, _vector(ir.FloatType()))

    return _widen("uint16", to_float)


@Primitive
def halves() -> Any:
    """``halves(pointer)``: return the float16 numbers at a pointer to uint16; for processors that `HAS_HALF`."""
    from llvmlite import ir

    def to_float(builder: Any, numbers: Any) -> Any:
        return builder.fpext(builder.bitcast(numbers, _vector(ir.HalfType())), _vector(ir.FloatType()))

    return _widen("uint16", to_float)


@Primitive
def integers() -> Any:
    """``integers(pointer, scale)``: return the int8 numbers at a pointer, each times a scale in float32."""
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def integers(typing_context, pointer, scale):
        def generate(context, builder, signature, args):
            numbers = builder.load(builder.bitcast(args[0], _vector(ir.IntType(8)).as_pointer()), align=1)
            scaled = builder.fmul(builder.sitofp(numbers, _vector(ir.FloatType())), _repeated(builder, args[1]))
            return builder.fpext(scaled, _vector(ir.DoubleType()))

        return _lanes()(types.CPointer(types.int8), types.float32), generate

    return integers


@Primitive
def add() -> Any:
    """``add(lanes, others)``: return the sums of two lanes."""
    from numba.extending import intrinsic

    @intrinsic
    def add(typing_context, lanes, others):
        def generate(context, builder, signature, args):
            return builder.fadd(*args)

        return lanes(lanes, others), generate

    return add


@Primitive
def multiply() -> Any:
    """``multiply(lanes, factor)``: return lanes, each times a float64."""
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def multiply(typing_context, lanes, factor):
        def generate(context, builder, signature, args):
            return builder.fmul(args[0], _repeated(builder, args[1]))

        return lanes(lanes, types.float64), generate

    return multiply


@Primitive
def larger() -> Any:
    """``larger(lanes, others)``: return the larger of each two; a NaN stays, as it does in numpy.maximum."""
    from numba.extending import intrinsic

    @intrinsic
    def larger(typing_context, lanes, others):
        def generate(context, builder, signature, args):
            kept, other = args
            # In this form x86 does the first with one instruction.
            most = builder.select(builder.fcmp_ordered(">", other, kept), other, kept)
            return builder.select(builder.fcmp_unordered("uno", other, other), other, most)

        return lanes(lanes, others), generate

    return larger


@Primitive
def load_bytes() -> Any:
    """``load_bytes(data, at)``: return ``data[at:at + BYTES]`` of a uint8 array."""
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def load_bytes(typing_context, data, at):
        def generate(context, builder, signature, args):
            address = element_address(context, builder, signature.args[0], args[0], args[1])
            kind = context.get_value_type(signature.return_type)
            return builder.load(builder.bitcast(address, kind.as_pointer()), align=1)

        return _kind("bytes")(data, types.int64), generate

    return load_bytes


@Primitive
def store_bytes() -> Any:
    """``store_bytes(lanes, data, at)``: write lanes to ``data[at:at + BYTES]`` of a uint8 array."""
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def store_bytes(typing_context, lanes, data, at):
        def generate(context, builder, signature, args):
            address = element_address(context, builder, signature.args[1], args[1], args[2])
            builder.store(args[0], builder.bitcast(address, args[0].type.as_pointer()), align=1)
            return context.get_dummy_value()

        return types.void(lanes, data, types.int64), generate

    return store_bytes


def _are_within(builder: Any, lanes: Any, first: Any, count: Any) -> Any:
    offsets = builder.sub(lanes, _repeated(builder, first, BYTES))
    return builder.icmp_unsigned("<", offsets, _repeated(builder, count, BYTES))


@Primitive
def within() -> Any:
    """``within(lanes, first, count)``: return a uint64, bit i set if byte i is one of `count` from `first` on."""
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def within(typing_context, lanes, first, count):
        def generate(context, builder, signature, args):
            return builder.bitcast(_are_within(builder, *args), ir.IntType(BYTES))

        return types.uint64(lanes, types.uint8, types.uint8), generate

    return within


@Primitive
def add_within() -> Any:
    """``add_within(lanes, first, count, number)``: add to those bytes that are one of `count` from `first` on."""
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def add_within(typing_context, lanes, first, count, number):
        def generate(context, builder, signature, args):
            kept, low, size, more = args
            changed = builder.add(kept, _repeated(builder, more, BYTES))
            return builder.select(_are_within(builder, kept, low, size), changed, kept)

        return lanes(lanes, types.uint8, types.uint8, types.uint8), generate

    return add_within
