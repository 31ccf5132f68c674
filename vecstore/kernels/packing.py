"""Keys that lie anywhere, put end to end: in a block of bytes, or in Python's str.

Checked by the caller of `pack_keys`: key i is ``block[starts[i]:stops[i]]`` and lies within the block. Of both: `data`
has room for all keys, `offsets` for one number more than there are keys.
"""

from vecstore.kernels.machine import kernel
from vecstore.kernels.memory import copy_bytes, copy_from
from vecstore.kernels.objects import text_of, tuple_item

__all__ = ["locate_texts", "pack_keys", "pack_texts"]


@kernel("u8[:], i64[:], i64[:], u8[:], i64[:]")
def pack_keys(block, starts, stops, data, offsets):
    """Copy the keys ``block[starts[i]:stops[i]]`` end to end into `data`, and their places into `offsets`."""
    used = 0
    offsets[0] = 0
    for i in range(starts.shape[0]):
        copy_bytes(data, used, block, starts[i], stops[i] - starts[i])
        used += stops[i] - starts[i]
        offsets[i + 1] = used


@kernel("object, i64[:], i64[:] -> i64")
def locate_texts(keys, addresses, offsets):
    """Find the UTF-8 of the n str or bytes in a tuple: `addresses` (n,), and where each goes end to end (n + 1,).

    Returns the number of keys before the first that has no UTF-8.
    """
    used = 0
    offsets[0] = 0
    for i in range(addresses.shape[0]):
        address, size = text_of(tuple_item(keys, i))
        if address == 0:
            return i
        addresses[i] = address
        used += size
        offsets[i + 1] = used
    return addresses.shape[0]


@kernel("i64[:], i64[:], u8[:]")
def pack_texts(addresses, offsets, data):
    """Copy what `locate_texts` found into `data`; whoever calls keeps the keys alive."""
    for i in range(addresses.shape[0]):
        copy_from(data, offsets[i], addresses[i], offsets[i + 1] - offsets[i])
