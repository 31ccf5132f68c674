"""How a kernel is compiled, kept on disk and called.

numba compiles a kernel the first time that any process of this machine calls it. The machine code is kept in a
file, and from then on a process loads that file with llvmlite and calls it through ctypes: numba itself is not
imported. That is the point: importing numba and waking its own cache takes 0.6 to 1.1 s and 40 MB in every
process, loading the machine code 4 ms, and most processes only ever look keys up.

A kernel is an ordinary function, marked `kernel` with its signature. What it calls is either marked `inline` and
compiled into it, or a `Primitive` from ``memory``. Machine code is kept under a name made of the text of all
kernels and of the processor, so that neither an edit nor another machine on the same disk meets stale code:
in ``__pycache__`` beside this file or, where that cannot be written to, in the user's cache folder. Where neither
can be written to, each process compiles for itself.

Signatures
----------
Types in the order of the parameters, then ``->`` and the type of the result if there is one. A scalar is ``i64``,
``u64`` or ``f64``; an array is a type and ``[:]`` or ``[:,:]``. Arrays are C-contiguous and aligned.
"""

import ctypes
import hashlib
import os
import sys
import threading
from collections.abc import Callable
from functools import cache
from importlib import import_module
from operator import index
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
from numpy.typing import NDArray

__all__ = ["Kernel", "Primitive", "View", "inline", "kernel", "view"]

_CTYPES: dict[str, Any] = {"i64": ctypes.c_int64, "u64": ctypes.c_uint64, "f64": ctypes.c_double}
_DTYPES = {
    name: np.dtype(kind)
    for name, kind in {
        "u8": "u1",
        "u16": "u2",
        "u32": "u4",
        "u64": "u8",
        "i8": "i1",
        "i64": "i8",
        "f32": "f4",
        "f64": "f8",
    }.items()
}
_CALLABLE = {"memcpy", "memmove", "memset", "sqrt", "log", "sin", "cos", "sincos"}  # what kept machine code may call
_loading = threading.RLock()  # reentrant: whoever compiles may fork
_kept: list[Any] = []  # numba functions that are called at their address


class View(NamedTuple):
    """Where an array lies, taken once for many calls; whoever keeps a view keeps its array alive."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def view(array: NDArray[Any]) -> View:
    """Return the view of an array, which must be C-contiguous and aligned."""
    if not (array.flags.c_contiguous and array.flags.aligned):
        raise ValueError("expected a C-contiguous, aligned array")
    return View(_address(array), array.shape, array.dtype)


def _find_data_field() -> int | None:
    """Return where in an array object its data pointer lies, in bytes; None if it is not found."""
    for at in range(8, 64, 8):
        arrays = [np.zeros(1) for _ in range(3)]
        if all(ctypes.c_void_p.from_address(id(array) + at).value == array.ctypes.data for array in arrays):
            return at
    return None


_DATA_AT = _find_data_field() if sys.implementation.name == "cpython" else None


def _address(array: NDArray[Any]) -> int:
    """Return where the elements of an array lie; ``array.ctypes.data`` is the same, but takes 2 microseconds."""
    if _DATA_AT is None:
        return int(array.ctypes.data)
    return ctypes.c_void_p.from_address(id(array) + _DATA_AT).value or 0


class Primitive:
    """A machine operation: `build` returns numba's intrinsic for it, when numba is there to compile."""

    def __init__(self, build: Callable[[], Any]) -> None:
        self.build = build
        self.__doc__ = build.__doc__

    def __call__(self, *args: Any) -> Any:
        """Never called: kernels that name a primitive are compiled."""
        raise TypeError(f"{self.build.__name__} exists in kernels alone")


def inline(function: Any) -> Any:
    """Mark a function that kernels of its module call."""
    function.inlined = True
    return function


def kernel(signature: str) -> Callable[[Any], "Kernel"]:
    """Make a kernel of a function; the module docstring says what a signature is."""
    return lambda function: Kernel(function, signature)


class Kernel:
    """A compiled function. Arguments are NumPy arrays or a `View` of one, bytes for a row of u8, integers and floats.

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

    def __call__(self, *args: Any) -> Any:
        """Run the kernel; returns a number or None."""
        call = self._call or self._load()
        words: list[Any] = []
        for parameter, arg in zip(self.parameters, args, strict=True):
            if not parameter.ndim:
                words.append(float(arg) if parameter.kind == "f64" else index(arg))
            elif type(arg) is bytes and parameter.kind == "u8" and parameter.ndim == 1:
                words += (arg, len(arg))
            else:
                if isinstance(arg, np.ndarray):
                    arg = view(arg)
                if arg.dtype != parameter.dtype or len(arg.shape) != parameter.ndim:
                    raise TypeError(f"{self.function.__name__}: expected {parameter}, found {arg.dtype} {arg.shape}")
                words += (arg.address, *arg.shape)
        return call(*words)

    def _load(self) -> Any:
        with _loading:
            if self._call is None:
                name = f"{self.function.__module__.rpartition('.')[2]}_{self.function.__name__}"
                result = _CTYPES[self.result] if self.result else None
                words: list[Any] = []
                for parameter in self.parameters:
                    if parameter.ndim:
                        words += [ctypes.c_void_p] + [ctypes.c_int64] * parameter.ndim
                    else:
                        words.append(_CTYPES[parameter.kind])
                self._call = ctypes.CFUNCTYPE(result, *words)(_find_or_compile(name, self))
        return self._call


class _Parameter(NamedTuple):
    kind: str
    ndim: int
    dtype: np.dtype[Any]

    @classmethod
    def parse(cls, text: str) -> "_Parameter":
        kind, _, axes = text.partition("[")
        return cls(kind, axes.count(":"), _DTYPES[kind])

    def __str__(self) -> str:
        return f"{self.dtype} of {self.ndim} dimensions in C order"


def _find_or_compile(name: str, kernel: Kernel) -> int:
    """Return the address of a kernel's machine code, from disk if it is there."""
    file_name = f"{name}-{_fingerprint()}.o"
    folders = _cache_folders() if _fingerprint() else ()
    for folder in folders:
        try:
            data = (folder / file_name).read_bytes()
        except OSError:
            continue
        if data[:32] == hashlib.blake2b(data[32:], digest_size=32).digest():
            return _place(name, data[32:])
    compiled, code = _compile(name, kernel)
    if code is None:
        _kept.append(compiled)
        return int(compiled.address)
    for folder in folders:
        try:
            _write(folder / file_name, hashlib.blake2b(code, digest_size=32).digest() + code)
            break
        except OSError:
            continue
    return _place(name, code)


def _place(name: str, code: bytes) -> int:
    """Put machine code into memory; return where its function lies."""
    _engine().add_object_file(llvm.ObjectFileRef.from_data(code))
    _engine().finalize_object()
    address = int(_engine().get_function_address(name))
    assert address, name
    return address


def _write(path: Path, data: bytes) -> None:
    """Write a file that other processes see whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@cache
def _cache_folders() -> tuple[Path, ...]:
    """Return where machine code is looked for and kept, the best place first; none that strangers can write to."""
    beside = Path(__file__).parent / "__pycache__"  # as trusted as the package itself
    home = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME", "")
    try:
        cache = Path(home) if os.path.isabs(home) else Path.home() / ".cache"
    except RuntimeError:
        return (beside,)  # there is no home
    folder = cache / "vecstore" / "kernels"
    return (beside, folder) if _is_ours(folder) else (beside,)


def _is_ours(folder: Path) -> bool:
    """Say whether nobody but this user can write to a folder that may be there."""
    if not hasattr(os, "geteuid") or not folder.exists():
        return True
    status = folder.stat()
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


@cache
def _fingerprint() -> str:
    """Return what machine code depends on: the text of all kernels, the processor and the system.

    Empty within a zip, where nothing tells one version's kernels from another's.
    """
    hasher = hashlib.blake2b(digest_size=8)
    paths = sorted(Path(__file__).parent.glob("*.py"))
    for path in paths:
        text = path.read_bytes()
        hasher.update(f"{path.name} {len(text)}\n".encode() + text)
    for name in (llvm.get_host_cpu_name(), _cpu_features(), llvm.get_default_triple()):
        hasher.update(f"{name}\n".encode())
    return hasher.hexdigest() if paths else ""


def _cpu_features() -> str:
    try:
        return str(llvm.get_host_cpu_features().flatten())
    except RuntimeError:
        return ""  # LLVM does not know this processor's; the code is then for any of its kind


@cache
def _target_machine() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=_cpu_features(),
        opt=3,
        reloc="default",
        codemodel="jitdefault",
    )


@cache
def _engine() -> Any:
    machine = _target_machine()
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)


def _compile(name: str, kernel: Kernel) -> tuple[Any, bytes | None]:
    """Compile a kernel; return numba's function, and an object file that calls nothing but the C library.

    A version of numba whose code calls something else leaves no object file: this process then calls numba's
    function, and the next one compiles again.
    """
    numba: Any = import_module("numba")
    types = numba.types
    scalars = {"u8": types.uint8, "u32": types.uint32, "u64": types.uint64, "i64": types.int64}
    scalars |= {"u16": types.uint16, "i8": types.int8, "f32": types.float32, "f64": types.float64}
    result = scalars[kernel.result] if kernel.result else types.void
    words, names, args = [], [], []
    for i, parameter in enumerate(kernel.parameters):
        lengths = [f"n{i}_{axis}" for axis in range(parameter.ndim)]
        names += [f"p{i}", *lengths]
        words += [types.CPointer(scalars[parameter.kind]) if lengths else scalars[parameter.kind]]
        words += [types.int64] * parameter.ndim
        args.append(f"carray(p{i}, ({', '.join(lengths)},))" if lengths else f"p{i}")
    namespace: dict[str, Any] = {"body": _jitted(kernel.function), "carray": numba.carray}
    exec(f"def entry({', '.join(names)}):\n    return body({', '.join(args)})", namespace)

    compiled = numba.cfunc(result(*words), nopython=True, error_model="numpy")(namespace["entry"])
    text = compiled.inspect_llvm().replace(compiled.native_name, name)
    module = llvm.parse_assembly(text)
    module.verify()
    _optimize(module, name)
    called = {function.name for function in module.functions if function.is_declaration}
    called = {symbol for symbol in called if not symbol.startswith("llvm.")}
    return compiled, bytes(_target_machine().emit_object(module)) if called <= _CALLABLE else None


def _optimize(module: Any, name: str) -> None:
    """Inline everything into function `name`, which drops numba's paths for exceptions: a kernel raises none."""
    for function in module.functions:
        if not function.is_declaration and function.name != name:
            function.linkage = "internal"
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.inlining_threshold = 10_000
    builder = llvm.create_pass_builder(_target_machine(), options)
    builder.getModulePassManager().run(module, builder)


@cache
def _jitted(function: FunctionType) -> Any:
    """Return numba's version of a function, and of all that it calls."""
    numba: Any = import_module("numba")
    namespace = dict(function.__globals__)
    for called in function.__code__.co_names:
        value: Any = namespace.get(called)
        if isinstance(value, Primitive):
            namespace[called] = value.build()
        elif getattr(value, "inlined", False):
            namespace[called] = _jitted(value)
    copy = FunctionType(function.__code__, namespace, function.__name__, function.__defaults__)
    return numba.njit(nogil=True, error_model="numpy")(copy)


if hasattr(os, "register_at_fork"):
    # A child forked while a thread compiles or loads would inherit the locks of llvmlite and numba, held for ever.
    os.register_at_fork(before=_loading.acquire, after_in_parent=_loading.release, after_in_child=_loading.release)
