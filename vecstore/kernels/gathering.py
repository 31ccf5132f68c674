"""Copying rows of a matrix, each number widened to float32.

Checked by the caller: `vectors` (v, d) and `out` (n, d) are C-contiguous, of one width; `rows` is (n,) int64; `scales`
is (v,). Checked here: each row, since it may come from a damaged index.

The rows of a batch are scattered over a file of gigabytes, so every copy starts with cache misses that the
processor cannot foresee: while one row is copied, the first lines of a later one are asked for. `streaming` says
whether `out` is larger than the caches: its lines then go past them, which saves reading each before it is written.
"""

import numpy as np

from vecstore.kernels.code import inline
from vecstore.kernels.machine import kernel
from vecstore.kernels.memory import (
    STACK_FLOATS,
    copy_row,
    prefetch,
    prefetch_row,
    settle,
    stack_floats,
    stream_floats,
    stream_row,
)
from vecstore.kernels.narrowing import widen_bfloat16, widen_float16

__all__ = ["gather_rows", "gather_rows_bfloat16", "gather_rows_float16", "gather_rows_int8"]

_AHEAD = 8


@inline
def _ask_ahead(vectors, rows, i, stop):
    if i + _AHEAD < stop:
        row = rows[i + _AHEAD]
        if 0 <= row < vectors.shape[0]:
            prefetch_row(vectors, row)


@kernel("f32[:,:], i64[:], f64, i64, i64, i64, f32[:,:]")
def gather_rows(vectors, rows, oov, streaming, start, stop, out):
    """Copy `vectors[rows[i]]` to `out[i]` for start <= i < stop; rows outside `vectors` get `oov`."""
    for i in range(start, stop):
        _ask_ahead(vectors, rows, i, stop)
        row = rows[i]
        if not 0 <= row < vectors.shape[0]:
            out[i] = oov
        elif streaming:
            stream_row(out, i, vectors, row)
        else:
            copy_row(out, i, vectors, row)
    settle()


@kernel("u16[:,:], i64[:], f64, i64, i64, i64, f32[:,:]")
def gather_rows_bfloat16(vectors, rows, oov, streaming, start, stop, out):
    """`gather_rows` of bfloat16 numbers, given as uint16."""
    floats = stack_floats()
    for i in range(start, stop):
        _ask_ahead(vectors, rows, i, stop)
        row = rows[i]
        if not 0 <= row < vectors.shape[0]:
            out[i] = oov
        elif streaming:
            for base in range(0, vectors.shape[1], STACK_FLOATS):
                count = min(STACK_FLOATS, vectors.shape[1] - base)
                for j in range(count):
                    floats[j] = widen_bfloat16(vectors[row, base + j])
                stream_floats(out, i, base, floats, count)
        else:
            for j in range(vectors.shape[1]):
                out[i, j] = widen_bfloat16(vectors[row, j])
    settle()


@kernel("u16[:,:], i64[:], f64, i64, i64, i64, f32[:,:]")
def gather_rows_float16(vectors, rows, oov, streaming, start, stop, out):
    """`gather_rows` of float16 numbers, given as uint16."""
    floats = stack_floats()
    for i in range(start, stop):
        _ask_ahead(vectors, rows, i, stop)
        row = rows[i]
        if not 0 <= row < vectors.shape[0]:
            out[i] = oov
        elif streaming:
            for base in range(0, vectors.shape[1], STACK_FLOATS):
                count = min(STACK_FLOATS, vectors.shape[1] - base)
                for j in range(count):
                    floats[j] = widen_float16(vectors[row, base + j])
                stream_floats(out, i, base, floats, count)
        else:
            for j in range(vectors.shape[1]):
                out[i, j] = widen_float16(vectors[row, j])
    settle()


@kernel("i8[:,:], f32[:], i64[:], f64, i64, i64, i64, f32[:,:]")
def gather_rows_int8(vectors, scales, rows, oov, streaming, start, stop, out):
    """`gather_rows` of integers, each times the scale of its row in float32."""
    floats = stack_floats()
    for i in range(start, stop):
        if i + _AHEAD < stop:
            prefetch(scales, rows[i + _AHEAD])
        _ask_ahead(vectors, rows, i, stop)
        row = rows[i]
        if not 0 <= row < vectors.shape[0]:
            out[i] = oov
            continue
        scale = scales[row]
        if streaming:
            for base in range(0, vectors.shape[1], STACK_FLOATS):
                count = min(STACK_FLOATS, vectors.shape[1] - base)
                for j in range(count):
                    floats[j] = np.float32(vectors[row, base + j]) * scale
                stream_floats(out, i, base, floats, count)
        else:
            for j in range(vectors.shape[1]):
                out[i, j] = np.float32(vectors[row, j]) * scale
    settle()
