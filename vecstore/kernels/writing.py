"""Records and lines of files of word vectors, made in a buffer; numbers as the shortest text that gives them back.

Checked by the caller: key i is ``data[starts[i]:stops[i]]`` and lies within `data`; rows start to stop are rows of the
keys and of the vectors; `out` has room, `NUMBER_BYTES` for each number of a line.

The digits of a number are Schubfach's (Raffaello Giulietti, "The Schubfach way to render doubles", 2020): of the
decimals that are nearer to it than to any other float32 one of the shortest, and of these the nearest. Their
layout is `str`'s of a NumPy float32, which is also gensim's: 0.5, -2.0, 1e-05, 1.5e+06, nan.
"""

import numpy as np

from vecstore.kernels.code import inline
from vecstore.kernels.machine import kernel
from vecstore.kernels.memory import copy_bytes

__all__ = ["NUMBER_BYTES", "POWERS", "find_key_with", "write_lines", "write_records"]

NUMBER_BYTES = 16
"""Of the longest number, -1.17549435e-38, and a space."""

_LEAST = -31  # the power of ten in POWERS[0]


def _power(k: int) -> int:
    """Return 10**k times the power of two that makes it 64 bits long, rounded up."""
    numerator, denominator = (10**k, 1) if k >= 0 else (1, 10**-k)
    shift = 63 - numerator.bit_length() + denominator.bit_length()  # or one less than it takes
    numerator, denominator = numerator << max(shift, 0), denominator << max(-shift, 0)
    if numerator < denominator << 63:
        numerator <<= 1
    return -(-numerator // denominator)


POWERS = np.array([_power(k) for k in range(_LEAST, 46)], np.uint64)
"""What `write_lines` takes as `powers`."""
POWERS.flags.writeable = False

_SPACE, _NEWLINE, _MINUS, _PLUS, _POINT, _ZERO = 32, 10, 45, 43, 46, 48
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_SMALLEST, _LARGEST = 1e-4, 1e6  # numbers from the one up to the other are written without an exponent


@inline
def _times(power, factor):
    """Return ``power * factor >> 64``, its lowest bit set if a later one is ("rounded to odd")."""
    factor = np.uint64(factor)
    high = (power >> _HALF) * factor + ((power & _LOW) * factor >> _HALF)
    return np.int64(high >> _HALF) | np.int64((high & _LOW) > np.uint64(1))


@inline
def _shortest(bits, powers):
    """Return digits and exponent, ``digits * 10**exponent``, of a positive finite float32 with these bits."""
    fraction = bits & 0x7FFFFF
    biased = bits >> 23
    c = fraction | 0x800000 if biased else fraction
    q = (biased if biased else 1) - 150
    if -24 < q <= 0 and c & ((1 << -q) - 1) == 0:
        return c >> -q, 0
    odd = c & 1
    closer = 1 if fraction == 0 and biased > 1 else 0  # the float32 below is half as far as that above
    k = (q * 1262611 - 524031 * closer) >> 22  # floor(log10(2**q)), or of 3/4 of it
    h = q + ((-k * 1741647) >> 19) + 1
    power = powers[-k - _LEAST]
    lower = _times(power, (4 * c - 2 + closer) << h) + odd
    exact = _times(power, (4 * c) << h)
    upper = _times(power, (4 * c + 2) << h) - odd
    s = exact >> 2
    if s >= 10:
        tens = s // 10
        below = lower <= 40 * tens
        above = 40 * tens + 40 <= upper
        if below != above:
            return tens + above, k + 1
    below = lower <= 4 * s
    above = 4 * s + 4 <= upper
    if below != above:
        return s + above, k
    middle = 4 * s + 2
    return s + (exact > middle or (exact == middle and s & 1 == 1)), k


@inline
def _put(text, out, at):
    """Write bytes, the first in the lowest 8 bits of `text`; return where they end."""
    while text:
        out[at] = text & 0xFF
        text >>= 8
        at += 1
    return at


@inline
def _put_digits(digits, count, out, at):
    """Write `count` decimal digits, zeros in front; return where they end."""
    for place in range(at + count - 1, at - 1, -1):
        out[place] = _ZERO + digits % 10
        digits //= 10
    return at + count


@inline
def _put_number(value, bits, powers, out, at):
    """Write a float32 that has these bits; return where it ends."""
    magnitude = bits & 0x7FFFFFFF
    if magnitude > 0x7F800000:
        return _put(0x6E616E, out, at)  # nan
    if bits >> 31:
        out[at] = _MINUS
        at += 1
    if magnitude == 0x7F800000:
        return _put(0x666E69, out, at)  # inf
    if magnitude == 0:
        return _put(0x302E30, out, at)  # 0.0
    digits, exponent = _shortest(magnitude, powers)
    while digits % 10 == 0:
        digits //= 10
        exponent += 1
    count = 1
    bound = 10
    while digits >= bound:
        bound *= 10
        count += 1
    whole = count + exponent  # digits before the point
    if _SMALLEST <= abs(np.float64(value)) < _LARGEST:
        if whole <= 0:
            at = _put(0x2E30, out, at)  # 0.
            at = _put_digits(0, -whole, out, at)
            return _put_digits(digits, count, out, at)
        if exponent >= 0:
            at = _put_digits(digits, count, out, at)
            at = _put_digits(0, exponent, out, at)
            return _put(0x302E, out, at)  # .0
        end = _put_digits(digits, count, out, at + 1)
        for place in range(at, at + whole):
            out[place] = out[place + 1]
        out[at + whole] = _POINT
        return end
    end = _put_digits(digits, count, out, at + 1)
    out[at] = out[at + 1]
    out[at + 1] = _POINT
    at = end if count > 1 else at + 1
    out[at] = 101  # e
    out[at + 1] = _MINUS if whole < 1 else _PLUS
    return _put_digits(abs(whole - 1), 2, out, at + 2)


@kernel("u8[:], i64[:], i64[:], f32[:,:], u32[:,:], u64[:], i64, i64, u8[:] -> i64")
def write_lines(data, starts, stops, vectors, bits, powers, start, stop, out):
    """Write rows start <= i < stop as lines: key, then a space and a number d times, newline; return the bytes.

    `bits` are the numbers of `vectors` as uint32, `powers` are `POWERS`.
    """
    at = 0
    for i in range(start, stop):
        size = stops[i] - starts[i]
        copy_bytes(out, at, data, starts[i], size)
        at += size
        for j in range(vectors.shape[1]):
            out[at] = _SPACE
            at = _put_number(vectors[i, j], np.int64(bits[i, j]), powers, out, at + 1)
        out[at] = _NEWLINE
        at += 1
    return at


@kernel("u8[:], i64[:], i64[:], u8[:], i64, i64, i64, i64, i64, u8[:] -> i64")
def write_records(data, starts, stops, rows, width, space, newline, start, stop, out):
    """Write rows start <= i < stop: key, a space if `space`, `width` bytes of `rows`, a newline if `newline`.

    Returns the bytes.
    """
    at = 0
    for i in range(start, stop):
        size = stops[i] - starts[i]
        copy_bytes(out, at, data, starts[i], size)
        at += size
        if space:
            out[at] = _SPACE
            at += 1
        copy_bytes(out, at, rows, i * width, width)
        at += width
        if newline:
            out[at] = _NEWLINE
            at += 1
    return at


@kernel("u8[:], i64[:], i64[:], i64, i64, i64 -> i64")
def find_key_with(data, starts, stops, one, other, start):
    """Return the first row from `start` on whose key holds the byte `one` or `other`; the number of keys if none."""
    for i in range(start, starts.shape[0]):
        for at in range(starts[i], stops[i]):
            if data[at] == one or data[at] == other:
                return i
    return starts.shape[0]
