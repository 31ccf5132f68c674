"""Rows of a document to one vector: summed, averaged, their maximum or the first, each number widened to float32.

Document i has the tokens ``offsets[i]:offsets[i + 1]``, and ``rows[k]`` is the row of token k. Rows are added in the
order of their tokens, in float64, and rounded once.

Checked by the caller: `vectors` (v, d) and `out` (n, d) are C-contiguous, of one width; `sums` has room for d numbers,
and for `LANES`; `offsets` (n + 1,) ascend from 0 within `rows`, which is written to; `counts` is (n,); `scales` is
(v,); `weights` is (v,), or (0,) where all rows weigh 1. Checked here: each row, since it may come from a damaged index.

The rows are scattered over a file of gigabytes, though a few are most of a text. A group of rows is added together, a
cache line of each, so that sums are loaded and stored once a group; and with each line the same line of the rows of the
next group is asked for. Running text of 3 million rows of 300, in C on one thread, took 68 ns a token; in groups of 4
it took 76, one row at a time 113. Asking for ten lines of a later row at once, 88 to 97: more than the processor keeps
track of. Sums in float32 instead of float64 saved 10 %, where a result would depend on how it was added.
"""

import numpy as np

from vecstore.kernels.bits import HAS_HALF
from vecstore.kernels.code import inline
from vecstore.kernels.lanes import (
    LANES,
    add,
    bfloat16s,
    float32s,
    halves,
    integers,
    larger,
    load,
    multiply,
    padded_row,
    row_part,
    store,
)
from vecstore.kernels.machine import kernel
from vecstore.kernels.memory import prefetch, prefetch_line, stack_floats, stack_words
from vecstore.kernels.narrowing import widen_float16_by_hand

__all__ = ["FIRST", "MAX", "MEAN", "SUM", "pool_rows", "pool_rows_bfloat16", "pool_rows_float16", "pool_rows_int8"]

MEAN, SUM, MAX, FIRST = range(4)

_GROUP = 8
_LINE = 64  # bytes


@inline
def _float32s(pointer, scales, row):
    return float32s(pointer)


@inline
def _bfloat16s(pointer, scales, row):
    return bfloat16s(pointer)


@inline
def _float16s(pointer, scales, row):
    if HAS_HALF:
        return halves(pointer)
    return _float16s_by_hand(pointer, scales, row)


@inline
def _float16s_by_hand(pointer, scales, row):
    floats = stack_floats()
    for k in range(LANES):
        floats[k] = widen_float16_by_hand(pointer[k])
    return float32s(floats)


@inline
def _integers(pointer, scales, row):
    return integers(pointer, scales[row])


@inline
def _add(total, lanes, weights, row):
    if weights is not None:
        return add(total, multiply(lanes, np.float64(weights[row])))
    return add(total, lanes)


@inline
def _larger(total, lanes, weights, row):
    return larger(total, lanes)


@inline
def _add_part(step, widen, vectors, scales, weights, group, count, at, sums):
    """Return the sums of components from `at` on, and the rows of a group added to them."""
    total = load(sums, at)
    for i in range(count):
        row = group[i]
        total = step(total, widen(row_part(vectors, row, at), scales, row), weights, row)
    return total


@inline
def _add_group(step, widen, vectors, scales, weights, group, count, sums):
    """Add the first `count` rows of a group, and ask for the rows of the next, which stand after it."""
    d = vectors.shape[1]
    for k in range(_GROUP):
        if scales is not None:
            prefetch(scales, group[_GROUP + k])
        if weights is not None:
            prefetch(weights, group[_GROUP + k])
        prefetch_line(vectors, group[_GROUP + k], d * vectors.itemsize - 1)
    if d < LANES:
        total = load(sums, 0)
        for i in range(count):
            row = group[i]
            total = step(total, widen(padded_row(vectors, row), scales, row), weights, row)
        store(total, sums, 0)
        return
    # The last part overlaps the one before: of what is in both, both make the same.
    last = _add_part(step, widen, vectors, scales, weights, group, count, d - LANES, sums)
    for at in range(0, d - LANES, LANES):
        if at * vectors.itemsize % _LINE == 0:
            for k in range(_GROUP):
                prefetch_line(vectors, group[_GROUP + k], at * vectors.itemsize)
        store(_add_part(step, widen, vectors, scales, weights, group, count, at, sums), sums, at)
    store(last, sums, d - LANES)


@inline
def _length(sums, d):
    squares = 0.0
    for j in range(d):
        squares += sums[j] * sums[j]
    return np.sqrt(squares)


@inline
def _keep_known(rows, offsets, v, pooling, counts):
    """Move the rows that exist together, of each document the first alone if that is all it takes; count them all."""
    kept = 0
    for document in range(counts.shape[0]):
        known = 0
        for i in range(offsets[document], offsets[document + 1]):
            row = rows[i]
            rows[kept] = row
            exists = 0 <= row < v
            kept += 1 if exists and (pooling != FIRST or known == 0) else 0
            known += 1 if exists else 0
        counts[document] = known
    return kept


@inline
def _pool(widen, vectors, scales, weights, rows, offsets, pooling, normalize, sums, counts, out):
    d = vectors.shape[1]
    kept = _keep_known(rows, offsets, vectors.shape[0], pooling, counts)
    group = stack_words()  # of rows, and after it the next group
    at = 0
    for document in range(counts.shape[0]):
        known = counts[document]
        stop = at + (min(known, 1) if pooling == FIRST else known)
        sums[:] = -np.inf if pooling == MAX and known > 0 else 0.0
        while at < stop:
            count = min(_GROUP, stop - at)
            for k in range(_GROUP):
                group[k] = rows[min(at + k, kept - 1)]
                group[_GROUP + k] = rows[min(at + count + k, kept - 1)]
            if pooling == MAX:
                _add_group(_larger, widen, vectors, scales, None, group, count, sums)
            elif weights.shape[0] > 0:
                _add_group(_add, widen, vectors, scales, weights, group, count, sums)
            else:
                _add_group(_add, widen, vectors, scales, None, group, count, sums)
            at += count
        divisor = np.float64(known) if pooling == MEAN and known > 0 else 1.0
        if normalize:
            length = _length(sums, d)
            divisor = length if length > 0 else 1.0
        for j in range(d):
            out[document, j] = np.float32(sums[j] / divisor)


@kernel("f32[:,:], f32[:], i64[:], i64[:], i64, i64, f64[:], i64[:], f32[:,:]")
def pool_rows(vectors, weights, rows, offsets, pooling, normalize, sums, counts, out):
    """Write the pooled rows of each document to `out`, and to `counts` how many of its rows exist."""
    _pool(_float32s, vectors, None, weights, rows, offsets, pooling, normalize, sums, counts, out)


@kernel("u16[:,:], f32[:], i64[:], i64[:], i64, i64, f64[:], i64[:], f32[:,:]")
def pool_rows_bfloat16(vectors, weights, rows, offsets, pooling, normalize, sums, counts, out):
    """`pool_rows` of bfloat16 numbers, given as uint16."""
    _pool(_bfloat16s, vectors, None, weights, rows, offsets, pooling, normalize, sums, counts, out)


@kernel("u16[:,:], f32[:], i64[:], i64[:], i64, i64, f64[:], i64[:], f32[:,:]")
def pool_rows_float16(vectors, weights, rows, offsets, pooling, normalize, sums, counts, out):
    """`pool_rows` of float16 numbers, given as uint16."""
    _pool(_float16s, vectors, None, weights, rows, offsets, pooling, normalize, sums, counts, out)


@kernel("i8[:,:], f32[:], f32[:], i64[:], i64[:], i64, i64, f64[:], i64[:], f32[:,:]")
def pool_rows_int8(vectors, scales, weights, rows, offsets, pooling, normalize, sums, counts, out):
    """`pool_rows` of integers, each times the scale of its row in float32."""
    _pool(_integers, vectors, scales, weights, rows, offsets, pooling, normalize, sums, counts, out)
