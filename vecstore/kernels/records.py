"""Cutting the records of a word2vec binary out of a block of bytes, and surveying their vectors.

Checked by the caller of `cut_records`: `positions` has room for `limit` records, `offsets` for one more,
`vectors` (limit, width) for their bytes, `data` for all bytes of the block.
"""

import numpy as np

from vecstore.kernels import kernel
from vecstore.kernels.memory import copy_bytes

__all__ = ["KEY_LIMIT", "LONG_KEY", "MORE", "NO_NEWLINE", "SPLIT_KEY", "cut_records", "survey"]

KEY_LIMIT = 4096
"""Bytes of a key; more than any real one, so a longer one means that the file is something else."""

MORE, LONG_KEY, SPLIT_KEY, NO_NEWLINE = 0, 1, 2, 3
"""Why `cut_records` stopped: the block ended; no space in sight; a newline in a key; none before a key."""

_SPACE, _NEWLINE = 32, 10
_INFINITY = np.uint32(0x7F800000)
_MAGNITUDE = np.uint32(0x7FFFFFFF)


@kernel
def cut_records(block, start, stop, limit, newlines, data, offsets, vectors, positions):
    """Cut at most `limit` whole records out of ``block[start:stop]``; return (records, end, status).

    A record is newlines, key, space, ``vectors.shape[1]`` bytes. `newlines` says whether one must come first.
    """
    width = vectors.shape[1]
    flat = vectors.reshape(-1)
    at = start
    used = 0
    offsets[0] = 0
    for i in range(limit):
        begin = at
        while begin < stop and block[begin] == _NEWLINE:
            begin += 1
        if begin == stop:
            return i, at, MORE
        if newlines and begin == at:
            return i, at, NO_NEWLINE
        end = begin
        last = min(stop, begin + KEY_LIMIT + 1)
        while end < last and block[end] != _SPACE:
            if block[end] == _NEWLINE:
                return i, at, SPLIT_KEY
            end += 1
        if end - begin > KEY_LIMIT:
            return i, at, LONG_KEY
        if end + 1 + width > stop:
            return i, at, MORE
        copy_bytes(data, used, block, begin, end - begin)
        used += end - begin
        copy_bytes(flat, i * width, block, end + 1, width)
        offsets[i + 1] = used
        positions[i] = begin
        at = end + 1 + width
    return limit, at, MORE


@kernel
def survey(vectors, sums, squares, counts):
    """Add up the components of the finite rows of `vectors` (n, d), and count the other kinds of row.

    `sums` and `squares` (d,) float64 grow by each component and its square; `counts` (4,) int64 by the rows
    that are finite, hold a NaN, hold an infinity but no NaN, and are all zero (these are finite too).
    """
    bits = vectors.view(np.uint32)
    for i in range(vectors.shape[0]):
        largest = np.uint32(0)
        for j in range(vectors.shape[1]):
            largest = max(largest, bits[i, j] & _MAGNITUDE)
        if largest >= _INFINITY:
            counts[1 if largest > _INFINITY else 2] += 1
            continue
        counts[0] += 1
        if largest == 0:
            counts[3] += 1
        for j in range(vectors.shape[1]):
            value = np.float64(vectors[i, j])
            sums[j] += value
            squares[j] += value * value
