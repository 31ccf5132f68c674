"""Rows of a document to one vector: summed, averaged, their maximum or the first, each number widened to float32.

Document i has the tokens ``offsets[i]:offsets[i + 1]``, and ``rows[k]`` is the row of token ``first + k``. A call goes
through documents from `document` to `stop`, as far as `rows` goes, and returns the first that it has not finished; the
next call takes it up there, with the rows that follow and the same `sums` and `counts`. So it does not matter where a
document is cut: its rows are added in the order of its tokens, in float64, and rounded once.

Checked by the caller: `vectors` (v, d), `out` (n, d) and `sums` (d,) are C-contiguous, of one width; `offsets` (n + 1,)
ascend; `counts` is (n,); `rows` are all of the tokens from `first` on that the documents have, or else at least one;
`scales` is (v,); `weights` is (v,), or (0,) where all rows weigh 1. Checked here: each row, since it may come from a
damaged index.

The rows are scattered over a file of gigabytes: the first lines of a later one are asked for while one is added. Four
are added together, one after the other into each component, so that the processor waits for four at once and sums are
loaded and stored a fourth as often: random rows of 300 out of 3.6 GB took 210 ns instead of 340, one thread. Sums in
float32 were no faster.
"""

import numpy as np

from vecstore.kernels.code import inline
from vecstore.kernels.machine import kernel
from vecstore.kernels.memory import prefetch, prefetch_row, stack_words
from vecstore.kernels.narrowing import widen_bfloat16, widen_float16

__all__ = ["FIRST", "MAX", "MEAN", "SUM", "pool_rows", "pool_rows_bfloat16", "pool_rows_float16", "pool_rows_int8"]

MEAN, SUM, MAX, FIRST = range(4)

_AHEAD = 16
_GROUP = 4


@inline
def _as_it_is(number):
    return number


@inline
def _integer(number):
    return np.float32(number)


@inline
def _scale(scales, row):
    return scales[row] if scales is not None else np.float32(1)


@inline
def _weight(weights, row):
    return np.float64(weights[row]) if weights.shape[0] > 0 else 1.0


@inline
def _add(widen, vectors, scales, weights, row, sums):
    scale, weight = _scale(scales, row), _weight(weights, row)
    for j in range(sums.shape[0]):
        sums[j] += weight * np.float64(widen(vectors[row, j]) * scale)


@inline
def _add_group(widen, vectors, scales, weights, rows, sums):
    p, q, r, s = rows[0], rows[1], rows[2], rows[3]
    scale_p, scale_q, scale_r, scale_s = _scale(scales, p), _scale(scales, q), _scale(scales, r), _scale(scales, s)
    weight_p, weight_q, weight_r, weight_s = (
        _weight(weights, p),
        _weight(weights, q),
        _weight(weights, r),
        _weight(weights, s),
    )
    for j in range(sums.shape[0]):
        total = sums[j]
        total += weight_p * np.float64(widen(vectors[p, j]) * scale_p)
        total += weight_q * np.float64(widen(vectors[q, j]) * scale_q)
        total += weight_r * np.float64(widen(vectors[r, j]) * scale_r)
        total += weight_s * np.float64(widen(vectors[s, j]) * scale_s)
        sums[j] = total


@inline
def _finish(sums, divisor, document, out):
    for j in range(sums.shape[0]):
        out[document, j] = np.float32(sums[j] / divisor)


@inline
def _length(sums):
    squares = 0.0
    for j in range(sums.shape[0]):
        squares += sums[j] * sums[j]
    return np.sqrt(squares)


@inline
def _larger(number, other):
    # A NaN stays, as it does in numpy.maximum.
    return number if number > other or number != number else other


@inline
def _take_max(widen, vectors, scales, row, sums):
    scale = _scale(scales, row)
    for j in range(sums.shape[0]):
        sums[j] = _larger(np.float64(widen(vectors[row, j]) * scale), sums[j])


@inline
def _take_max_of_group(widen, vectors, scales, rows, sums):
    p, q, r, s = rows[0], rows[1], rows[2], rows[3]
    scale_p, scale_q, scale_r, scale_s = _scale(scales, p), _scale(scales, q), _scale(scales, r), _scale(scales, s)
    for j in range(sums.shape[0]):
        largest = _larger(np.float64(widen(vectors[p, j]) * scale_p), sums[j])
        largest = _larger(np.float64(widen(vectors[q, j]) * scale_q), largest)
        largest = _larger(np.float64(widen(vectors[r, j]) * scale_r), largest)
        sums[j] = _larger(np.float64(widen(vectors[s, j]) * scale_s), largest)


@inline
def _ask_ahead(vectors, scales, weights, row):
    if 0 <= row < vectors.shape[0]:
        prefetch_row(vectors, row)
        if scales is not None:
            prefetch(scales, row)
        if weights.shape[0] > 0:
            prefetch(weights, row)


@inline
def _pool(
    widen, vectors, scales, weights, rows, first, offsets, pooling, normalize, document, stop, sums, counts, out
):  # fmt: skip
    group = stack_words()  # rows that are added together
    last = first + rows.shape[0]
    while document < stop:
        low = max(offsets[document], first)
        high = min(offsets[document + 1], last)
        if low == offsets[document]:
            sums[:] = -np.inf if pooling == MAX else 0.0
            counts[document] = 0
        known = counts[document]
        waiting = 0
        for i in range(low - first, high - first):
            if i + _AHEAD < rows.shape[0]:
                _ask_ahead(vectors, scales, weights, rows[i + _AHEAD])
            row = rows[i]
            if not 0 <= row < vectors.shape[0]:
                continue
            known += 1
            if pooling == FIRST:
                if known == 1:
                    _add(widen, vectors, scales, weights, row, sums)
                continue
            group[waiting] = row
            waiting += 1
            if waiting == _GROUP:
                waiting = 0
                if pooling == MAX:
                    _take_max_of_group(widen, vectors, scales, group, sums)
                else:
                    _add_group(widen, vectors, scales, weights, group, sums)
        for k in range(waiting):
            if pooling == MAX:
                _take_max(widen, vectors, scales, group[k], sums)
            else:
                _add(widen, vectors, scales, weights, group[k], sums)
        counts[document] = known
        if offsets[document + 1] > last:
            break
        if known == 0:
            sums[:] = 0.0
        divisor = np.float64(known) if pooling == MEAN and known > 0 else 1.0
        if normalize:
            length = _length(sums)
            divisor = length if length > 0 else 1.0
        _finish(sums, divisor, document, out)
        document += 1
    return document


@kernel("f32[:,:], f32[:], i64[:], i64, i64[:], i64, i64, i64, i64, f64[:], i64[:], f32[:,:] -> i64")
def pool_rows(vectors, weights, rows, first, offsets, pooling, normalize, document, stop, sums, counts, out):
    """Write the pooled rows of each document to `out`; the module docstring says how far, and what is returned."""
    return _pool(
        _as_it_is, vectors, None, weights, rows, first, offsets, pooling, normalize, document, stop, sums, counts, out
    )


@kernel("u16[:,:], f32[:], i64[:], i64, i64[:], i64, i64, i64, i64, f64[:], i64[:], f32[:,:] -> i64")
def pool_rows_bfloat16(vectors, weights, rows, first, offsets, pooling, normalize, document, stop, sums, counts, out):
    """`pool_rows` of bfloat16 numbers, given as uint16."""
    return _pool(
        widen_bfloat16, vectors, None, weights, rows, first, offsets,
        pooling, normalize, document, stop, sums, counts, out,
    )  # fmt: skip


@kernel("u16[:,:], f32[:], i64[:], i64, i64[:], i64, i64, i64, i64, f64[:], i64[:], f32[:,:] -> i64")
def pool_rows_float16(vectors, weights, rows, first, offsets, pooling, normalize, document, stop, sums, counts, out):
    """`pool_rows` of float16 numbers, given as uint16."""
    return _pool(
        widen_float16, vectors, None, weights, rows, first, offsets,
        pooling, normalize, document, stop, sums, counts, out,
    )  # fmt: skip


@kernel("i8[:,:], f32[:], f32[:], i64[:], i64, i64[:], i64, i64, i64, i64, f64[:], i64[:], f32[:,:] -> i64")
def pool_rows_int8(
    vectors, scales, weights, rows, first, offsets, pooling, normalize, document, stop, sums, counts, out
):
    """`pool_rows` of integers, each times the scale of its row in float32."""
    return _pool(
        _integer, vectors, scales, weights, rows, first, offsets, pooling, normalize, document, stop, sums, counts, out
    )
