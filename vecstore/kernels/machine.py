"""How a kernel is called: arrays, numbers and Python's objects in, machine code run.

A kernel is an ordinary function, marked `kernel` with its signature; ``code`` compiles it. Called as it is, it runs
through ctypes, which takes a few microseconds and lets go of the GIL. A kernel over one key can also be bound to all
its other arguments: it is then a built-in function of Python's, which takes a tenth of a microsecond to call.

Signatures
----------
Types in the order of the parameters, then ``->`` and the type of the result if there is one. A scalar is ``i64``,
``u64`` or ``f64``; an array is a type and ``[:]`` or ``[:,:]``. Arrays are C-contiguous and aligned. ``object`` is any
Python object, which the kernel sees as its address; such a kernel keeps the GIL. ``key`` is a str or bytes, which the
kernel sees as ``u8[:]``; it comes first, and such a kernel is bound before it is called.
"""

import ctypes
import sys
from collections.abc import Callable
from operator import index
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vecstore.kernels.code import Entry, find_or_compile, loading
from vecstore.kernels.objects import new_int, pointer, text_of, tuple_item, words_of

__all__ = ["NO_KEY", "Kernel", "View", "kernel", "view"]

NO_KEY = -2
"""What a bound kernel returns for an object that is no str or bytes, and for a str that has no UTF-8."""

_CTYPES: dict[str, Any] = {
    "i64": ctypes.c_int64,
    "u64": ctypes.c_uint64,
    "f64": ctypes.c_double,
    "object": ctypes.py_object,
}
_DTYPES = {
    name: np.dtype(kind)
    for name, kind in {
        "u8": "u1",
        "u16": "u2",
        "u32": "u4",
        "u64": "u8",
        "i8": "i1",
        "i32": "i4",
        "i64": "i8",
        "f32": "f4",
        "f64": "f8",
    }.items()
}
_METH_O = 8  # Python calls it with one argument


class View(NamedTuple):
    """Where an array lies, taken once for many calls; whoever keeps a view keeps its array alive."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def view(array: NDArray[Any]) -> View:
    """Return the view of an array, which must be C-contiguous and aligned."""
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        raise ValueError("expected a C-contiguous, aligned array")
    return View(_address(array), array.shape, array.dtype)


def _find_data_field() -> int | None:
    """Return where in an array object its data pointer lies, in bytes; None if it is not found."""
    for at in range(8, 64, 8):
        arrays = [np.zeros(1) for _ in range(3)]
        if all(ctypes.c_void_p.from_address(id(array) + at).value == array.ctypes.data for array in arrays):
            return at
    return None


_DATA_AT = _find_data_field()


def _address(array: NDArray[Any]) -> int:
    """Return where the elements of an array lie; ``array.ctypes.data`` is the same, but takes 2 microseconds."""
    if _DATA_AT is None:
        return int(array.ctypes.data)
    return ctypes.c_void_p.from_address(id(array) + _DATA_AT).value or 0


def kernel(signature: str) -> Callable[[Any], "Kernel"]:
    """Make a kernel of a function; the module docstring says what a signature is."""
    return lambda function: Kernel(function, signature)


class Kernel:
    """A compiled function. Arguments are NumPy arrays or a `View` of one, integers, floats and objects.

    The dtype, order and number of dimensions of arrays are checked at each call; the range of numbers is the
    caller's business.
    """

    def __init__(self, function: FunctionType, signature: str) -> None:
        self.function = function
        self.signature = signature
        self.__doc__ = function.__doc__
        parameters, _, self.result = (part.strip() for part in signature.partition("->"))
        self.parameters = tuple(_Parameter.parse(text) for text in parameters.split(", "))
        self._call: Any = None

    @property
    def is_over_key(self) -> bool:
        """Whether the kernel is over one key, and bound before it is called."""
        return self.parameters[0].kind == "key"

    def __call__(self, *args: Any) -> Any:
        """Run the kernel; returns a number or None."""
        return (self._call or self.load())(*self._words(self.parameters, args))

    def bind(self, *args: Any) -> Callable[[Any], int]:
        """Return the kernel as a function of a key alone, which returns an int, `NO_KEY` for what is no key.

        `args` are all arguments but the key: arrays, which the function keeps alive, and numbers.
        """
        words = self._words(self.parameters[1:], args)
        packed = b"".join((word & (2**64 - 1)).to_bytes(8, sys.byteorder) for word in words)
        function: Callable[[Any], int] = _new_function(self._call or self.load(), (packed, args), None)
        return function

    def _words(self, parameters: tuple["_Parameter", ...], args: tuple[Any, ...]) -> list[Any]:
        """Return arguments as machine code takes them: an array as its address and its lengths."""
        words: list[Any] = []
        for parameter, arg in zip(parameters, args, strict=True):
            kind, ndim, dtype = parameter
            if ndim:
                address, shape, found = arg if type(arg) is View else view(arg)
                if (found is not dtype and found != dtype) or len(shape) != ndim:
                    raise TypeError(f"{self.function.__name__}: expected {parameter}, found {found} {shape}")
                words.append(address)
                words.extend(shape)
            elif kind == "object":
                words.append(arg)
            else:
                words.append(float(arg) if kind == "f64" else index(arg))
        return words

    def load(self) -> Any:
        """Load the machine code, compiled if there is none yet, before the first call needs it."""
        with loading:
            if self._call is None:
                self._call = self._as_method() if self.is_over_key else self._as_function()
            return self._call

    def _entry(self, source: str, parameters: tuple[str, ...], result: str, primitives: dict[str, Any]) -> Entry:
        name = f"{self.function.__module__.rpartition('.')[2]}_{self.function.__name__}"
        return Entry(name, self.function, source, parameters, result, primitives)

    def _as_function(self) -> Any:
        """Return the kernel as a function of ctypes."""
        names, types, words, args = [], [], [], []
        for i, parameter in enumerate(self.parameters):
            lengths = [f"n{i}_{axis}" for axis in range(parameter.ndim)]
            names += [f"p{i}", *lengths]
            if lengths:
                types += [f"{parameter.kind}*", *["i64"] * parameter.ndim]
                words += [ctypes.c_void_p, *[ctypes.c_int64] * parameter.ndim]
                args.append(f"carray(p{i}, ({', '.join(lengths)},))")
            else:
                types.append(parameter.kind.replace("object", "i64"))
                words.append(_CTYPES[parameter.kind])
                args.append(f"p{i}")
        source = f"def entry({', '.join(names)}):\n    return body({', '.join(args)})"
        address = find_or_compile(self._entry(source, tuple(types), self.result, {}))
        # With an object among its arguments a kernel calls Python, and keeps the GIL.
        prototype = ctypes.PYFUNCTYPE if ctypes.py_object in words else ctypes.CFUNCTYPE
        return prototype(_CTYPES[self.result] if self.result else None, *words)(address)

    def _as_method(self) -> Any:
        """Return the kernel as the description of a built-in function, whose self is a tuple with the other words."""
        args, at = ["carray(pointer(address), (size,), u8)"], 0
        for parameter in self.parameters[1:]:
            lengths = [f"words[{at + 1 + axis}]" for axis in range(parameter.ndim)]
            word = f"words[{at}]"
            args.append(
                f"carray(pointer({word}), ({', '.join(lengths)},), {parameter.kind})"
                if lengths
                else f"{parameter.kind}({word})"
            )
            at += 1 + parameter.ndim
        source = f"""
def entry(captured, key):
    words = words_of(tuple_item(captured, 0))
    address, size = text_of(key)
    if address == 0:
        return new_int({NO_KEY})
    return new_int(body({", ".join(args)}))
"""
        names = {primitive.build.__name__: primitive for primitive in (new_int, pointer, text_of, tuple_item, words_of)}
        address = find_or_compile(self._entry(source, ("i64", "i64"), "i64", names))
        return _Method(self.function.__name__.encode(), address, _METH_O, None)


class _Method(ctypes.Structure):
    """``PyMethodDef``: what Python makes a built-in function from; it must live as long as the function."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


_new_function = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.POINTER(_Method), ctypes.py_object, ctypes.c_void_p)(
    ("PyCFunction_NewEx", ctypes.pythonapi)
)


class _Parameter(NamedTuple):
    kind: str
    ndim: int
    dtype: np.dtype[Any] | None

    @classmethod
    def parse(cls, text: str) -> "_Parameter":
        kind, _, axes = text.partition("[")
        return cls(kind, axes.count(":"), _DTYPES.get(kind))

    def __str__(self) -> str:
        return f"{self.dtype} of {self.ndim} dimensions in C order"
