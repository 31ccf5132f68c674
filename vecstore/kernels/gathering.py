"""Copying rows of a matrix.

Checked by the caller: `vectors` (v, d) and `out` (n, d) are C-contiguous, of one width; `rows` is (n,) int64; `scales`
is (v,). Checked here: each row, since it may come from a damaged index.

The rows of a batch are scattered over a file of gigabytes, so every copy starts with cache misses that the
processor cannot foresee: while one row is copied, the first lines of a later one are asked for.
"""

import numpy as np

from vecstore.kernels.machine import kernel
from vecstore.kernels.memory import copy_row, prefetch
from vecstore.kernels.narrowing import widen_bfloat16, widen_float16

__all__ = ["gather_rows", "gather_rows_bfloat16", "gather_rows_float16", "gather_rows_int8"]

_AHEAD = 4


@kernel("f32[:,:], i64[:], f64, i64, i64, f32[:,:]")
def gather_rows(vectors, rows, oov, start, stop, out):
    """Copy `vectors[rows[i]]` to `out[i]` for start <= i < stop; rows outside `vectors` get `oov`."""
    for i in range(start, stop):
        if i + _AHEAD < stop:
            prefetch(vectors, rows[i + _AHEAD])
        row = rows[i]
        if 0 <= row < vectors.shape[0]:
            copy_row(out, i, vectors, row)
        else:
            out[i] = oov


@kernel("u16[:,:], i64[:], f64, i64, i64, f32[:,:]")
def gather_rows_bfloat16(vectors, rows, oov, start, stop, out):
    """`gather_rows` of bfloat16 numbers, given as uint16, each widened to float32."""
    for i in range(start, stop):
        if i + _AHEAD < stop:
            prefetch(vectors, rows[i + _AHEAD])
        row = rows[i]
        if 0 <= row < vectors.shape[0]:
            for j in range(vectors.shape[1]):
                out[i, j] = widen_bfloat16(vectors[row, j])
        else:
            out[i] = oov


@kernel("u16[:,:], i64[:], f64, i64, i64, f32[:,:]")
def gather_rows_float16(vectors, rows, oov, start, stop, out):
    """`gather_rows` of float16 numbers, given as uint16, each widened to float32."""
    for i in range(start, stop):
        if i + _AHEAD < stop:
            prefetch(vectors, rows[i + _AHEAD])
        row = rows[i]
        if 0 <= row < vectors.shape[0]:
            for j in range(vectors.shape[1]):
                out[i, j] = widen_float16(vectors[row, j])
        else:
            out[i] = oov


@kernel("i8[:,:], f32[:], i64[:], f64, i64, i64, f32[:,:]")
def gather_rows_int8(vectors, scales, rows, oov, start, stop, out):
    """`gather_rows` of integers, each times the scale of its row in float32."""
    for i in range(start, stop):
        if i + _AHEAD < stop:
            prefetch(vectors, rows[i + _AHEAD])
            prefetch(scales, rows[i + _AHEAD])
        row = rows[i]
        if 0 <= row < vectors.shape[0]:
            scale = scales[row]
            for j in range(vectors.shape[1]):
                out[i, j] = np.float32(vectors[row, j]) * scale
        else:
            out[i] = oov
