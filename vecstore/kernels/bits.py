"""Bits of numbers as numba has no name for them: those of floats, those of a half, zeros counted."""

from typing import Any

import llvmlite.binding as llvm

from vecstore.kernels.code import Primitive

__all__ = ["HAS_HALF", "bits_to_float", "float_to_bits", "half_to_float", "trailing_zeros"]


def _has_half() -> bool:
    if llvm.get_default_triple().startswith(("aarch64", "arm64")):
        return True
    try:
        return bool(llvm.get_host_cpu_features().get("f16c"))
    except RuntimeError:
        return False  # LLVM does not know this processor's


HAS_HALF = _has_half()
"""Whether the processor itself does what `half_to_float` does; or else that would call a runtime library."""


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
