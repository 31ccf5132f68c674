"""Keys that lie anywhere in a block of bytes, put end to end.

Checked by the caller: key i is ``block[starts[i]:stops[i]]`` and lies within the block; `data` has room for all of
them, `offsets` for one number more than there are keys.
"""

from vecstore.kernels.machine import kernel
from vecstore.kernels.memory import copy_bytes

__all__ = ["pack_keys"]


@kernel("u8[:], i64[:], i64[:], u8[:], i64[:]")
def pack_keys(block, starts, stops, data, offsets):
    """Copy the keys ``block[starts[i]:stops[i]]`` end to end into `data`, and their places into `offsets`."""
    used = 0
    offsets[0] = 0
    for i in range(starts.shape[0]):
        copy_bytes(data, used, block, starts[i], stops[i] - starts[i])
        used += stops[i] - starts[i]
        offsets[i + 1] = used
