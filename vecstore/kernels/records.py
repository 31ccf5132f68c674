"""Cutting the records of a word2vec binary out of a block of bytes, and surveying their vectors.

Checked by the caller of `cut_records`: ``start <= stop <= len(block)``; `positions` has room for `limit` records,
`offsets` for one more, `vectors` for their bytes, `data` for all bytes of the block.
"""

import numpy as np

from vecstore.kernels.code import inline
from vecstore.kernels.machine import kernel
from vecstore.kernels.memory import copy_bytes

__all__ = ["KEY_LIMIT", "LONG_KEY", "MORE", "NO_NEWLINE", "SPLIT_KEY", "cut_records", "survey"]

KEY_LIMIT = 4096
"""Bytes of a key and the newlines before it; more than any real one has, so more means something else."""

MORE, LONG_KEY, SPLIT_KEY, NO_NEWLINE = 0, 1, 2, 3
"""Why `cut_records` stopped: the block ended; no space in sight; a newline in a key; none before a key."""

_SPACE, _NEWLINE = 32, 10
_INFINITY = np.uint32(0x7F800000)
_HUGE = np.uint32(0x58635FA9)  # 1e15
_MAGNITUDE = np.uint32(0x7FFFFFFF)


@kernel("u8[:], i64, i64, i64, i64, i64, u8[:], i64[:], u8[:], i64[:], i64[:] -> i64")
def cut_records(block, start, stop, width, limit, newlines, data, offsets, vectors, positions, end):
    """Cut at most `limit` whole records out of ``block[start:stop]``; return how many.

    A record is newlines, key, space, `width` bytes. `newlines` says whether one must come first. ``end[0]`` becomes
    the place where the first record begins that was not cut, ``end[1]`` why it was not.
    """
    at = start
    used = 0
    records = 0
    status = MORE
    offsets[0] = 0
    while records < limit:
        begin = at
        last = min(stop, at + KEY_LIMIT + 2)
        while begin < last and block[begin] == _NEWLINE:
            begin += 1
        if begin == stop:
            break
        if newlines and begin == at:
            status = NO_NEWLINE
            break
        space = begin
        while space < last and block[space] != _SPACE and block[space] != _NEWLINE:
            space += 1
        if space - begin > KEY_LIMIT or space - at > KEY_LIMIT + 1:
            status = LONG_KEY
            break
        if space < last and block[space] == _NEWLINE:
            status = SPLIT_KEY
            break
        if space + 1 + width > stop:
            break
        copy_bytes(data, used, block, begin, space - begin)
        copy_bytes(vectors, records * width, block, space + 1, width)
        used += space - begin
        positions[records] = begin
        records += 1
        offsets[records] = used
        at = space + 1 + width
    end[0] = at
    end[1] = status
    return records


@inline
def _magnitude(bits, row):
    """Return the largest magnitude in a row, as the bits of a float32 without its sign."""
    largest = np.uint32(0)
    for j in range(bits.shape[1]):
        # numba widens & and max() of uint32 to 64 bits, which halves the numbers in a register.
        magnitude = np.uint32(bits[row, j] & _MAGNITUDE)
        if magnitude > largest:
            largest = magnitude
    return largest


@kernel("f32[:,:], u32[:,:], f64[:], f64[:], i64[:]")
def survey(vectors, bits, sums, squares, counts):
    """Add up the components of the finite rows of `vectors` (n, d), and count the other kinds of row.

    `bits` are the same numbers as uint32. `sums` and `squares` (d,) float64 grow by each component and its square;
    `counts` (5,) int64 by the rows that are finite, hold a NaN, hold an infinity but no NaN, and, of the finite ones,
    are all zero or hold a number beyond 1e15.
    """
    i = 0
    while i < vectors.shape[0]:
        # Four rows at a time load and store each sum once; one by one took 0.28 s for 900 million numbers, this 0.16.
        rows = min(4, vectors.shape[0] - i)
        finite = 0
        for row in range(i, i + rows):
            largest = _magnitude(bits, row)
            if largest >= _INFINITY:
                counts[1 if largest > _INFINITY else 2] += 1
                continue
            finite += 1
            if largest == 0:
                counts[3] += 1
            if largest > _HUGE:
                counts[4] += 1
        counts[0] += finite
        if finite == 4:
            for j in range(vectors.shape[1]):
                a = np.float64(vectors[i, j])
                b = np.float64(vectors[i + 1, j])
                c = np.float64(vectors[i + 2, j])
                d = np.float64(vectors[i + 3, j])
                sums[j] = sums[j] + a + b + c + d
                squares[j] = squares[j] + a * a + b * b + c * c + d * d
        elif finite:
            for row in range(i, i + rows):
                if _magnitude(bits, row) < _INFINITY:
                    for j in range(vectors.shape[1]):
                        value = np.float64(vectors[row, j])
                        sums[j] += value
                        squares[j] += value * value
        i += rows
