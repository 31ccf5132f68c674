"""Machine operations that numba has no name for: a prefetch, unaligned loads, `memcpy`, bits of floats, a stack.

None of them checks a bound. Indices count elements along the first axis of C-contiguous arrays, except in
`load64` and `load32`, which read little-endian words at any byte of a uint8 array.
"""

from typing import Any

import llvmlite.binding as llvm

from vecstore.kernels.machine import Primitive

__all__ = [
    "HAS_HALF",
    "STACK_WORDS",
    "bits_to_float",
    "copy_bytes",
    "copy_row",
    "float_to_bits",
    "half_to_float",
    "load8",
    "load32",
    "load64",
    "prefetch",
    "stack_words",
    "trailing_zeros",
]

STACK_WORDS = 1024
"""How many int64 `stack_words` gives."""


def _has_half() -> bool:
    if llvm.get_default_triple().startswith(("aarch64", "arm64")):
        return True
    try:
        return bool(llvm.get_host_cpu_features().get("f16c"))
    except RuntimeError:
        return False  # LLVM does not know this processor's


HAS_HALF = _has_half()
"""Whether the processor itself does what `half_to_float` does; or else that would call a runtime library."""


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
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
            address = _address(context, builder, signature.args[0], args[0], args[1])
            i32 = ir.IntType(32)
            declared = ir.FunctionType(ir.VoidType(), [address.type, i32, i32, i32])
            function = cgutils.get_or_insert_function(builder.module, declared, "llvm.prefetch.p0i8")
            # read (0), keep in every level of cache (3), data (1)
            builder.call(function, [address, i32(0), i32(3), i32(1)])
            return context.get_dummy_value()

        return types.void(array, types.int64), generate

    return prefetch


def _load(bits: int) -> Any:
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def load(typing_context, data, at):
        def generate(context, builder, signature, args):
            address = _address(context, builder, signature.args[0], args[0], args[1])
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
            to = _address(context, builder, signature.args[0], args[0], args[1])
            start = _address(context, builder, signature.args[2], args[2], args[3])
            cgutils.raw_memcpy(builder, to, start, args[4], 1)
            return context.get_dummy_value()

        return types.void(target, types.int64, source, types.int64, types.int64), generate

    return copy_bytes


@Primitive
def copy_row() -> Any:
    """``copy_row(target, target_row, source, source_row)``: copy a row between matrices of one dtype and width."""
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    @intrinsic
    def copy_row(typing_context, target, target_row, source, source_row):
        def generate(context, builder, signature, args):
            to = _address(context, builder, signature.args[0], args[0], args[1])
            start = _address(context, builder, signature.args[2], args[2], args[3])
            view = context.make_array(signature.args[2])(context, builder, args[2])
            cgutils.raw_memcpy(builder, to, start, builder.extract_value(view.strides, 0), 1)
            return context.get_dummy_value()

        return types.void(target, types.int64, source, types.int64), generate

    return copy_row


@Primitive
def stack_words() -> Any:
    """``stack_words()``: return a pointer to `STACK_WORDS` int64, the same ones at each call within a function."""
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    @intrinsic
    def stack_words(typing_context):
        def generate(context, builder, signature, args):
            words = cgutils.alloca_once(builder, ir.ArrayType(ir.IntType(64), STACK_WORDS))
            return builder.bitcast(words, ir.IntType(64).as_pointer())

        return types.CPointer(types.int64)(), generate

    return stack_words


@Primitive
def trailing_zeros() -> Any:
    """``trailing_zeros(word)``: return how many lower bits of a uint64, not 0, are clear."""
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def trailing_zeros(typing_context, word):
        def generate(context, builder, signature, args):
            return builder.cttz(args[0], ir.IntType(1)(1))

        return types.int64(types.uint64), generate

    return trailing_zeros


def _reinterpret(given: str, result: str) -> Any:
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def reinterpret(typing_context, value):
        def generate(context, builder, signature, args):
            return builder.bitcast(args[0], context.get_value_type(signature.return_type))

        return getattr(types, result)(getattr(types, given)), generate

    return reinterpret


@Primitive
def bits_to_float() -> Any:
    """``bits_to_float(bits)``: return the float32 that a uint32 is the bits of."""
    return _reinterpret("uint32", "float32")


@Primitive
def float_to_bits() -> Any:
    """``float_to_bits(value)``: return the bits of a float32 as uint32."""
    return _reinterpret("float32", "uint32")


@Primitive
def half_to_float() -> Any:
    """``half_to_float(number)``: return a float16, given as uint16, as float32; for processors that `HAS_HALF`."""
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def half_to_float(typing_context, number):
        def generate(context, builder, signature, args):
            return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

        return types.float32(types.uint16), generate

    return half_to_float
