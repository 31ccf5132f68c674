"""Hashing keys, and finding them in an open-addressing table.

The hash is XXH64 (Yann Collet, https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md). The table
is an array of uint64 slots, its size a power of two. A slot is 0 when empty; otherwise its upper 32 bits
are the upper 32 bits of the key's hash (the tag) and its lower 32 bits are the key's row + 1. A key's first
slot is the lower bits of its hash; a taken slot sends it to the next, at most `MAX_PROBE` slots in all.

A batch of keys is `data` (b,) uint8 with `starts` and `stops` (n,) int64: key i is
``data[starts[i]:stops[i]]``. The keys of a table are `data` (b,) uint8 and `offsets` (v + 1,) int64.

Checked by the caller: the ranges of the batch lie inside its `data`; the number of slots is a power of two;
`rows` is as long as the batch. Checked here, because they come from a file: each row and offset read from
`slots` and `offsets`, and the length of each probe.

Work goes in stages over blocks of keys, so that the cache misses of a block overlap: one stage asks for the
memory that the next one reads.
"""

import numpy as np

from vecstore.kernels.code import inline
from vecstore.kernels.machine import kernel
from vecstore.kernels.memory import STACK_WORDS, load8, load32, load64, prefetch, stack_words

__all__ = [
    "MAX_PROBE",
    "count_taken",
    "find_row",
    "find_rows",
    "hash_key",
    "hash_keys",
    "insert_rows",
    "is_key",
    "probe",
]

MAX_PROBE = 1024
"""Slots that a key may lie from its first slot; part of the store format."""

_BLOCK = 256
assert 3 * _BLOCK <= STACK_WORDS
_P1 = np.uint64(0x9E3779B185EBCA87)
_P2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P3 = np.uint64(0x165667B19E3779F9)
_P4 = np.uint64(0x85EBCA77C2B2AE63)
_P5 = np.uint64(0x27D4EB2F165667C5)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


@inline
def _rotate(word, bits):
    return (word << np.uint64(bits)) | (word >> np.uint64(64 - bits))


@inline
def _round(lane, word):
    return _rotate(lane + word * _P2, 31) * _P1


@inline
def _merge(value, lane):
    return (value ^ _round(np.uint64(0), lane)) * _P1 + _P4


@inline
def _tail(data, start, stop, count):
    """Return the last `count` bytes, fewer than 8, of ``data[start:stop]`` as one word; no byte outside is read."""
    if stop - start >= 8:
        return load64(data, stop - 8) >> np.uint64(56 - 8 * count) >> np.uint64(8)
    if count >= 4:
        first = np.uint64(load32(data, start))
        return first | np.uint64(load32(data, stop - 4)) >> np.uint64(64 - 8 * count) << _32
    word = np.uint64(0)
    for k in range(count):
        word |= np.uint64(load8(data, start + k)) << np.uint64(8 * k)
    return word


@inline
def hash_key(data, start, stop, seed):
    """Return the XXH64 of ``data[start:stop]``."""
    at = start
    if stop - start >= 32:
        a = seed + _P1 + _P2
        b = seed + _P2
        c = seed
        d = seed - _P1
        while at + 32 <= stop:
            a = _round(a, load64(data, at))
            b = _round(b, load64(data, at + 8))
            c = _round(c, load64(data, at + 16))
            d = _round(d, load64(data, at + 24))
            at += 32
        value = _rotate(a, 1) + _rotate(b, 7) + _rotate(c, 12) + _rotate(d, 18)
        value = _merge(_merge(_merge(_merge(value, a), b), c), d)
    else:
        value = seed + _P5
    value += np.uint64(stop - start)
    while at + 8 <= stop:
        value = _rotate(value ^ _round(np.uint64(0), load64(data, at)), 27) * _P1 + _P4
        at += 8
    # The last 0 to 7 bytes. Lengths of keys follow no pattern, so each step is taken, and its result used or not: the
    # processor goes on to the next key instead of guessing.
    rest = stop - at
    tail = _tail(data, start, stop, rest)
    stepped = _rotate(value ^ ((tail & _LOW) * _P1), 23) * _P2 + _P3
    value = stepped if rest >= 4 else value
    tail = tail >> _32 if rest >= 4 else tail
    for k in range(3):
        stepped = _rotate(value ^ ((tail >> np.uint64(8 * k) & np.uint64(0xFF)) * _P5), 11) * _P1
        value = stepped if k < rest & 3 else value
    value = (value ^ (value >> np.uint64(33))) * _P2
    value = (value ^ (value >> np.uint64(29))) * _P3
    return value ^ (value >> _32)


@inline
def _equal(a, start, b, other, length):
    """Say whether two runs of bytes are equal: words from the front, and one that ends where they end.

    Lengths of keys follow no pattern, and a branch that the processor foresees wrongly costs as much as eight loads.
    """
    if length >= 8:
        last = length - 8
        differing = load64(a, start) ^ load64(b, other) | load64(a, start + last) ^ load64(b, other + last)
        at = 8
        while at < last:
            differing |= load64(a, start + at) ^ load64(b, other + at)
            at += 8
        return differing == 0
    if length >= 4:
        last = length - 4
        return load32(a, start) == load32(b, other) and load32(a, start + last) == load32(b, other + last)
    unequal = np.uint8(0)
    for at in range(length):
        unequal |= load8(a, start + at) ^ load8(b, other + at)
    return unequal == 0


@inline
def probe(slots, value, distance):
    """Return (row, distance) of the next slot with this hash's tag, or (-1, distance) at the end."""
    mask = np.uint64(slots.shape[0] - 1)
    tag = value >> _32
    limit = min(MAX_PROBE, slots.shape[0])
    while distance < limit:
        slot = slots[np.int64((value + np.uint64(distance)) & mask)]
        if slot == 0:
            break
        if (slot >> _32) == tag:
            return np.int64(slot & _LOW) - 1, distance
        distance += 1
    return np.int64(-1), distance


@inline
def is_key(data, start, stop, row, key_data, key_offsets):
    """Say whether row `row` of the table holds ``data[start:stop]``; a corrupt row or offset does not."""
    if row < 0 or row + 1 >= key_offsets.shape[0]:
        return False
    low = key_offsets[row]
    high = key_offsets[row + 1]
    if not 0 <= low <= high <= key_data.shape[0] or high - low != stop - start:
        return False
    return _equal(data, start, key_data, low, stop - start)


@kernel("u8[:], i64[:], i64[:], u64, i64, i64, u64[:]")
def hash_keys(data, starts, stops, seed, start, stop, hashes):
    """Write the XXH64 of keys start <= i < stop to `hashes` (n,) uint64."""
    for i in range(start, stop):
        hashes[i] = hash_key(data, starts[i], stops[i], seed)


@kernel("u8[:], i64[:], i64[:], u64[:], u8[:], i64[:], u64, i64, i64, i64[:]")
def find_rows(data, starts, stops, slots, key_data, key_offsets, seed, start, stop, rows):
    """Write the row of keys start <= i < stop to `rows` (n,) int64; -1 where the table has no such key."""
    mask = np.uint64(slots.shape[0] - 1)
    words = stack_words()  # of each key in the block: hash, candidate row, distance
    for base in range(start, stop, _BLOCK):
        count = min(_BLOCK, stop - base)
        for k in range(count):
            value = hash_key(data, starts[base + k], stops[base + k], seed)
            words[k] = np.int64(value)
            prefetch(slots, np.int64(value & mask))
        for k in range(count):
            row, distance = probe(slots, np.uint64(words[k]), 0)
            words[_BLOCK + k] = row
            words[2 * _BLOCK + k] = distance
            prefetch(key_offsets, max(row, 0))
        for k in range(count):
            row = words[_BLOCK + k]
            if 0 <= row < key_offsets.shape[0]:
                prefetch(key_data, key_offsets[row])
        for k in range(count):
            row = words[_BLOCK + k]
            distance = words[2 * _BLOCK + k]
            low = starts[base + k]
            high = stops[base + k]
            while row != -1 and not is_key(data, low, high, row, key_data, key_offsets):
                row, distance = probe(slots, np.uint64(words[k]), distance + 1)
            rows[base + k] = row


@kernel("key, u64[:], u8[:], i64[:], u64 -> i64")
def find_row(key, slots, key_data, key_offsets, seed):
    """Return the row of one key, -1 where the table has no such key."""
    value = hash_key(key, 0, key.shape[0], seed)
    row, distance = probe(slots, value, 0)
    while row != -1 and not is_key(key, 0, key.shape[0], row, key_data, key_offsets):
        row, distance = probe(slots, value, distance + 1)
    return row


@kernel("u8[:], i64[:], u64, i64, i64, u64[:], i64[:] -> i64")
def insert_rows(key_data, key_offsets, seed, start, stop, slots, earlier):
    """Put rows start <= i < stop into `slots`; return the number inserted, or -1 if a probe is too long.

    ``earlier[i - start]`` becomes -1, or the row that already holds the same key; that row stays.
    """
    mask = np.uint64(slots.shape[0] - 1)
    limit = min(MAX_PROBE, slots.shape[0])
    words = stack_words()  # the hash of each key in the block
    inserted = 0
    for base in range(start, stop, _BLOCK):
        count = min(_BLOCK, stop - base)
        for k in range(count):
            row = base + k
            value = hash_key(key_data, key_offsets[row], key_offsets[row + 1], seed)
            words[k] = np.int64(value)
            prefetch(slots, np.int64(value & mask))
        for k in range(count):
            row = base + k
            low = key_offsets[row]
            high = key_offsets[row + 1]
            value = np.uint64(words[k])
            found, distance = probe(slots, value, 0)
            while found != -1 and not is_key(key_data, low, high, found, key_data, key_offsets):
                found, distance = probe(slots, value, distance + 1)
            earlier[row - start] = found
            if found == -1:
                if distance == limit:
                    return np.int64(-1)
                slots[np.int64((value + np.uint64(distance)) & mask)] = (value >> _32 << _32) | np.uint64(row + 1)
                inserted += 1
    return np.int64(inserted)


@kernel("u64[:] -> i64")
def count_taken(slots):
    """Return how many slots are not empty."""
    taken = 0
    for i in range(slots.shape[0]):
        if slots[i] != 0:
            taken += 1
    return taken
