"""Rows to vectors: one checked copy of scattered rows, split over threads."""

import mmap
import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from vecstore.kernels.machine import view
from vecstore.kernels.paging import ask_for_rows, count_absent
from vecstore.keys import frozen
from vecstore.storage import StoredVectors
from vecstore.threads import split

__all__ = ["ask_ahead", "gather", "new_or_checked"]

_GRAIN_BYTES = 1 << 20  # bytes that are worth a thread: about 0.2 ms of copying
_CAN_ASK = sys.platform == "linux"
_ASKED_ROWS = 1024  # a batch that is worth the look, 0.1 ms
_SAMPLE = 64  # rows that are looked at
_STREAMED_BYTES = 1 << 23  # of a result that no cache would keep


def gather(
    vectors: StoredVectors, rows: ArrayLike, *, out: NDArray[Any] | None = None, oov: float = 0.0
) -> NDArray[Any]:
    """Return `vectors` (v, d) at `rows` (n,), with `oov` in every component where a row is -1.

    The result is a float32 copy (n, d); `out` if given. `VectorStore.gather` says more, and what is raised.
    """
    v, d = vectors.shape
    checked = _check_rows(rows, v)
    result = new_or_checked(out, (len(checked), d), vectors.dtype)
    value = float(oov)
    streaming = result.nbytes >= _STREAMED_BYTES

    ask_ahead(vectors.array, checked)

    def copy(start: int, stop: int) -> None:
        vectors.gather(checked, value, streaming, start, stop, result)

    split(copy, len(checked), max(1, _GRAIN_BYTES // max(1, d * result.itemsize)))
    return result


def ask_ahead(vectors: NDArray[Any], rows: NDArray[np.int64], *, alone: bool = False) -> None:
    """Have the rows of a large batch read together, if some are not in memory.

    `alone` keeps to the caller's thread: one that works on its part of a batch must not wait for others.

    On a cold page cache a copy would wait for one page at a time. Where a file belongs to somebody else and may not be
    written to, Linux does not tell what is in memory, and nothing is asked for.
    """
    if not _CAN_ASK or len(rows) < _ASKED_ROWS or not vectors.size:
        return
    address, width = view(vectors).address, vectors.strides[0]
    if count_absent(address, width, rows, max(1, len(rows) // _SAMPLE), mmap.PAGESIZE) <= _SAMPLE // 16:
        return
    wanted = np.unique(rows)
    wanted = wanted[np.searchsorted(wanted, 0) :]

    def ask(start: int, stop: int) -> None:
        ask_for_rows(address, width, wanted, mmap.PAGESIZE, start, stop)

    split(ask, len(wanted), max(1, len(wanted)) if alone else _ASKED_ROWS)


def new_or_checked(out: NDArray[Any] | None, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return `out` if it is a writable C-contiguous array of `shape` and `dtype`, or a new one if it is None.

    Raises
    ------
    TypeError
        `out` is not an array.
    ValueError
        `out` has another shape, dtype or memory order, or is read-only.
    """
    if out is None:
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray):
        raise TypeError(f"out: expected a NumPy array, found {type(out).__name__}")
    if out.shape != shape or out.dtype != dtype:
        raise ValueError(f"out: expected {np.dtype(dtype)} of shape {shape}, found {out.dtype} of shape {out.shape}")
    if not (out.flags.c_contiguous and out.flags.aligned and out.flags.writeable):
        raise ValueError("out: expected a writable, C-contiguous array")
    return out


def _check_rows(rows: ArrayLike, v: int) -> NDArray[np.int64]:
    array = np.asarray(rows)
    if array.ndim != 1:
        raise ValueError(f"expected (n,) rows, found shape {array.shape}")
    if array.size == 0:
        return frozen([], np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"expected integer rows, found {array.dtype}")
    low, high = array.min(), array.max()
    if low < -1 or high >= v:
        raise IndexError(f"expected -1 <= row < {v}, found rows from {low} to {high}")
    return frozen(array, np.int64)
