"""Tokens counted in an open-addressing table that holds those seen so far.

The table is that of ``lookup``, and the memo that of ``recalling``: `slots` with keys as `key_data` and `key_offsets`,
and a row of `tallies` (c, 4) int64 for each key: how often it was seen, in how many documents, in which document last
and in which first. Documents have ascending numbers; the tokens of document d of a batch are
``bounds[d] <= i < bounds[d + 1]``.

Checked by the caller: the ranges of the batch lie inside its `data`, bounds ascend within the batch, the number of
slots is a power of two and at least twice the rows of `tallies`; `key_offsets` has room for as many and one more.
"""

import numpy as np

from vecstore.kernels.code import inline
from vecstore.kernels.lookup import MAX_PROBE, hash_key, is_key, probe
from vecstore.kernels.machine import kernel
from vecstore.kernels.memory import STACK_WORDS, copy_bytes, prefetch, stack_words
from vecstore.kernels.recalling import memorize, recall

__all__ = ["COUNT", "DOCUMENTS", "FIRST", "LAST", "count_keys"]

COUNT, DOCUMENTS, LAST, FIRST = range(4)
"""Columns of `tallies`."""

_BLOCK = 256
assert 3 * _BLOCK <= STACK_WORDS
_32 = np.uint64(32)


@inline
def _tally(tallies, row, document):
    tallies[row, COUNT] += 1
    tallies[row, DOCUMENTS] += 0 if tallies[row, LAST] == document else 1
    tallies[row, LAST] = document


@kernel("u8[:], i64[:], i64[:], i64[:], i64, i64, u64, u64[:], u8[:], i64[:], i64[:,:], u64[:,:], i64[:] -> i64")
def count_keys(data, starts, stops, bounds, first, begin, seed, slots, key_data, key_offsets, tallies, memo, used):
    """Count the tokens of a batch from token `begin` on, of documents that are numbered from `first`.

    ``used[0]`` is the number of keys, and grows. Returns the token at which it stopped: the end of the batch, or a new
    token for which there is no room, or for which the probe was too long.
    """
    mask = np.uint64(slots.shape[0] - 1)
    limit = min(MAX_PROBE, slots.shape[0])
    words = stack_words()  # of each token its row; of each that the memo does not know its place, its hash
    keys = used[0]
    end = starts.shape[0]
    stopped = end
    counted = found = 0  # documents
    for base in range(begin, end, _BLOCK):
        count = min(_BLOCK, end - base)
        missed = 0
        for k in range(count):
            known, row = recall(data, starts[base + k], stops[base + k], memo)
            words[k] = row
            words[_BLOCK + missed] = k
            missed += 0 if known else 1
            prefetch(tallies, row)
        for m in range(missed):
            i = base + words[_BLOCK + m]
            value = hash_key(data, starts[i], stops[i], seed)
            words[2 * _BLOCK + m] = np.int64(value)
            prefetch(slots, np.int64(value & mask))
        for m in range(missed):
            i = base + words[_BLOCK + m]
            low = starts[i]
            high = stops[i]
            value = np.uint64(words[2 * _BLOCK + m])
            row, distance = probe(slots, value, 0)
            while row != -1 and not is_key(data, low, high, row, key_data, key_offsets):
                row, distance = probe(slots, value, distance + 1)
            if row == -1:
                room = keys < tallies.shape[0] and key_offsets[keys] + high - low <= key_data.shape[0]
                if not room or distance == limit:
                    stopped = i
                    count = i - base
                    break
                while bounds[found + 1] <= i:
                    found += 1
                row = keys
                keys += 1
                copy_bytes(key_data, key_offsets[row], data, low, high - low)
                key_offsets[keys] = key_offsets[row] + high - low
                slots[np.int64((value + np.uint64(distance)) & mask)] = (value >> _32 << _32) | np.uint64(keys)
                tallies[row, COUNT] = 0
                tallies[row, DOCUMENTS] = 0
                tallies[row, LAST] = -1
                tallies[row, FIRST] = first + found
            words[i - base] = row
            memorize(data, low, high, row, memo)
        for k in range(count):
            while bounds[counted + 1] <= base + k:
                counted += 1
            _tally(tallies, words[k], first + counted)
        if stopped < end:
            break
    used[0] = keys
    return stopped
