import numpy as np
import pytest
import reference

from vecstore.kernels.gathering import gather_rows
from vecstore.keys import frozen


def gathered(vectors, rows, oov=0.5, streaming=False):
    out = np.empty((len(rows), vectors.shape[1]), vectors.dtype)
    gather_rows(vectors, rows, oov, streaming, 0, len(rows), out)
    return out


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
