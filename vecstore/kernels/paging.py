"""Asking the system for the pages of a mapped file before they are touched. POSIX alone.

A page that is not in memory is read when it is touched, and whoever touches it waits; asked for ahead, many are read
at once (``mincore`` and ``madvise``, https://man7.org/linux/man-pages/man2/madvise.2.html).

Checked by the caller: row i of the matrix lies at ``address + i * width``, and `rows` are its rows or -1; those of
`ask_for_rows` ascend, without -1. `page` is the size of a page in bytes.
"""

from vecstore.kernels.machine import kernel
from vecstore.kernels.system import advise_needed, is_in_memory

__all__ = ["ask_for_rows", "count_absent"]

_GAP_PAGES = 4  # that are read as well, rather than asking twice


@kernel("i64, i64, i64[:], i64, i64 -> i64")
def count_absent(address, width, rows, step, page):
    """Return of how many of every `step`-th row the first page is not in memory."""
    absent = 0
    i = 0
    while i < rows.shape[0]:
        if rows[i] >= 0 and not is_in_memory((address + rows[i] * width) // page * page):
            absent += 1
        i += step
    return absent


@kernel("i64, i64, i64[:], i64, i64, i64")
def ask_for_rows(address, width, rows, page, start, stop):
    """Ask for the pages of rows start <= i < stop, neighbours in one piece."""
    low = 0
    high = 0
    for i in range(start, stop):
        begin = (address + rows[i] * width) // page * page
        if begin > high + _GAP_PAGES * page:
            if high > low:
                advise_needed(low, high - low)
            low = begin
        high = address + (rows[i] + 1) * width
    if high > low:
        advise_needed(low, high - low)
