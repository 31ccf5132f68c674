"""Texts cut into tokens: lower-cased, and split wherever a separator stands, in one pass over their UTF-8.

A byte below 0x80 is looked up in `letters` (256,) uint8: its lower case, or `SEPARATOR`. Of 64 of them together, the
ones in the first of `ranges` (r, 2) uint8, each a first byte and how many, become 0x20 more, and those in the others
are separators. Any other character is decoded (RFC 3629) and looked up in pages of 256 code points: the page of code
point c is ``pages[c >> 8]``, and 0 says that nothing happens to its characters; in page p > 0
``codes[p * 256 + (c & 255)]`` is the code point to write, or `SEPARATES`, or `SPECIAL`. A text with a special
character, or with bytes that are no UTF-8, gives no tokens and is marked for the caller to judge.

Checked by the caller: text i is ``data[starts[i]:stops[i]]`` and lies within `data`; `letters` and `pages` (0x1100,)
are whole, `ranges` say what `letters` says, `codes` is as long as `pages` says, and no code point in it has more bytes
of UTF-8 than the one it is for. `out` has room for the bytes of all texts of the range, `token_starts` and
`token_stops` each for half of them, half of the texts and two more.
"""

import numpy as np

from vecstore.kernels.bits import trailing_zeros
from vecstore.kernels.code import inline
from vecstore.kernels.lanes import BYTES, add_within, load_bytes, store_bytes, within
from vecstore.kernels.machine import kernel
from vecstore.kernels.memory import load8

__all__ = ["SEPARATES", "SEPARATOR", "SPECIAL", "cut_texts"]

SEPARATOR = 0x80
"""What `letters` says of a byte that separates tokens."""

SEPARATES = 0xFFFFFFFF
"""What `codes` says of a character that separates tokens."""

SPECIAL = 0xFFFFFFFE
"""What `codes` says of a character whose lower case is not one code point, or depends on those around it."""

_SEPARATES, _SPECIAL = np.uint32(SEPARATES), np.uint32(SPECIAL)
_NONE, _ONE, _ALL = np.uint64(0), np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)
_HIGH, _TO_LOWER = np.uint8(0x80), np.uint8(0x20)


@inline
def _follows(byte):
    return byte & 0xC0 == 0x80


@inline
def _decode(data, at, end):
    """Return the code point at ``data[at]``, of two bytes or more, and how many bytes it has; 0 bytes for no UTF-8."""
    first = np.uint32(load8(data, at))
    if first < 0xC2 or at + 1 >= end:
        return np.uint32(0), 0
    second = np.uint32(load8(data, at + 1))
    if not _follows(second):
        return np.uint32(0), 0
    if first < 0xE0:
        return (first & np.uint32(0x1F)) << np.uint32(6) | second & np.uint32(0x3F), 2
    if at + 2 >= end:
        return np.uint32(0), 0
    third = np.uint32(load8(data, at + 2))
    if not _follows(third):
        return np.uint32(0), 0
    code = (second & np.uint32(0x3F)) << np.uint32(6) | third & np.uint32(0x3F)
    if first < 0xF0:
        code |= (first & np.uint32(0xF)) << np.uint32(12)
        return code, 3 if code >= 0x800 and not 0xD800 <= code < 0xE000 else 0
    if first >= 0xF5 or at + 3 >= end:
        return np.uint32(0), 0
    fourth = np.uint32(load8(data, at + 3))
    if not _follows(fourth):
        return np.uint32(0), 0
    code = (first & np.uint32(7)) << np.uint32(18) | code << np.uint32(6) | fourth & np.uint32(0x3F)
    return code, 4 if 0x10000 <= code <= 0x10FFFF else 0


@inline
def _encode(code, out, at):
    """Write the UTF-8 of a code point to ``out[at]`` and after; return how many bytes."""
    if code < 0x80:
        out[at] = code
        return 1
    if code < 0x800:
        out[at] = 0xC0 | code >> 6
        out[at + 1] = 0x80 | code & 0x3F
        return 2
    if code < 0x10000:
        out[at] = 0xE0 | code >> 12
        out[at + 1] = 0x80 | code >> 6 & 0x3F
        out[at + 2] = 0x80 | code & 0x3F
        return 3
    out[at] = 0xF0 | code >> 18
    out[at + 1] = 0x80 | code >> 12 & 0x3F
    out[at + 2] = 0x80 | code >> 6 & 0x3F
    out[at + 3] = 0x80 | code & 0x3F
    return 4


@kernel("u8[:], i64[:], i64[:], u8[:], u8[:,:], u16[:], u32[:], i64, i64, u8[:], i64[:], i64[:], i64[:] -> i64")
def cut_texts(data, starts, stops, letters, ranges, pages, codes, start, stop, out, token_starts, token_stops, counts):
    """Cut texts start <= i < stop; token t becomes ``out[token_starts[t]:token_stops[t]]``.

    ``counts[i - start]`` becomes the number of tokens of a text, -1 where it is marked. Returns the number of all.
    """
    # Where words begin and end follows no pattern that a processor foresees, so bytes are not branched on: each of 64
    # gives a bit, and where bits change a token begins or ends; bytes after the text count as separators. Edge e is the
    # start of token e / 2 or, if odd, its end, and is written to the places of both, of which what comes next writes
    # over the wrong one.
    edges = 0
    written = 0
    for i in range(start, stop):
        before = edges
        text = written
        at = starts[i]
        end = stops[i]
        sound = True
        while sound and at < end:
            if at + BYTES <= data.shape[0] and written + BYTES <= out.shape[0]:
                rest = min(end - at, BYTES)
                lanes = load_bytes(data, at)
                inside = _ALL >> np.uint64(BYTES - rest)
                if within(lanes, _HIGH, _HIGH) & inside == _NONE:
                    apart = ~inside
                    for k in range(1, ranges.shape[0]):
                        apart |= within(lanes, ranges[k, 0], ranges[k, 1])
                    store_bytes(add_within(lanes, ranges[0, 0], ranges[0, 1], _TO_LOWER), out, written)
                    kept = ~apart
                    changes = kept ^ (kept << _ONE | np.uint64(edges & 1))
                    while changes != _NONE:
                        place = written + trailing_zeros(changes)
                        token_starts[(edges + 1) >> 1] = place
                        token_stops[edges >> 1] = place
                        edges += 1
                        changes &= changes - _ONE
                    at += rest
                    written += rest
                    continue
            limit = min(at + BYTES, end)
            while at < limit:
                byte = load8(data, at)
                place = written
                if byte < 0x80:
                    at += 1
                    out[written] = letters[byte]
                    separates = letters[byte] == SEPARATOR
                    written += 1
                else:
                    code, size = _decode(data, at, end)
                    at += size
                    page = np.int64(pages[code >> 8])
                    if page:
                        code = codes[page * 256 + np.int64(code & np.uint32(0xFF))]
                    if size == 0 or code == _SPECIAL:
                        sound = False
                        break
                    separates = code == _SEPARATES
                    written += 0 if separates else _encode(code, out, written)
                token_starts[(edges + 1) >> 1] = place
                token_stops[edges >> 1] = place
                edges += 1 if separates == (edges & 1 == 1) else 0
        if sound:
            token_stops[edges >> 1] = written
            edges += edges & 1
            counts[i - start] = (edges - before) >> 1
        else:
            edges = before
            written = text
            counts[i - start] = -1
    return edges >> 1
