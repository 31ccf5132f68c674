"""Machine code: compiled by numba once a machine, kept on disk, loaded without numba from then on.

That is the point: importing numba and waking its own cache takes 0.6 to 1.1 s and 40 MB in every process, loading
the machine code 4 ms, and most processes only ever look keys up.

What compiled code calls is either marked `inline` and compiled into it, or a `Primitive`. Machine code is kept under
a name made of the text of all kernels and of the processor, so that neither an edit nor another machine on the same
disk meets stale code: in ``__pycache__`` beside this file or, where that cannot be written to, in the user's cache
folder. Where neither can be written to, each process compiles for itself.
"""

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

try:
    from _blake2 import blake2b  # hashlib loads OpenSSL as well, in 3 ms
except ImportError:
    from hashlib import blake2b

import llvmlite.binding as llvm
import numpy as np

__all__ = ["Entry", "Primitive", "find_or_compile", "inline", "loading"]

_LIBRARY = {"memcpy", "memmove", "memset", "sqrt", "log", "sin", "cos", "sincos", "madvise", "mincore"}
_PYTHON = {
    "PyBytes_AsString",
    "PyBytes_AsStringAndSize",
    "PyErr_Clear",
    "PyErr_Occurred",
    "PyList_GetItem",
    "PyList_Size",
    "PyLong_AsLongLong",
    "PyLong_FromLongLong",
    "PyTuple_GetItem",
    "PyUnicode_AsUTF8AndSize",
}
"""What kept machine code may call: the C library, and Python's own stable functions."""

loading = threading.RLock()
"""Held while code is compiled or loaded; reentrant, since whoever compiles may fork."""

_TYPES = {"u8": np.uint8, "u64": np.uint64, "i64": np.int64}
_kept: list[Any] = []  # numba functions that are called at their address


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


class Entry(NamedTuple):
    """A function that machine code gives to the outside.

    Attributes
    ----------
    name : str
        Of its symbol and its file.
    body : function
        The kernel, an ordinary function.
    source : str
        The text of a function ``entry`` of `parameters`, which calls `body`; ``carray`` is numba's, and the other names
        in it those of `primitives`.
    parameters, result
        Types: "i64", "u64", "f64"; "u8*" and the like point to the elements of an array; no result is "".
    primitives : dict
        By name.
    """

    name: str
    body: FunctionType
    source: str
    parameters: tuple[str, ...]
    result: str
    primitives: dict[str, Any]


def find_or_compile(entry: Entry) -> int:
    """Return the address of an entry's machine code, from disk if it is there; the caller holds `loading`."""
    file_name = f"{entry.name}-{_fingerprint()}.o"
    folders = _cache_folders() if _fingerprint() else ()
    for folder in folders:
        try:
            data = (folder / file_name).read_bytes()
        except OSError:
            continue
        if data[:32] == blake2b(data[32:], digest_size=32).digest():
            return _place(entry.name, data[32:])
    compiled, code = _compile(entry)
    if code is None:
        _kept.append(compiled)
        return int(compiled.address)
    for folder in folders:
        try:
            _write(folder / file_name, blake2b(code, digest_size=32).digest() + code)
            break
        except OSError:
            continue
    return _place(entry.name, code)


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
    hasher = blake2b(digest_size=8)
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
    for name in _PYTHON:
        llvm.add_symbol(name, ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value)
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)


def _compile(entry: Entry) -> tuple[Any, bytes | None]:
    """Compile an entry; return numba's function, and an object file that calls nothing but the libraries named above.

    A version of numba whose code calls something else leaves no object file: this process then calls numba's
    function, and the next one compiles again.
    """
    numba: Any = import_module("numba")
    types = numba.types
    scalars = {"u8": types.uint8, "u32": types.uint32, "u64": types.uint64, "i64": types.int64}
    scalars |= {"u16": types.uint16, "i8": types.int8, "i32": types.int32, "f32": types.float32, "f64": types.float64}
    words = [types.CPointer(scalars[text[:-1]]) if text[-1] == "*" else scalars[text] for text in entry.parameters]
    result = scalars[entry.result] if entry.result else types.void
    namespace = {name: primitive.build() for name, primitive in entry.primitives.items()}
    namespace |= {"body": _jitted(entry.body), "carray": numba.carray, **_TYPES}
    exec(entry.source, namespace)

    compiled = numba.cfunc(result(*words), nopython=True, error_model="numpy")(namespace["entry"])
    text = compiled.inspect_llvm().replace(compiled.native_name, entry.name)
    module = llvm.parse_assembly(text)
    module.verify()
    _optimize(module, entry.name)
    called = {function.name for function in module.functions if function.is_declaration}
    called = {symbol for symbol in called if not symbol.startswith("llvm.")}
    return compiled, bytes(_target_machine().emit_object(module)) if called <= _LIBRARY | _PYTHON else None


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
    # Without the wrappers that Python itself would call it by, which take a fourth of the time to compile.
    return numba.njit(nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(copy)


if hasattr(os, "register_at_fork"):
    # A child forked while a thread compiles or loads would inherit the locks of llvmlite and numba, held for ever.
    os.register_at_fork(before=loading.acquire, after_in_parent=loading.release, after_in_child=loading.release)
