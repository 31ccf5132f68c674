"""Ids of tokens, document after document: those that stay, and as a matrix with one row a document.

Checked by the caller: rows are at least -1 and below ``len(ids_of) - 1``; the tokens of document d are
``bounds[d] <= i < bounds[d + 1]``, and its ids ``offsets[d] <= i < offsets[d + 1]``; `out` has a row for each document,
long enough for its ids.
"""

from vecstore.kernels.machine import kernel

__all__ = ["keep_ids", "pad_ids"]


@kernel("i64[:], i64[:], i32[:], i64, i64, i32[:], i64[:]")
def keep_ids(rows, bounds, ids_of, most, from_end, ids, offsets):
    """Write the ids ``ids_of[rows[i]]`` that are not negative end to end to `ids`, and where each document's lie.

    Row -1 has the last of `ids_of`. Of each document at most `most` ids stay: its last if `from_end` is 1, else its
    first.
    """
    other = ids_of.shape[0] - 1
    kept = 0
    offsets[0] = 0
    for d in range(bounds.shape[0] - 1):
        first = kept
        for i in range(bounds[d], bounds[d + 1]):
            row = rows[i]
            ids[kept] = ids_of[row if row >= 0 else other]
            kept += 1 if ids[kept] >= 0 else 0  # no branch: which tokens have an id follows no pattern
        if kept - first > most:
            if from_end:
                for k in range(most):
                    ids[first + k] = ids[kept - most + k]
            kept = first + most
        offsets[d + 1] = kept


@kernel("i32[:], i64[:], i64, i64, i64, i64, i32[:,:]")
def pad_ids(ids, offsets, value, at_start, start, stop, out):
    """Write the ids of documents start <= d < stop to their rows of `out`, filled up with `value` before or after."""
    width = out.shape[1]
    for d in range(start, stop):
        low = offsets[d]
        length = offsets[d + 1] - low
        gap = width - length
        before = gap if at_start else 0
        for k in range(before):
            out[d, k] = value
        for k in range(length):
            out[d, before + k] = ids[low + k]
        for k in range(before + length, width):
            out[d, k] = value
