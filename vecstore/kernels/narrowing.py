"""float32 numbers in fewer bits, and back.

bfloat16 is the upper half of a float32. float16 is IEEE 754's binary16. int8 has a float32 scale for each row: a number
is its integer times the scale, one float32 multiplication. Numbers are rounded to the nearest, ties to even.

A NaN stays one, though not always with the same payload: of what does not fit into fewer bits, the upper bits are
kept and the NaN made a quiet one, as processors do. A signalling NaN is no float16 here, since processors that widen
float16 themselves make it quiet.

Everything is integer arithmetic, or arithmetic between numbers that no setting of the processor flushes to zero. But
float16 is widened by the processor's own instruction if it has one, twice as fast for rows all over a large file
(50,000 rows of 300, one thread: 5.4 ms, by hand 10.5 ms): with fewer instructions a row, more cache misses are under
way at once.

Checked by the caller: `bits` (n, d) are float32 numbers as uint32; `out` is (n, d) and `scales` (n,); `vectors` and
`served` are (n, d).
"""

import math

import numpy as np

from vecstore.kernels.bits import HAS_HALF, bits_to_float, float_to_bits, half_to_float
from vecstore.kernels.code import inline
from vecstore.kernels.machine import kernel

__all__ = [
    "holds_bfloat16",
    "holds_float16",
    "holds_int8",
    "measure",
    "narrow_bfloat16",
    "narrow_float16",
    "narrow_int8",
    "widen_bfloat16",
    "widen_float16",
    "widen_float16_by_hand",
]

_MAGNITUDE = np.uint32(0x7FFFFFFF)
_INFINITY = np.uint32(0x7F800000)
_MOST = np.float32(127)
# A float32 of 2**23 to 2**24 has no bits after the point: adding this rounds to an integer, which its lower bits hold.
_ROUNDER = np.float32(1.5 * 2**23)
_ROUNDER_BITS = np.uint32(0x4B400000)


@inline
def widen_bfloat16(number):
    """Return a bfloat16, given as uint16, as float32."""
    return bits_to_float(np.uint32(np.uint32(number) << np.uint32(16)))


@inline
def widen_float16(number):
    """Return a float16, given as uint16, as float32."""
    if HAS_HALF:
        return half_to_float(number)
    return widen_float16_by_hand(number)


@inline
def widen_float16_by_hand(number):
    """`widen_float16` for processors without an instruction for it; a signalling NaN stays one."""
    bits = np.uint32(np.uint32(number & np.uint16(0x7FFF)) << np.uint32(13))
    exponent = np.uint32(bits & np.uint32(0x0F800000))
    normal = np.uint32(bits + np.uint32(0x38000000))  # 127 - 15 more in the exponent
    special = np.uint32(bits + np.uint32(0x70000000))  # from 31 to 255
    # 2**-14 and the bits of a subnormal number, less 2**-14
    small = bits_to_float(np.uint32(bits + np.uint32(0x38800000))) - np.float32(2**-14)
    if exponent == np.uint32(0x0F800000):
        normal = special
    if exponent == np.uint32(0):
        normal = float_to_bits(small)
    sign = np.uint32(np.uint32(number & np.uint16(0x8000)) << np.uint32(16))
    return bits_to_float(np.uint32(normal | sign))


@inline
def _narrow_float16(bits):
    """Return a float32, given as uint32, as float16 in a uint32."""
    magnitude = np.uint32(bits & _MAGNITUDE)
    odd = np.uint32(np.uint32(magnitude >> np.uint32(13)) & np.uint32(1))
    number = np.uint32(np.uint32(magnitude - np.uint32(0x37FFF001)) + odd) >> np.uint32(13)
    # In the sum with 0.5 the last bit is worth 2**-24, as it is in a subnormal float16.
    small = np.uint32(float_to_bits(bits_to_float(magnitude) + np.float32(0.5)) - np.uint32(0x3F000000))
    if magnitude < np.uint32(0x38800000):
        number = small
    if magnitude >= np.uint32(0x47800000):
        number = np.uint32(0x7C00)
    if magnitude > _INFINITY:
        number = np.uint32(0x7E00) | np.uint32(np.uint32(magnitude >> np.uint32(13)) & np.uint32(0x3FF))
    return np.uint32(number | np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(0x8000)))


@inline
def _narrow_int8(value, scale):
    """Return value / scale as an integer, -127 to 127."""
    return np.int32(np.uint32(float_to_bits(min(max(value / scale, -_MOST), _MOST) + _ROUNDER) - _ROUNDER_BITS))


@inline
def _largest(bits, i):
    """Return the largest magnitude of a row."""
    largest = np.uint32(0)
    for j in range(bits.shape[1]):
        largest = max(largest, np.uint32(bits[i, j] & _MAGNITUDE))
    return largest


@inline
def _is_exact(bits, i, scale):
    """Say whether row i is integers times `scale`, bit for bit."""
    if not scale > 0:
        return False
    wrong = np.uint32(0)
    for j in range(bits.shape[1]):
        value = bits_to_float(bits[i, j])
        served = np.float32(_narrow_int8(value, scale)) * scale
        wrong |= np.uint32(float_to_bits(served) ^ bits[i, j])
        if j == 0 and wrong != 0:
            return False
    return wrong == 0


@inline
def _exact_scale(bits, i, largest):
    """Return a scale with which int8 holds row i exactly; -1 if none is found.

    Tried are the power of two that leaves room for the largest number, for rows of integers or of multiples of another
    power of two; and the largest number divided by 127, 126, ..., 1, each with its neighbours, since a product that was
    rounded may give a quotient that is off by one.
    """
    if largest == 0:
        signs = np.uint32(0)
        for j in range(bits.shape[1]):
            signs |= bits[i, j]
        return np.float32(0) if signs == 0 else np.float32(-1)
    if largest >= _INFINITY:
        return np.float32(-1)
    quotient = float_to_bits(bits_to_float(largest) / _MOST)
    power = bits_to_float(np.uint32(np.uint32(quotient + np.uint32(0x007FFFFF)) & np.uint32(0xFF800000)))
    if _is_exact(bits, i, power):
        return power
    for integer in range(127, 0, -1):
        quotient = float_to_bits(bits_to_float(largest) / np.float32(integer))
        for near in range(3):  # itself, one above, one below; NaN below 0
            scale = bits_to_float(np.uint32(quotient + np.uint32(near if near < 2 else 0xFFFFFFFF)))
            if _is_exact(bits, i, scale):
                return scale
    return np.float32(-1)


@kernel("u32[:,:] -> i64")
def holds_bfloat16(bits):
    """Say whether bfloat16 holds every number bit for bit."""
    for i in range(bits.shape[0]):
        wrong = np.uint32(0)
        for j in range(bits.shape[1]):
            wrong |= bits[i, j]
        if wrong & np.uint32(0xFFFF) != 0:
            return 0
    return 1


@kernel("u32[:,:] -> i64")
def holds_float16(bits):
    """Say whether float16 holds every number bit for bit."""
    for i in range(bits.shape[0]):
        wrong = np.uint32(0)
        for j in range(bits.shape[1]):
            served = widen_float16(np.uint16(_narrow_float16(bits[i, j])))
            wrong |= np.uint32(float_to_bits(served) ^ bits[i, j])
        if wrong != 0:
            return 0
    return 1


@kernel("u32[:,:] -> i64")
def holds_int8(bits):
    """Say whether int8 with a scale a row holds every number bit for bit."""
    for i in range(bits.shape[0]):
        if _exact_scale(bits, i, _largest(bits, i)) < 0:
            return 0
    return 1


@kernel("u32[:,:], u16[:,:] -> i64")
def narrow_bfloat16(bits, out):
    """Round to bfloat16; return the first row with a finite number that became infinite, or -1."""
    for i in range(bits.shape[0]):
        beyond = np.uint32(0)
        for j in range(bits.shape[1]):
            number = bits[i, j]
            magnitude = np.uint32(number & _MAGNITUDE)
            upper = np.uint32(number >> np.uint32(16))
            rounded = np.uint32(np.uint32(number + np.uint32(0x7FFF)) + np.uint32(upper & np.uint32(1))) >> np.uint32(
                16
            )
            if magnitude > _INFINITY and number & np.uint32(0xFFFF) != 0:
                rounded = upper | np.uint32(0x40)
            if rounded & np.uint32(0x7FFF) == np.uint32(0x7F80):
                beyond |= magnitude ^ _INFINITY
            out[i, j] = np.uint16(rounded)
        if beyond != 0:
            return i
    return -1


@kernel("u32[:,:], u16[:,:] -> i64")
def narrow_float16(bits, out):
    """Round to float16; return the first row with a finite number that became infinite, or -1."""
    for i in range(bits.shape[0]):
        beyond = np.uint32(0)
        for j in range(bits.shape[1]):
            number = _narrow_float16(bits[i, j])
            if number & np.uint32(0x7FFF) == np.uint32(0x7C00):
                beyond |= np.uint32(bits[i, j] & _MAGNITUDE) ^ _INFINITY
            out[i, j] = np.uint16(number)
        if beyond != 0:
            return i
    return -1


@kernel("u32[:,:], i64, i8[:,:], f32[:] -> i64")
def narrow_int8(bits, exact, out, scales):
    """Round to int8 with the largest magnitude / 127 as scale, or one that is exact if `exact` and there is one.

    Returns the first row with a NaN or an infinity, which cannot be held, or -1.
    """
    for i in range(bits.shape[0]):
        largest = _largest(bits, i)
        if largest >= _INFINITY:
            return i
        scale = np.float32(-1)
        if exact:
            scale = _exact_scale(bits, i, largest)
        if scale < 0:
            scale = bits_to_float(largest) / _MOST
            if math.isinf(scale * _MOST):  # of float32's largest numbers the quotient may be rounded up
                scale = bits_to_float(np.uint32(float_to_bits(scale) - np.uint32(1)))
        scales[i] = scale
        if scale > 0:
            for j in range(bits.shape[1]):
                out[i, j] = np.int8(_narrow_int8(bits_to_float(bits[i, j]), scale))
        else:
            for j in range(bits.shape[1]):
                out[i, j] = 0
    return -1


@kernel("f32[:,:], f32[:,:], f64[:]")
def measure(vectors, served, totals):
    """Compare `vectors` (n, d) with what is `served` for them.

    Of ``totals``, [0] grows by the absolute errors, [1] to the largest of them, and [2] falls to the lowest cosine
    between a row and what is served for it. Infinities and NaN have no error, and rows with one no cosine.
    """
    for i in range(vectors.shape[0]):
        error = 0.0
        largest = 0.0
        for j in range(vectors.shape[1]):
            difference = abs(np.float64(vectors[i, j]) - np.float64(served[i, j]))
            if not difference >= 0:
                difference = 0.0
            error += difference
            largest = max(largest, difference)
        totals[0] += error
        totals[1] = max(totals[1], largest)
        if largest == 0:
            continue
        dot = 0.0
        one = 0.0
        other = 0.0
        for j in range(vectors.shape[1]):
            dot += np.float64(vectors[i, j]) * np.float64(served[i, j])
            one += np.float64(vectors[i, j]) * np.float64(vectors[i, j])
            other += np.float64(served[i, j]) * np.float64(served[i, j])
        if 0 < one < math.inf:
            totals[2] = min(totals[2], dot / math.sqrt(one * other) if other > 0 else 0.0)
