"""Compiled loops: arrays and scalars in, arrays out; no I/O, no policy, no exceptions.

A kernel writes into its last arguments and checks nothing but what it takes from a mapped file: a corrupt
row or offset is never dereferenced. What the caller must have checked stands in each module's docstring.
Kernels release the GIL, so `vecstore.threads` can run one kernel over several ranges of a batch at once.

Read-only and writable arrays are different types to numba, and every mix of types is compiled and cached
apart. Callers therefore pass read-only inputs (see `vecstore.keys.frozen`), writable outputs, Python
integers for ranges and `numpy.uint64` for seeds: one signature a kernel.
"""

from collections.abc import Callable
from typing import Any

from numba import njit

__all__ = ["kernel"]


def kernel(function: Callable[..., Any]) -> Any:
    """Compile `function` on first use, without the GIL, and keep the machine code on disk."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:
        # numba finds no folder that it may write to: compile in every process rather than fail.
        return njit(nogil=True)(function)
