import numpy as np
import pytest
import reference

from vecstore.kernels.gathering import gather_rows, gather_rows_bfloat16, gather_rows_float16, gather_rows_int8
from vecstore.keys import frozen

NARROW = {"float16": gather_rows_float16, "bfloat16": gather_rows_bfloat16, "int8": gather_rows_int8}
narrow = pytest.mark.parametrize("name", NARROW)


def gathered(vectors, rows, oov=0.5, streaming=False):
    out = np.empty((len(rows), vectors.shape[1]), vectors.dtype)
    gather_rows(vectors, rows, oov, streaming, 0, len(rows), out)
    return out


def stored(name, v, d, seed=0):
    """Random numbers of a type as a kernel takes them, read-only, and the float32 that they are."""
    rng = np.random.default_rng(seed)
    if name == "int8":
        kept = rng.integers(-128, 128, (v, d)).astype(np.int8), rng.standard_normal(v).astype(np.float32)
        return tuple(map(frozen, kept)), reference.widen(name, *kept)
    numbers = rng.standard_normal((v, d)).astype(np.float16).view(np.uint16)
    return (frozen(numbers),), reference.widen(name, numbers.view(np.float16) if name == "float16" else numbers)


@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 100])
@pytest.mark.parametrize("d", [1, 2, 15, 16, 17, 50, 300])
@pytest.mark.parametrize("streaming", [False, True])
def test_gather_agrees_with_a_loop(n, d, streaming):
    rng = np.random.default_rng(n)
    vectors, rows = rng.standard_normal((20, d), dtype=np.float32), rng.integers(-1, 20, n)
    found = gathered(frozen(vectors), frozen(rows), streaming=streaming)
    np.testing.assert_array_equal(found, reference.gather(vectors, rows, 0.5))


def test_gather_works_on_writable_arrays():
    vectors, rows = np.arange(12, dtype=np.float32).reshape(4, 3), np.array([3, -1, 0])
    np.testing.assert_array_equal(gathered(vectors, rows), reference.gather(vectors, rows, 0.5))


def test_gather_copies_every_bit():
    bits = np.array([[0x7FC00001, 0xFFC12345, 0x80000000, 0x00000001]], np.uint32)
    vectors = frozen(bits.view(np.float32))
    np.testing.assert_array_equal(gathered(vectors, frozen(np.zeros(2, np.int64))).view(np.uint32), bits[[0, 0]])


@pytest.mark.parametrize("row", [-(2**63), -(2**40), -2, -1, 4, 2**31, 2**40, 2**63 - 1])
@pytest.mark.parametrize("v", [0, 4])
def test_gather_never_follows_a_row_that_is_not_there(row, v):
    vectors = frozen(np.ones((v, 3), np.float32))
    out = gathered(vectors, frozen(np.full(10, row, np.int64)), np.nan)
    assert np.isnan(out).all()


@pytest.mark.parametrize("streaming", [False, True])
def test_gather_writes_its_range_alone(streaming):
    vectors = frozen(np.ones((4, 3), np.float32))
    out = np.zeros((6, 3), np.float32)
    gather_rows(vectors, frozen(np.arange(6) % 4), 0.0, streaming, 2, 5, out)
    assert out.any(axis=1).tolist() == [False, False, True, True, True, False]


@pytest.mark.parametrize("shift", range(16))
def test_gather_streams_to_any_place_in_a_cache_line(shift):
    vectors, rows = np.arange(120, dtype=np.float32).reshape(4, 30), np.array([3, 0, 2, 1])
    room = np.full(4 * 30 + 32, -1, np.float32)
    out = room[shift : shift + 120].reshape(4, 30)
    gather_rows(vectors, rows, 0.0, True, 0, 4, out)
    np.testing.assert_array_equal(out, vectors[rows])
    assert (room[:shift] == -1).all()
    assert (room[shift + 120 :] == -1).all()


@narrow
@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 100])
@pytest.mark.parametrize("d", [1, 2, 15, 16, 50, 300, 2047, 2048, 2049, 5000])
@pytest.mark.parametrize("streaming", [False, True])
def test_gather_widens_like_a_loop(name, n, d, streaming):
    kept, vectors = stored(name, 20, d)
    rows, out = np.random.default_rng(n).integers(-1, 20, n), np.empty((n, d), np.float32)
    NARROW[name](*kept, frozen(rows), 0.5, streaming, 0, n, out)
    assert out.tobytes() == reference.gather(vectors, rows, 0.5).tobytes()


@narrow
@pytest.mark.parametrize("row", [-(2**63), -(2**40), -2, -1, 4, 2**31, 2**40, 2**63 - 1])
@pytest.mark.parametrize("v", [0, 4])
def test_widening_gather_never_follows_a_row_that_is_not_there(name, row, v):
    out = np.zeros((10, 3), np.float32)
    NARROW[name](*stored(name, v, 3)[0], frozen(np.full(10, row, np.int64)), np.nan, False, 0, 10, out)
    assert np.isnan(out).all()


@narrow
@pytest.mark.parametrize("streaming", [False, True])
def test_widening_gather_writes_its_range_alone(name, streaming):
    kept, vectors = stored(name, 4, 3)
    out = np.full((6, 3), np.nan, np.float32)
    NARROW[name](*kept, frozen(np.arange(6) % 4), 0.0, streaming, 2, 5, out)
    np.testing.assert_array_equal(out[2:5], vectors[[2, 3, 0]])
    assert np.isnan(out[[0, 1, 5]]).all()
