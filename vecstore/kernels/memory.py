"""Three machine operations that numba has no name for: a prefetch, an unaligned load, a `memcpy`.

None of them checks a bound. Indices count elements of C-contiguous arrays, except in `load64` and
`load32`, which read little-endian words at any byte of a uint8 array.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["copy_bytes", "copy_row", "load32", "load64", "prefetch"]

_BYTES = ir.IntType(8).as_pointer()


def _address(context, builder, array_type, array, index):
    """Return the address of element `index` along the first axis of a C-contiguous array."""
    view = context.make_array(array_type)(context, builder, array)
    stride = builder.extract_value(view.strides, 0)
    start = builder.bitcast(view.data, _BYTES)
    return builder.gep(start, [builder.mul(index, stride)])


@intrinsic
def prefetch(typing_context, array, index):
    """Ask for the cache line of `array[index]`; never faults, whatever the index."""

    def generate(context, builder, signature, args):
        address = _address(context, builder, signature.args[0], args[0], args[1])
        i32 = ir.IntType(32)
        declared = ir.FunctionType(ir.VoidType(), [_BYTES, i32, i32, i32])
        function = cgutils.get_or_insert_function(builder.module, declared, "llvm.prefetch.p0i8")
        # read (0), keep in every level of cache (3), data (1)
        builder.call(function, [address, i32(0), i32(3), i32(1)])
        return context.get_dummy_value()

    return types.void(array, types.int64), generate


def _load(word, array):
    def generate(context, builder, signature, args):
        address = _address(context, builder, signature.args[0], args[0], args[1])
        width = ir.IntType(word.bitwidth)
        return builder.load(builder.bitcast(address, width.as_pointer()), align=1)

    return word(array, types.int64), generate


@intrinsic
def load64(typing_context, data, at):
    """Return ``data[at:at + 8]`` of a uint8 array as uint64."""
    return _load(types.uint64, data)


@intrinsic
def load32(typing_context, data, at):
    """Return ``data[at:at + 4]`` of a uint8 array as uint32."""
    return _load(types.uint32, data)


def _memcpy(builder, target, source, count):
    cgutils.raw_memcpy(builder, target, source, count, 1)


@intrinsic
def copy_bytes(typing_context, target, target_at, source, source_at, count):
    """Copy `count` bytes between uint8 arrays that do not overlap."""

    def generate(context, builder, signature, args):
        to = _address(context, builder, signature.args[0], args[0], args[1])
        start = _address(context, builder, signature.args[2], args[2], args[3])
        _memcpy(builder, to, start, args[4])
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64, types.int64), generate


@intrinsic
def copy_row(typing_context, target, target_row, source, source_row):
    """Copy one row between matrices of the same dtype and width that do not overlap."""

    def generate(context, builder, signature, args):
        to = _address(context, builder, signature.args[0], args[0], args[1])
        start = _address(context, builder, signature.args[2], args[2], args[3])
        view = context.make_array(signature.args[2])(context, builder, args[2])
        _memcpy(builder, to, start, builder.extract_value(view.strides, 0))
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64), generate
