"""Copying rows of a matrix.

Checked by the caller: `vectors` (v, d) and `out` (n, d) are C-contiguous, of one dtype and width; `rows` is
(n,) int64. Checked here: each row, since it may come from a damaged index.

The rows of a batch are scattered over a file of gigabytes, so every copy starts with cache misses that the
processor cannot foresee: while one row is copied, the first lines of a later one are asked for.
"""

from vecstore.kernels.machine import kernel
from vecstore.kernels.memory import copy_row, prefetch_row, settle, stream_row

__all__ = ["gather_rows"]

_AHEAD = 8


@kernel("f32[:,:], i64[:], f64, i64, i64, i64, f32[:,:]")
def gather_rows(vectors, rows, oov, streaming, start, stop, out):
    """Copy `vectors[rows[i]]` to `out[i]` for start <= i < stop; rows outside `vectors` get `oov`.

    `streaming` says whether `out` is larger than the caches, so that its rows had better go past them.
    """
    for i in range(start, stop):
        if i + _AHEAD < stop:
            row = rows[i + _AHEAD]
            if 0 <= row < vectors.shape[0]:
                prefetch_row(vectors, row)
        row = rows[i]
        if not 0 <= row < vectors.shape[0]:
            out[i] = oov
        elif streaming:
            stream_row(out, i, vectors, row)
        else:
            copy_row(out, i, vectors, row)
    settle()
