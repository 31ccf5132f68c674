r"""Lines of text: where they end, and the key and the numbers in each.

A line is a key, then numbers, separated by runs of spaces and tabs; blanks at its end and a carriage return there are
no part of it. A number is a decimal as C writes it. Lines that are anything else, and the few numbers that need more
care than a multiplication, are marked for the caller to judge.

Eight digits are read at once (D. Lemire, "Number Parsing at a Gigabyte per Second", 2021). Digits and power of
ten make a float64 with an error below 2**-51 of it; where everything within 2**-50 of it is one float32, that is the
answer, and where it is not (once in some hundred million numbers) the number is marked.

Checked by the caller: positions lie in `block`, which goes on for 8 bytes after the last; lines ascend.
"""

import numpy as np

from vecstore.kernels.bits import trailing_zeros
from vecstore.kernels.code import inline
from vecstore.kernels.machine import kernel
from vecstore.kernels.memory import load8, load64

__all__ = ["MAX_NUMBERS_IN_KEY", "POWERS", "find_lines", "parse_lines"]

POWERS = np.array([float(f"1e{exponent}") for exponent in range(-80, 61)])
"""Powers of ten for `parse_lines`; numbers beyond them are marked."""

MAX_NUMBERS_IN_KEY = 16
"""A key with more numbers in it is two lines that lost the newline between them."""

_ONE_POWER = 80  # where in POWERS the 1 stands
_MOST_POWER = 60
_MOST_DIGITS = 19  # they fit 64 bits
_SPACE, _TAB, _NEWLINE, _RETURN = 32, 9, 10, 13
_PLUS, _MINUS, _POINT, _EXPONENT, _CASE = 43, 45, 46, 101, 32
_LETTER_I, _LETTER_N = 105, 110
_BELOW, _ABOVE = 1 - 2.0**-50, 1 + 2.0**-50

_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_EIGHT = np.uint64(8)
_SIXTEEN = np.uint64(16)
_THIRTY_TWO = np.uint64(32)
_NEWLINES = np.uint64(0x0A0A0A0A0A0A0A0A)
_DIGITS = np.uint64(0x3030303030303030)
_PAST_NINE = np.uint64(0x7676767676767676)
_HIGH = np.uint64(0x8080808080808080)
_LOW = np.uint64(0x7F7F7F7F7F7F7F7F)
_PAIRS, _PAIR = np.uint64(0x00FF00FF00FF00FF), np.uint64(10 * (1 << 8) + 1)
_FOURS, _FOUR = np.uint64(0x0000FFFF0000FFFF), np.uint64(100 * (1 << 16) + 1)
_EIGHTS = np.uint64(10000 * (1 << 32) + 1)
_TEN = np.array([10**n for n in range(9)], np.uint64)


@kernel("u8[:], i64, i64, i64[:] -> i64")
def find_lines(block, start, stop, ends):
    """Write the places of the newlines in ``block[start:stop]`` to `ends`, as many as it takes; return how many."""
    found = 0
    at = start
    while at < stop and found < ends.shape[0]:
        word = load64(block, at) ^ _NEWLINES
        marks = ~(((word & _LOW) + _LOW) | word | _LOW)
        while marks != _ZERO:
            place = at + (trailing_zeros(marks) >> 3)
            if place >= stop or found == ends.shape[0]:
                return found
            ends[found] = place
            found += 1
            marks &= marks - _ONE
        at += 8
    return found


@kernel("u8[:], i64[:], i64[:], i64, i64, f64[:], i64[:], i64[:], u8[:], f32[:,:]")
def parse_lines(block, starts, ends, start, stop, powers, key_starts, key_stops, marked, vectors):
    """Parse the lines ``block[starts[i]:ends[i]]`` for start <= i < stop.

    Each gives its key ``block[key_starts[i]:key_stops[i]]`` and its numbers ``vectors[i]``, or ``marked[i]`` = 1. A
    key may hold blanks: the numbers are the last fields.
    """
    dim = vectors.shape[1]
    for i in range(start, stop):
        first, end = starts[i], ends[i]
        if end > first and load8(block, end - 1) == _RETURN:
            end -= 1
        while end > first and _is_blank(load8(block, end - 1)):
            end -= 1
        split = first
        while split < end and not _is_blank(load8(block, split)):
            split += 1
        sound = _parse_numbers(block, split, end, powers, vectors, i)
        if not sound:
            last = _before_fields(block, first, end, dim)
            if last > split and _count_numbers(block, first, last) <= min(MAX_NUMBERS_IN_KEY, max(dim - 2, 3)):
                split = last
                sound = _parse_numbers(block, split, end, powers, vectors, i)
        key_starts[i] = first
        key_stops[i] = split
        marked[i] = 0 if sound else 1


@inline
def _is_blank(byte):
    return byte in (_SPACE, _TAB)


@inline
def _is_digit(byte):
    return 48 <= byte <= 57


@inline
def _before_fields(block, first, end, count):
    """Return where the blanks before the last `count` fields of a line begin; -1 if there are no such fields."""
    at = end
    for _ in range(count):
        while at > first and not _is_blank(load8(block, at - 1)):
            at -= 1
        if at == first:
            return -1
        while at > first and _is_blank(load8(block, at - 1)):
            at -= 1
    return at


@inline
def _count_numbers(block, first, last):
    """Return how many fields of a key, but its first, begin like a number, words with "i" and "n" among them."""
    count = 0
    for at in range(first + 1, last):
        if _is_blank(load8(block, at - 1)):
            byte = load8(block, at)
            if byte in (_MINUS, _PLUS, _POINT):
                byte = load8(block, at + 1)
            if _is_digit(byte) or byte | _CASE in (_LETTER_I, _LETTER_N):  # inf and nan, too
                count += 1
    return count


@inline
def _parse_numbers(block, at, end, powers, vectors, row):
    """Parse the fields of ``block[at:end]`` into a row; return whether they are as many numbers."""
    for j in range(vectors.shape[1]):
        if at >= end or not _is_blank(load8(block, at)):
            return False
        while at < end and _is_blank(load8(block, at)):
            at += 1
        negative = load8(block, at) == _MINUS
        at += 1 if negative else 0  # no branch: signs cannot be predicted
        if not negative and load8(block, at) == _PLUS:
            at += 1
        if load8(block, at + 1) == _POINT and _is_digit(load8(block, at)):
            whole = np.uint64(load8(block, at) - 48)
            digits = 1
            at += 1
        else:
            whole, digits, at = _parse_digits(block, at, _ZERO)
        seen = digits
        if whole == _ZERO:
            digits = 0
        scale = 0
        if load8(block, at) == _POINT:
            whole, decimals, at = _parse_digits(block, at + 1, whole)
            digits += decimals
            seen += decimals
            scale = -decimals
        if seen == 0 or digits > _MOST_DIGITS:
            return False
        if load8(block, at) | _CASE == _EXPONENT:
            at += 1
            down = load8(block, at) == _MINUS
            if down or load8(block, at) == _PLUS:
                at += 1
            exponent, digits, at = _parse_digits(block, at, _ZERO)
            if digits == 0 or digits > 8:
                return False
            scale += -np.int64(exponent) if down else np.int64(exponent)
        if whole == _ZERO:
            scale = 0
        if scale < -_ONE_POWER or scale > _MOST_POWER:
            return False
        value = np.float64(whole) * powers[scale + _ONE_POWER]
        number = np.float32(value * _BELOW)
        if number != np.float32(value * _ABOVE):
            return False
        vectors[row, j] = -number if negative else number
    return at == end


@inline
def _parse_digits(block, at, value):
    """Append the digits at ``block[at]`` to the number `value`; return that, how many they are, where they end."""
    count = 0
    while True:
        word = load64(block, at) ^ _DIGITS
        others = ((word + _PAST_NINE) | word) & _HIGH
        taken = 8
        if others != _ZERO:
            taken = trailing_zeros(others) >> 3
            if taken == 0:
                return value, count, at
            word <<= np.uint64(64 - 8 * taken)
        word = (word * _PAIR) >> _EIGHT
        word = ((word & _PAIRS) * _FOUR) >> _SIXTEEN
        word = ((word & _FOURS) * _EIGHTS) >> _THIRTY_TWO
        value = value * _TEN[taken] + word
        count += taken
        at += taken
        if taken < 8 or count > _MOST_DIGITS:
            return value, count, at
