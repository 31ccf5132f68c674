"""Keys that lie anywhere, put end to end as UTF-8: in a block of bytes, in Python's str, in rows of code points.

Checked by the caller of `pack_keys`: key i is ``block[starts[i]:stops[i]]`` and lies within the block. Of all:
`offsets` has room for one number more than there are keys, and `data` for all keys (but see `pack_texts`).
"""

import numpy as np

from vecstore.kernels.code import inline
from vecstore.kernels.machine import kernel
from vecstore.kernels.memory import copy_bytes, copy_from
from vecstore.kernels.objects import list_item, list_length, text_of, tuple_item

__all__ = ["measure_codes", "pack_codes", "pack_keys", "pack_texts"]


@kernel("u8[:], i64[:], i64[:], u8[:], i64[:]")
def pack_keys(block, starts, stops, data, offsets):
    """Copy the keys ``block[starts[i]:stops[i]]`` end to end into `data`, and their places into `offsets`."""
    used = 0
    offsets[0] = 0
    for i in range(starts.shape[0]):
        copy_bytes(data, used, block, starts[i], stops[i] - starts[i])
        used += stops[i] - starts[i]
        offsets[i + 1] = used


@kernel("object, i64, i64[:], u8[:] -> i64")
def pack_texts(keys, is_list, offsets, data):
    """Copy the UTF-8 of the n str or bytes of a list or tuple end to end into `data`, and its places into `offsets`.

    Returns the number of keys before the first that has no UTF-8, or 0 if a list has not n items any more. What has no
    room in `data` is measured but not copied: if ``offsets[n]`` is more than the length of `data`, call again.
    """
    n = offsets.shape[0] - 1
    offsets[0] = 0
    if is_list and list_length(keys) != n:
        return 0
    used = 0
    for i in range(n):
        # Whoever holds the GIL holds the list: nobody changes it, and no key dies, before this returns.
        address, size = text_of(list_item(keys, i) if is_list else tuple_item(keys, i))
        if address == 0:
            return i
        if used + size <= data.shape[0]:
            copy_from(data, used, address, size)
        used += size
        offsets[i + 1] = used
    return n


@inline
def _length(codes, row):
    """Return the number of code points in a row, which zeros fill up, as in an array of NumPy."""
    width = np.int64(codes.shape[1])
    length = np.int64(0)
    while length < width and codes[row, length]:
        length += 1
    rest = np.uint32(0)
    for j in range(length, width):
        rest |= codes[row, j]
    if rest:  # U+0000 within the key
        length = width
        while codes[row, length - 1] == 0:
            length -= 1
    return length


@kernel("u32[:,:], i64[:] -> i64")
def measure_codes(codes, offsets):
    """Write where the UTF-8 of each row of code points goes, end to end, to `offsets` (n + 1,).

    Returns the number of rows before the first with a code point that has no UTF-8.
    """
    used = 0
    offsets[0] = 0
    for i in range(codes.shape[0]):
        for j in range(_length(codes, i)):
            code = codes[i, j]
            if 0xD800 <= code < 0xE000 or code > 0x10FFFF:
                return i
            used += 1 + (code >= 0x80) + (code >= 0x800) + (code >= 0x10000)
        offsets[i + 1] = used
    return codes.shape[0]


@kernel("u32[:,:], u8[:]")
def pack_codes(codes, data):
    """Write the UTF-8 of all rows of code points to `data`, which `measure_codes` has measured (RFC 3629)."""
    at = 0
    for i in range(codes.shape[0]):
        for j in range(_length(codes, i)):
            code = codes[i, j]
            if code < 0x80:
                data[at] = code
                at += 1
                continue
            if code < 0x800:
                data[at] = 0xC0 | code >> 6
                at += 1
            else:
                if code < 0x10000:
                    data[at] = 0xE0 | code >> 12
                    at += 1
                else:
                    data[at] = 0xF0 | code >> 18
                    data[at + 1] = 0x80 | code >> 12 & 0x3F
                    at += 2
                data[at] = 0x80 | code >> 6 & 0x3F
                at += 1
            data[at] = 0x80 | code & 0x3F
            at += 1
