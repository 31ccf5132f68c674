"""Memory as numba has no name for it: a prefetch, unaligned loads, copies that pass the caches by or not, a stack.

None of them checks a bound. Indices count elements along the first axis of C-contiguous arrays, except in
`load64` and `load32`, which read little-endian words at any byte of a uint8 array.
"""

from typing import Any

from vecstore.kernels.code import Primitive

__all__ = [
    "STACK_FLOATS",
    "STACK_WORDS",
    "copy_bytes",
    "copy_from",
    "copy_row",
    "element_address",
    "load8",
    "load32",
    "load64",
    "prefetch",
    "prefetch_line",
    "prefetch_row",
    "settle",
    "stack_floats",
    "stack_words",
    "stream_floats",
    "stream_row",
]

_LINE = 64  # bytes of a cache line
_ROW_LINES = 10  # that are asked for ahead: those of 160 float32; the processor sees by then where it goes

STACK_WORDS = 1024
"""How many int64 `stack_words` gives."""

STACK_FLOATS = 2048
"""How many float32 `stack_floats` gives."""


def element_address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Return the address of element `index` along the first axis of a C-contiguous array."""
    from llvmlite import ir

    view = context.make_array(array_type)(context, builder, array)
    stride = builder.extract_value(view.strides, 0)
    return builder.gep(builder.bitcast(view.data, ir.IntType(8).as_pointer()), [builder.mul(index, stride)])


@Primitive
def prefetch() -> Any:
    """``prefetch(array, index)``: ask for the cache line of `array[index]`; never faults, whatever the index."""
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    @intrinsic
    def prefetch(typing_context, array, index):
        def generate(context, builder, signature, args):
            address = element_address(context, builder, signature.args[0], args[0], args[1])
            i32 = ir.IntType(32)
            declared = ir.FunctionType(ir.VoidType(), [address.type, i32, i32, i32])
            function = cgutils.get_or_insert_function(builder.module, declared, "llvm.prefetch.p0i8")
            # read (0), keep in every level of cache (3), data (1)
            builder.call(function, [address, i32(0), i32(3), i32(1)])
            return context.get_dummy_value()

        return types.void(array, types.int64), generate

    return prefetch


@Primitive
def prefetch_line() -> Any:
    """``prefetch_line(matrix, row, at)``: ask for the cache line of byte `at` of a row; never faults."""
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    @intrinsic
    def prefetch_line(typing_context, matrix, row, at):
        def generate(context, builder, signature, args):
            address = element_address(context, builder, signature.args[0], args[0], args[1])
            i32 = ir.IntType(32)
            declared = ir.FunctionType(ir.VoidType(), [address.type, i32, i32, i32])
            function = cgutils.get_or_insert_function(builder.module, declared, "llvm.prefetch.p0i8")
            builder.call(function, [builder.gep(address, [args[2]]), i32(0), i32(3), i32(1)])
            return context.get_dummy_value()

        return types.void(matrix, types.int64, types.int64), generate

    return prefetch_line


def _load(bits: int) -> Any:
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def load(typing_context, data, at):
        def generate(context, builder, signature, args):
            address = element_address(context, builder, signature.args[0], args[0], args[1])
            return builder.load(builder.bitcast(address, ir.IntType(bits).as_pointer()), align=1)

        return getattr(types, f"uint{bits}")(data, types.int64), generate

    return load


@Primitive
def load64() -> Any:
    """``load64(data, at)``: return ``data[at:at + 8]`` of a uint8 array as uint64."""
    return _load(64)


@Primitive
def load32() -> Any:
    """``load32(data, at)``: return ``data[at:at + 4]`` of a uint8 array as uint32."""
    return _load(32)


@Primitive
def load8() -> Any:
    """``load8(data, at)``: return ``data[at]`` of a uint8 array, without numba's care for negative indices."""
    return _load(8)


@Primitive
def copy_bytes() -> Any:
    """``copy_bytes(target, target_at, source, source_at, count)``: copy between uint8 arrays that do not overlap."""
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    @intrinsic
    def copy_bytes(typing_context, target, target_at, source, source_at, count):
        def generate(context, builder, signature, args):
            to = element_address(context, builder, signature.args[0], args[0], args[1])
            start = element_address(context, builder, signature.args[2], args[2], args[3])
            cgutils.raw_memcpy(builder, to, start, args[4], 1)
            return context.get_dummy_value()

        return types.void(target, types.int64, source, types.int64, types.int64), generate

    return copy_bytes


@Primitive
def copy_from() -> Any:
    """``copy_from(target, target_at, address, count)``: copy bytes that lie at an address to a uint8 array."""
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    @intrinsic
    def copy_from(typing_context, target, target_at, address, count):
        def generate(context, builder, signature, args):
            to = element_address(context, builder, signature.args[0], args[0], args[1])
            start = builder.inttoptr(args[2], ir.IntType(8).as_pointer())
            cgutils.raw_memcpy(builder, to, start, args[3], 1)
            return context.get_dummy_value()

        return types.void(target, types.int64, types.int64, types.int64), generate

    return copy_from


@Primitive
def copy_row() -> Any:
    """``copy_row(target, target_row, source, source_row)``: copy a row between matrices of one dtype and width."""
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    @intrinsic
    def copy_row(typing_context, target, target_row, source, source_row):
        def generate(context, builder, signature, args):
            to = element_address(context, builder, signature.args[0], args[0], args[1])
            start = element_address(context, builder, signature.args[2], args[2], args[3])
            view = context.make_array(signature.args[2])(context, builder, args[2])
            cgutils.raw_memcpy(builder, to, start, builder.extract_value(view.strides, 0), 1)
            return context.get_dummy_value()

        return types.void(target, types.int64, source, types.int64), generate

    return copy_row


def _stream(builder: Any, to: Any, start: Any, width: Any) -> None:
    """Copy bytes; whole cache lines of the target go past the caches, what lies before and after them does not."""
    from llvmlite import ir
    from numba.core import cgutils

    i64, line = width.type, ir.VectorType(ir.IntType(8), _LINE)
    head = builder.and_(builder.neg(builder.ptrtoint(to, i64)), i64(_LINE - 1))
    head = builder.select(builder.icmp_unsigned("<", head, width), head, width)
    cgutils.raw_memcpy(builder, to, start, head, 1)
    lines = builder.lshr(builder.sub(width, head), i64(_LINE.bit_length() - 1))
    with cgutils.for_range(builder, lines) as loop:
        at = builder.add(head, builder.mul(loop.index, i64(_LINE)))
        value = builder.load(builder.bitcast(builder.gep(start, [at]), line.as_pointer()), align=1)
        store = builder.store(value, builder.bitcast(builder.gep(to, [at]), line.as_pointer()), align=_LINE)
        store.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
    at = builder.add(head, builder.mul(lines, i64(_LINE)))
    cgutils.raw_memcpy(builder, builder.gep(to, [at]), builder.gep(start, [at]), builder.sub(width, at), 1)


@Primitive
def stream_row() -> Any:
    """``stream_row(target, target_row, source, source_row)``: `copy_row` past the caches; at the end, `settle`."""
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def stream_row(typing_context, target, target_row, source, source_row):
        def generate(context, builder, signature, args):
            to = element_address(context, builder, signature.args[0], args[0], args[1])
            start = element_address(context, builder, signature.args[2], args[2], args[3])
            view = context.make_array(signature.args[2])(context, builder, args[2])
            _stream(builder, to, start, builder.extract_value(view.strides, 0))
            return context.get_dummy_value()

        return types.void(target, types.int64, source, types.int64), generate

    return stream_row


@Primitive
def stream_floats() -> Any:
    """``stream_floats(target, row, at, floats, count)``: write float32 to a row from `at` on, as `stream_row` does."""
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def stream_floats(typing_context, target, row, at, floats, count):
        def generate(context, builder, signature, args):
            to = element_address(context, builder, signature.args[0], args[0], args[1])
            to = builder.gep(to, [builder.shl(args[2], args[2].type(2))])
            start = builder.bitcast(args[3], ir.IntType(8).as_pointer())
            _stream(builder, to, start, builder.shl(args[4], args[4].type(2)))
            return context.get_dummy_value()

        return types.void(target, types.int64, types.int64, types.CPointer(types.float32), types.int64), generate

    return stream_floats


@Primitive
def settle() -> Any:
    """``settle()``: let other threads see what was streamed before they see whatever is written from here on."""
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def settle(typing_context):
        def generate(context, builder, signature, args):
            builder.fence("seq_cst")
            return context.get_dummy_value()

        return types.void(), generate

    return settle


@Primitive
def prefetch_row() -> Any:
    """``prefetch_row(matrix, row)``: ask for the first `_ROW_LINES` cache lines of a row, and for its last byte's."""
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    @intrinsic
    def prefetch_row(typing_context, matrix, row):
        def generate(context, builder, signature, args):
            address = element_address(context, builder, signature.args[0], args[0], args[1])
            view = context.make_array(signature.args[0])(context, builder, args[0])
            width = builder.extract_value(view.strides, 0)
            i32 = ir.IntType(32)
            declared = ir.FunctionType(ir.VoidType(), [address.type, i32, i32, i32])
            function = cgutils.get_or_insert_function(builder.module, declared, "llvm.prefetch.p0i8")
            last = builder.sub(width, width.type(1))
            for k in range(_ROW_LINES):
                at = width.type(_LINE * k)
                at = builder.select(builder.icmp_signed("<", at, last), at, last)
                builder.call(function, [builder.gep(address, [at]), i32(0), i32(3), i32(1)])
            builder.call(function, [builder.gep(address, [last]), i32(0), i32(3), i32(1)])
            return context.get_dummy_value()

        return types.void(matrix, types.int64), generate

    return prefetch_row


def _stack(kind: str, count: int) -> Any:
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    @intrinsic
    def stack(typing_context):
        element = getattr(types, kind)

        def generate(context, builder, signature, args):
            value_type = context.get_value_type(element)
            place = cgutils.alloca_once(builder, ir.ArrayType(value_type, count))
            return builder.bitcast(place, value_type.as_pointer())

        return types.CPointer(element)(), generate

    return stack


@Primitive
def stack_words() -> Any:
    """``stack_words()``: return a pointer to `STACK_WORDS` int64, the same ones at each call within a function."""
    return _stack("int64", STACK_WORDS)


@Primitive
def stack_floats() -> Any:
    """``stack_floats()``: return a pointer to `STACK_FLOATS` float32, the same ones at each call within a function."""
    return _stack("float32", STACK_FLOATS)
