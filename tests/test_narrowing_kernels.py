import ml_dtypes
import numpy as np
import pytest
import reference
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vecstore.kernels import narrowing
from vecstore.kernels.gathering import gather_rows_bfloat16, gather_rows_float16, gather_rows_int8
from vecstore.kernels.machine import kernel
from vecstore.kernels.narrowing import widen_float16_by_hand
from vecstore.keys import frozen

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=20)
BITS = hnp.arrays(np.uint32, SHAPES, elements=st.integers(0, 2**32 - 1))
EVERY_HALF = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
NARROW = {"float16": narrowing.narrow_float16, "bfloat16": narrowing.narrow_bfloat16}
WIDEN = {"float16": gather_rows_float16, "bfloat16": gather_rows_bfloat16}
HOLDS = {
    "float16": narrowing.holds_float16,
    "bfloat16": narrowing.holds_bfloat16,
    "int8": narrowing.holds_int8,
}
TWIN = {"float16": reference.narrow_float16, "bfloat16": reference.narrow_bfloat16}
INFINITY = {"float16": 0x7C00, "bfloat16": 0x7F80}
# Around every place where rounding changes its ways: zero, subnormals, powers of two, the largest numbers, NaN.
EDGES = sorted(
    {
        (sign | exponent << 23 | mantissa + step) & 0xFFFFFFFF
        for sign in (0, 1 << 31)
        for exponent in (0, 1, 101, 102, 103, 111, 112, 113, 126, 127, 142, 143, 254, 255)
        for mantissa in (0, 1 << 12, 1 << 13, 1 << 15, 1 << 16, 1 << 22, (1 << 23) - (1 << 12), (1 << 23) - (1 << 15))
        for step in (-1, 0, 1)
    }
)
halves = pytest.mark.parametrize("name", NARROW)


def narrowed(name, bits):
    out = np.full(bits.shape, 0xABCD, np.uint16)
    return out, NARROW[name](bits, out)


def widened(name, numbers):
    out = np.empty(numbers.shape, np.float32)
    WIDEN[name](numbers, np.arange(len(numbers)), 0.0, False, 0, len(numbers), out)
    return out


def int8s(bits, *, exact):
    out, scales = np.full(bits.shape, 55, np.int8), np.full(len(bits), np.nan, np.float32)
    return out, scales, narrowing.narrow_int8(bits, exact, out, scales)


def served(numbers, scales):
    out = np.empty(numbers.shape, np.float32)
    gather_rows_int8(numbers, scales, np.arange(len(numbers)), 0.0, False, 0, len(numbers), out)
    return out


def in_row(numbers):
    return np.array([numbers], np.uint32)


@halves
@example(bits=in_row(EDGES))
@given(bits=BITS)
def test_halves_are_rounded_like_the_twin(name, bits):
    expected = np.array([[TWIN[name](int(number)) for number in row] for row in bits], np.uint16).reshape(bits.shape)
    beyond = ((expected & 0x7FFF) == INFINITY[name]) & ((bits & 0x7FFFFFFF) != 0x7F800000)
    found, stopped = narrowed(name, frozen(bits))
    rows = np.flatnonzero(beyond.any(axis=1))
    assert stopped == (rows[0] if len(rows) else -1)
    done = len(bits) if stopped < 0 else stopped + 1
    np.testing.assert_array_equal(found[:done], expected[:done])
    assert (found[done:] == 0xABCD).all()


@halves
def test_halves_are_rounded_as_numpy_and_ml_dtypes_round(name):
    bits = np.random.default_rng(0).integers(0, 2**32, (2000, 50), dtype=np.uint32)
    with np.errstate(all="ignore"):
        numbers = bits.view(np.float32)
        expected = numbers.astype(np.float16 if name == "float16" else ml_dtypes.bfloat16)
        kept = np.isfinite(expected.astype(np.float32))
    numbers = np.where(kept, numbers, np.float32(0))
    found, stopped = narrowed(name, numbers.view(np.uint32))
    assert stopped == -1
    np.testing.assert_array_equal(found, np.where(kept, expected.view(np.uint16), 0))


def test_every_float16_is_widened_as_numpy_widens():
    found, expected = widened("float16", frozen(EVERY_HALF)), EVERY_HALF.view(np.float16).astype(np.float32)
    quiet = ~np.isnan(expected) | (EVERY_HALF & 0x200 != 0)
    np.testing.assert_array_equal(found.view(np.uint32)[quiet], expected.view(np.uint32)[quiet])
    assert np.isnan(found[~quiet]).all()


@kernel("u16[:,:], f32[:,:]")
def widen_by_hand(numbers, out):
    for i in range(numbers.shape[0]):
        for j in range(numbers.shape[1]):
            out[i, j] = widen_float16_by_hand(numbers[i, j])


def test_every_float16_is_widened_by_hand_as_by_the_processor():
    found = np.empty(EVERY_HALF.shape, np.float32)
    widen_by_hand(EVERY_HALF, found)
    quiet = np.where(np.isnan(found), np.uint32(0x400000), np.uint32(0))
    processors = widened("float16", EVERY_HALF).view(np.uint32)
    np.testing.assert_array_equal(found.view(np.uint32) | quiet, processors | quiet)


def test_every_bfloat16_is_the_upper_half():
    found = widened("bfloat16", frozen(EVERY_HALF)).view(np.uint32)
    np.testing.assert_array_equal(found, EVERY_HALF.astype(np.uint32) << 16)


@halves
def test_every_half_comes_back(name):
    """All but the signalling NaN of float16, which processors do not keep."""
    numbers = widened(name, EVERY_HALF)
    again, stopped = narrowed(name, numbers.view(np.uint32))
    signalling = np.isnan(numbers) & (EVERY_HALF & 0x200 == 0) & (name == "float16")
    assert stopped == -1
    np.testing.assert_array_equal(again, np.where(signalling, EVERY_HALF | 0x200, EVERY_HALF))
    assert HOLDS[name](np.where(signalling, np.float32(0), numbers).view(np.uint32)) == 1


@halves
@pytest.mark.parametrize("bits", [0x7F800001, 0xFF800001, 0x7F80FFFF, 0x7FC00000, 0xFFFFFFFF, 0x7FBFFFFF])
def test_nan_stays_nan(name, bits):
    found, stopped = narrowed(name, in_row([bits]))
    assert stopped == -1
    wide = widened(name, found)
    assert np.isnan(wide).all()
    assert np.signbit(wide).tolist() == [[bits >> 31 == 1]]


@pytest.mark.parametrize("name", HOLDS)
@given(data=st.data())
def test_holds_means_that_every_bit_comes_back(name, data):
    bits = data.draw(
        BITS
        | BITS.map(lambda bits: bits & np.uint32(0xFFFF0000))
        | BITS.map(lambda bits: widened("float16", bits.astype(np.uint16)).view(np.uint32))
        | BITS.map(lambda bits: (bits.astype(np.int8).astype(np.float32) * np.float32(0.1)).view(np.uint32))
        | BITS.map(lambda bits: (bits.astype(np.int8).astype(np.float32) * np.float32(0.25)).view(np.uint32))
    )
    numbers = bits.view(np.float32)
    if name == "int8":
        exact = all(np.isfinite(row).all() and reference.narrow_int8(row, exact=True)[2] for row in numbers)
    else:
        exact = all(int(reference_wide(name, int(bit))) == bit for bit in bits.ravel())
    assert HOLDS[name](frozen(bits)) == exact
    if exact:
        if name == "int8":
            found, scales, stopped = int8s(frozen(bits), exact=True)
            again = served(found, scales)
        else:
            found, stopped = narrowed(name, frozen(bits))
            again = widened(name, found)
        assert stopped == -1
        np.testing.assert_array_equal(again.view(np.uint32), bits)


def reference_wide(name, bits):
    if name == "float16" and bits & 0x7FFFFFFF > 0x7F800000:
        return (bits | 0x400000) & 0xFFFFE000
    number = np.array([[TWIN[name](bits)]], np.uint16)
    if name == "float16":
        return reference.widen(name, number.view(np.float16)).view(np.uint32)[0, 0]
    return reference.widen(name, number).view(np.uint32)[0, 0]


@example(numbers=np.array([[3.4028235e38, -3.4028235e38, 1]], np.float32))
@example(numbers=np.array([[1e-45, 0, -1e-45], [3e-43, -2.6e-43, 1.4e-45], [0, 0, 0], [0, -0.0, 0]], np.float32))
@example(numbers=np.array([[0.5, -0.5, 127], [1.5, 2.5, 127], [-1.5, -2.5, 127]], np.float32))
@given(
    hnp.arrays(np.float32, SHAPES, elements=st.floats(width=32, allow_nan=False, allow_infinity=False))
    | hnp.arrays(np.float32, SHAPES, elements=st.integers(-300, 300))
)
@pytest.mark.parametrize("exact", [False, True])
def test_int8_is_rounded_like_the_twin(exact, numbers):
    found, scales, stopped = int8s(frozen(numbers.view(np.uint32)), exact=exact)
    assert stopped == -1
    for row, vector in enumerate(numbers):
        expected, scale, _ = reference.narrow_int8(vector, exact=exact)
        np.testing.assert_array_equal(found[row], expected)
        assert scales[row].tobytes() == scale.tobytes()
    with np.errstate(under="ignore"):
        np.testing.assert_array_equal(served(found, scales), reference.widen("int8", found, scales))
    assert np.isfinite(served(found, scales)).all()


def test_int8_is_off_by_half_a_scale_at_most():
    numbers = np.random.default_rng(0).standard_normal((1000, 300), dtype=np.float32)
    found, scales, _ = int8s(numbers.view(np.uint32), exact=False)
    np.testing.assert_allclose(scales, np.abs(numbers).max(axis=1) / 127, rtol=1e-6)
    assert (np.abs(served(found, scales) - numbers) <= scales[:, None] * 0.5001).all()
    assert (np.abs(found).max(axis=1) == 127).all()


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_int8_stops_at_a_row_that_is_not_finite(number):
    numbers = np.ones((5, 3), np.float32)
    numbers[3, 1] = number
    found, scales, stopped = int8s(numbers.view(np.uint32), exact=True)
    assert stopped == 3
    assert (found[3:] == 55).all()
    assert np.isnan(scales[3:]).all()


@pytest.mark.parametrize("scale", [0.1, 1 / 3, 1e-30, 7e20, 255.0])
@pytest.mark.parametrize("most", [1, 2, 5, 50, 90, 127])
def test_int8_with_one_scale_for_all_rows_is_exact(scale, most):
    integers = np.random.default_rng(0).integers(-most, most + 1, (2000, 20))
    numbers = integers.astype(np.float32) * np.float32(scale)
    assert narrowing.holds_int8(numbers.view(np.uint32)) == 1
    found, scales, _ = int8s(numbers.view(np.uint32), exact=True)
    assert served(found, scales).tobytes() == numbers.tobytes()


def test_int8_once_rounded_is_exact():
    """What is read from a store of int8 is held by int8 again, though the scale may have been another."""
    numbers = np.random.default_rng(0).standard_normal((20_000, 50), dtype=np.float32)
    again = served(*int8s(numbers.view(np.uint32), exact=False)[:2])
    assert narrowing.holds_int8(numbers.view(np.uint32)) == 0
    assert narrowing.holds_int8(again.view(np.uint32)) == 1


@given(
    hnp.arrays(np.float32, SHAPES, elements=st.floats(-1e10, 1e10, width=32) | st.just(np.nan) | st.just(-np.inf)),
    st.randoms(use_true_random=False),
)
def test_measure_agrees_with_numpy(vectors, random):
    noise = np.array([random.uniform(-1, 1) for _ in range(vectors.size)], np.float32).reshape(vectors.shape)
    with np.errstate(invalid="ignore"):
        kept = np.where(np.isfinite(vectors), vectors + noise, vectors)
        differences = np.abs(vectors.astype(np.float64) - kept)
    totals = np.array([1.0, 0.5, 1.0])
    narrowing.measure(frozen(vectors), frozen(kept), totals)
    differences = np.nan_to_num(differences)
    np.testing.assert_allclose(totals[:2], [1 + differences.sum(), max(0.5, differences.max(initial=0))])
    cosines = [1.0]
    for row, other in zip(vectors.astype(np.float64), kept.astype(np.float64), strict=True):
        if np.isfinite(row).all() and row.any() and (row != other).any():
            norm = np.linalg.norm(row) * np.linalg.norm(other)
            cosines.append(row @ other / norm if norm else 0.0)
    np.testing.assert_allclose(totals[2], min(cosines), rtol=1e-12, atol=1e-12)
