"""Calls of the operating system, about the pages of mapped files. POSIX alone."""

from typing import Any

from vecstore.kernels.code import Primitive

__all__ = ["advise_needed", "is_in_memory"]

_MADV_WILLNEED = 3


@Primitive
def advise_needed() -> Any:
    """``advise_needed(address, size)``: have whole pages of a mapped file read, without waiting for them."""
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    @intrinsic
    def advise_needed(typing_context, address, size):
        def generate(context, builder, signature, args):
            byte, word, number = ir.IntType(8).as_pointer(), ir.IntType(64), ir.IntType(32)
            declared = ir.FunctionType(number, [byte, word, number])
            function = cgutils.get_or_insert_function(builder.module, declared, "madvise")
            builder.call(function, [builder.inttoptr(args[0], byte), args[1], number(_MADV_WILLNEED)])
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), generate

    return advise_needed


@Primitive
def is_in_memory() -> Any:
    """``is_in_memory(address)``: say whether the page that begins there is; true where the system does not tell."""
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    @intrinsic
    def is_in_memory(typing_context, address):
        def generate(context, builder, signature, args):
            byte, word, number = ir.IntType(8), ir.IntType(64), ir.IntType(32)
            declared = ir.FunctionType(number, [byte.as_pointer(), word, byte.as_pointer()])
            function = cgutils.get_or_insert_function(builder.module, declared, "mincore")
            found = cgutils.alloca_once_value(builder, byte(1))
            builder.call(function, [builder.inttoptr(args[0], byte.as_pointer()), word(1), found])
            return builder.trunc(builder.load(found), ir.IntType(1))

        return types.boolean(types.int64), generate

    return is_in_memory
