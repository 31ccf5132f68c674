"""Python's own objects in machine code: the text of a str, the items of a list or tuple, a new int.

An object is its address. Who calls a kernel that uses these holds the GIL and keeps the objects alive. All goes through
functions of Python's stable interface (https://docs.python.org/3/c-api/stable.html), none through the layout of an
object; an error that Python sets is cleared.
"""

from typing import Any

from vecstore.kernels.code import Primitive

__all__ = ["int_of", "list_item", "list_length", "new_int", "pointer", "text_of", "tuple_item", "words_of"]


def _declare(builder: Any, name: str, result: Any, *parameters: Any) -> Any:
    from llvmlite import ir
    from numba.core import cgutils

    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, parameters), name)


@Primitive
def text_of() -> Any:
    """``text_of(object)``: return where the UTF-8 of a str or bytes lies, and its length; (0, 0) if it has none.

    Of a str that is not ASCII Python makes the UTF-8 once and keeps it with the str.
    """
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    @intrinsic
    def text_of(typing_context, object):
        pair = types.UniTuple(types.int64, 2)

        def generate(context, builder, signature, args):
            word, byte = ir.IntType(64), ir.IntType(8).as_pointer()
            of_str = _declare(builder, "PyUnicode_AsUTF8AndSize", byte, byte, word.as_pointer())
            of_bytes = _declare(
                builder, "PyBytes_AsStringAndSize", ir.IntType(32), byte, byte.as_pointer(), word.as_pointer()
            )
            clear = _declare(builder, "PyErr_Clear", ir.VoidType())
            size = cgutils.alloca_once_value(builder, word(0))
            place = cgutils.alloca_once_value(builder, byte(None))
            object = builder.inttoptr(args[0], byte)
            builder.store(builder.call(of_str, [object, size]), place)
            with builder.if_then(cgutils.is_null(builder, builder.load(place)), likely=False):
                builder.call(clear, [])
                failed = builder.icmp_signed("!=", builder.call(of_bytes, [object, place, size]), ir.IntType(32)(0))
                with builder.if_then(failed):
                    builder.call(clear, [])
                    builder.store(byte(None), place)
                    builder.store(word(0), size)
            address = builder.ptrtoint(builder.load(place), word)
            return context.make_tuple(builder, signature.return_type, [address, builder.load(size)])

        return pair(types.int64), generate

    return text_of


@Primitive
def int_of() -> Any:
    """``int_of(object)``: return the number of what is an int or converts to one without loss, and whether it is."""
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic

    @intrinsic
    def int_of(typing_context, object):
        pair = types.UniTuple(types.int64, 2)

        def generate(context, builder, signature, args):
            word, byte = ir.IntType(64), ir.IntType(8).as_pointer()
            number_of = _declare(builder, "PyLong_AsLongLong", word, byte)
            occurred = _declare(builder, "PyErr_Occurred", byte)
            clear = _declare(builder, "PyErr_Clear", ir.VoidType())
            number = builder.call(number_of, [builder.inttoptr(args[0], byte)])
            sound = cgutils.alloca_once_value(builder, word(1))
            with builder.if_then(builder.icmp_signed("==", number, word(-1)), likely=False):
                failed = cgutils.is_not_null(builder, builder.call(occurred, []))
                with builder.if_then(failed):
                    builder.call(clear, [])
                    builder.store(word(0), sound)
            return context.make_tuple(builder, signature.return_type, [number, builder.load(sound)])

        return pair(types.int64), generate

    return int_of


def _call(name: str, *parameters: str) -> Any:
    """Return numba's intrinsic for a function of Python that takes objects and numbers and returns an object."""
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    word, byte = ir.IntType(64), ir.IntType(8).as_pointer()

    def generate(context, builder, signature, args):
        kinds = [byte if parameter == "object" else word for parameter in parameters]
        values = [builder.inttoptr(arg, byte) if kind is byte else arg for kind, arg in zip(kinds, args, strict=True)]
        return builder.ptrtoint(builder.call(_declare(builder, name, byte, *kinds), values), word)

    signature = types.int64(*[types.int64] * len(parameters))
    if len(parameters) == 1:

        @intrinsic
        def call(typing_context, one):
            return signature, generate

        return call

    @intrinsic
    def call_with(typing_context, one, other):
        return signature, generate

    return call_with


@Primitive
def tuple_item() -> Any:
    """``tuple_item(tuple, i)``: return item `i`, which must be there."""
    return _call("PyTuple_GetItem", "object", "word")


@Primitive
def list_item() -> Any:
    """``list_item(list, i)``: return item `i`, which must be there."""
    return _call("PyList_GetItem", "object", "word")


@Primitive
def list_length() -> Any:
    """``list_length(list)``: return how many items it has now."""
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def list_length(typing_context, object):
        def generate(context, builder, signature, args):
            byte = ir.IntType(8).as_pointer()
            function = _declare(builder, "PyList_Size", ir.IntType(64), byte)
            return builder.call(function, [builder.inttoptr(args[0], byte)])

        return types.int64(types.int64), generate

    return list_length


@Primitive
def new_int() -> Any:
    """``new_int(value)``: return a new int object, for a function that Python calls to return."""
    return _call("PyLong_FromLongLong", "word")


@Primitive
def words_of() -> Any:
    """``words_of(object)``: return a pointer to the int64 that a bytes object holds."""
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def words_of(typing_context, object):
        def generate(context, builder, signature, args):
            byte = ir.IntType(8).as_pointer()
            function = _declare(builder, "PyBytes_AsString", byte, byte)
            place = builder.call(function, [builder.inttoptr(args[0], byte)])
            return builder.bitcast(place, ir.IntType(64).as_pointer())

        return types.CPointer(types.int64)(types.int64), generate

    return words_of


@Primitive
def pointer() -> Any:
    """``pointer(address)``: return an address as what ``carray`` takes."""
    from llvmlite import ir
    from numba import types
    from numba.extending import intrinsic

    @intrinsic
    def pointer(typing_context, address):
        def generate(context, builder, signature, args):
            return builder.inttoptr(args[0], ir.IntType(8).as_pointer())

        return types.voidptr(types.int64), generate

    return pointer
