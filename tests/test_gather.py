import os

import numpy as np
import pyarrow as pa
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import vecstore
from vecstore.gather import gather as gather_stored
from vecstore.kernels.paging import ask_for_rows
from vecstore.keys import frozen
from vecstore.storage import FLOAT32, StoredVectors

VECTORS = frozen(np.random.default_rng(0).standard_normal((20, 5), dtype=np.float32))


def gather(vectors, rows, **options):
    return gather_stored(StoredVectors(FLOAT32, vectors), rows, **options)


@given(hnp.arrays(np.int64, st.integers(0, 50), elements=st.integers(-1, 19)), st.floats(width=32))
def test_gather_agrees_with_a_loop(rows, oov):
    np.testing.assert_array_equal(gather(VECTORS, rows, oov=oov), reference.gather(VECTORS, rows, oov))


@pytest.mark.parametrize(
    "rows",
    [
        [3, -1, 0],
        (3, -1, 0),
        np.array([3, -1, 0], np.int8),
        np.array([3, -1, 0], np.int32),
        np.array([3, -1, 0], ">i8"),
        np.array([3, 7, -1, 7, 0])[::2],
        pa.array([3, -1, 0]),
    ],
    ids=repr,
)
def test_gather_takes_any_integers(rows):
    np.testing.assert_array_equal(gather(VECTORS, rows), reference.gather(VECTORS, [3, -1, 0]))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint64])
def test_gather_takes_unsigned_rows(dtype):
    np.testing.assert_array_equal(gather(VECTORS, np.array([19, 0], dtype)), VECTORS[[19, 0]])


@pytest.mark.parametrize("empty", [[], (), np.array([]), np.array([], np.int32)], ids=repr)
def test_gather_of_nothing_is_empty(empty):
    assert gather(VECTORS, empty).shape == (0, 5)


def test_gather_splits_a_large_batch(monkeypatch):
    monkeypatch.setenv("VECSTORE_NUM_THREADS", "3")
    rows = np.random.default_rng(0).integers(-1, 20, 300_000)
    np.testing.assert_array_equal(gather(VECTORS, rows, oov=7), np.vstack([VECTORS, np.full((1, 5), 7)])[rows])


@pytest.mark.parametrize("d", [1, 300, 400_000])
def test_gather_takes_vectors_of_any_width(monkeypatch, d):
    monkeypatch.setenv("VECSTORE_NUM_THREADS", "3")
    vectors = frozen(np.arange(3 * d, dtype=np.float32).reshape(3, d))
    np.testing.assert_array_equal(gather(vectors, [2, 0, 2, 1, 0]), vectors[[2, 0, 2, 1, 0]])


def test_gather_returns_a_writable_copy():
    result = gather(VECTORS, [0])
    assert result.flags.writeable
    assert not np.shares_memory(result, VECTORS)


@pytest.mark.parametrize(("row", "found"), [(20, "from 20 to 20"), (-2, "from -2 to -2"), (2**63, f"from {2**63} to")])
def test_gather_refuses_a_row_that_is_not_there(row, found):
    with pytest.raises(IndexError, match=rf"expected -1 <= row < 20, found rows {found}"):
        gather(VECTORS, np.array([row]))


@pytest.mark.parametrize(
    ("rows", "found"),
    [([1.0], "float64"), ([True], "bool"), (["nice"], "<U4"), ([None], "object"), ([2**64], "object")],
)
def test_gather_refuses_what_is_not_a_row(rows, found):
    with pytest.raises(TypeError, match=f"expected integer rows, found {found}"):
        gather(VECTORS, rows)


@pytest.mark.parametrize(
    ("rows", "shape"), [(3, r"\(\)"), ([[1, 2]], r"\(1, 2\)"), (np.zeros((0, 2), int), r"\(0, 2\)")]
)
def test_gather_refuses_rows_of_another_shape(rows, shape):
    with pytest.raises(ValueError, match=rf"expected \(n,\) rows, found shape {shape}"):
        gather(VECTORS, rows)


@pytest.mark.parametrize("make", [np.empty, lambda shape, dtype: np.empty((4, *shape), dtype)[2]])
def test_gather_fills_and_returns_out(make):
    out = make((3, 5), np.float32)
    assert gather(VECTORS, [1, -1, 2], out=out, oov=9) is out
    np.testing.assert_array_equal(out, reference.gather(VECTORS, [1, -1, 2], 9))


def test_gather_fills_a_mapped_file(tmp_path):
    out = np.lib.format.open_memmap(tmp_path / "out.npy", "w+", np.float32, (2, 5))
    assert gather(VECTORS, [1, 2], out=out) is out
    np.testing.assert_array_equal(out, VECTORS[1:3])


def read_only():
    return frozen(np.empty((2, 5), np.float32))


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.empty((3, 5), np.float32), r"out: expected float32 of shape \(2, 5\), found float32 of shape \(3, 5\)"),
        (np.empty((2, 4), np.float32), r"out: expected float32 of shape \(2, 5\), found float32 of shape \(2, 4\)"),
        (np.empty(10, np.float32), r"out: expected float32 of shape \(2, 5\), found float32 of shape \(10,\)"),
        (np.empty((2, 5)), r"out: expected float32 of shape \(2, 5\), found float64 of shape \(2, 5\)"),
        (np.empty((2, 5), ">f4"), r"out: expected float32 of shape \(2, 5\), found >f4 of shape \(2, 5\)"),
        (np.empty((5, 2), np.float32).T, "out: expected a writable, C-contiguous array"),
        (np.empty((2, 10), np.float32)[:, ::2], "out: expected a writable, C-contiguous array"),
        (read_only(), "out: expected a writable, C-contiguous array"),
    ],
)
def test_gather_refuses_an_out_that_does_not_fit(out, message):
    with pytest.raises(ValueError, match=message):
        gather(VECTORS, [0, 1], out=out)


@pytest.mark.parametrize("out", [[[0.0] * 5] * 2, "out", 3])
def test_gather_refuses_an_out_that_is_not_an_array(out):
    with pytest.raises(TypeError, match=f"out: expected a NumPy array, found {type(out).__name__}"):
        gather(VECTORS, [0, 1], out=out)


def test_gather_leaves_out_alone_when_a_row_is_not_there():
    out = np.zeros((2, 5), np.float32)
    with pytest.raises(IndexError, match="found rows from 1 to 99"):
        gather(VECTORS, [1, 99], out=out)
    assert not out.any()


def test_gather_asks_for_rows_that_are_not_in_memory(tmp_path, monkeypatch):
    vectors = np.random.default_rng(0).standard_normal((40_000, 25), dtype=np.float32)
    vecstore.convert((map(str, range(len(vectors))), vectors), tmp_path / "store")
    rows = np.random.default_rng(1).integers(-1, len(vectors), 3000)
    asked = []
    monkeypatch.setattr(
        "vecstore.gather.ask_for_rows", lambda *args: asked.append(args[2][slice(*args[-2:])]) or ask_for_rows(*args)
    )
    with (tmp_path / "store" / "vectors.npy").open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    found = vecstore.open(tmp_path / "store").gather(rows)
    np.testing.assert_array_equal(found, reference.gather(vectors, rows, 0.0))
    np.testing.assert_array_equal(np.sort(np.concatenate(asked)), np.unique(rows[rows >= 0]))
    asked.clear()
    vecstore.open(tmp_path / "store").gather(rows)
    assert asked == []  # all is in memory by now


@pytest.mark.parametrize("n", [999, 7_000])
def test_large_gather_agrees_with_a_loop(n):
    # From 8 MiB on results are written past the caches, on several threads.
    vectors = np.random.default_rng(0).standard_normal((500, 301), dtype=np.float32)
    rows = np.random.default_rng(n).integers(-1, 500, n)
    np.testing.assert_array_equal(gather(vectors, rows, oov=2.0), reference.gather(vectors, rows, 2.0))
