from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import vecstore
from vecstore.formats.rows import Matrix, RowsSource, as_float32, check_numbers, pack_keys, read_row_keys, take
from vecstore.formats.stream import ByteStream
from vecstore.keys import KeyBatch
from vecstore.layout import Source


def at_row(row):
    return f"row {row}"


@given(hnp.arrays(np.uint16, st.tuples(st.integers(0, 5), st.integers(1, 5))))
def test_bfloat16_is_the_upper_half_of_a_float32(bits):
    decoded = Matrix(0, *bits.shape, bits.dtype, bfloat16=True).decode(bits)
    assert decoded.dtype == np.float32
    np.testing.assert_array_equal(decoded.view("<u2").reshape(*bits.shape, 2), np.stack([0 * bits, bits], axis=-1))


def test_matrix_says_where_it_ends():
    matrix = Matrix(100, 3, 5, np.dtype("<f2"))
    assert (matrix.width, matrix.stop) == (10, 130)
    numbers = np.ones((3, 5), "<f2")
    assert matrix.decode(numbers) is numbers


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8", "<f2", "|i1"])
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (4, 3)])
def test_float32_is_a_copy_of_ones_own(dtype, shape):
    numbers = np.ones(shape[::-1], dtype).T
    numbers.setflags(write=False)
    vectors = as_float32(numbers, 0, at_row)
    assert vectors.dtype == np.float32
    assert vectors.flags.c_contiguous
    assert vectors.flags.owndata
    assert vectors.flags.writeable
    np.testing.assert_array_equal(vectors, numbers)


@pytest.mark.parametrize("number", [3.5e38, -3.5e38, 1e300])
def test_number_beyond_float32_is_named(number):
    numbers = np.array([[np.inf, 3.4e38], [0, number], [number, 0]])
    with pytest.raises(
        vecstore.FormatError, match=r"^row 11: expected numbers within .*, found -?[\d.]+e\+\d+ at position 1"
    ):
        as_float32(numbers, 10, at_row)


def test_numbers_are_checked_by_shape_and_type():
    check_numbers("here", (1, 1), np.dtype(bool))
    with pytest.raises(vecstore.FormatError, match=r"^here: expected real numbers, found dtype complex128"):
        check_numbers("here", (1, 1), np.dtype(complex))


@pytest.mark.parametrize("make", [list, pa.array, lambda keys: pa.array(keys).dictionary_encode()])
@pytest.mark.parametrize(("start", "stop"), [(0, 0), (0, 1), (1, 4), (0, 5), (5, 5)])
def test_part_of_keys_is_packed(make, start, stop):
    keys = ["nice", "", "größe", "nice", "日本語"]
    data, offsets = pack_keys(KeyBatch.of(make(keys)), start, stop, 0, at_row)
    assert data.tobytes() == "".join(keys[start:stop]).encode()
    assert offsets.tolist() == np.cumsum([0, *(len(key.encode()) for key in keys[start:stop])]).tolist()
    assert data.flags.owndata


def test_null_among_keys_is_named():
    keys = KeyBatch.of(["a", None, "b", None])
    assert pack_keys(keys, 2, 3, 7, at_row)[0].tobytes() == b"b"
    with pytest.raises(vecstore.FormatError, match=r"^row 8: expected a key, found a null"):
        pack_keys(keys, 2, 4, 7, at_row)


def test_row_keys_are_as_many_as_rows(tmp_path):
    (tmp_path / "k.txt").write_bytes(b"a\nb\n")
    assert len(read_row_keys(tmp_path / "k.txt", 2, "m.npy")) == 2
    with pytest.raises(
        vecstore.FormatError, match=r"k\.txt: expected 3 keys, one for each row of m\.npy, found 2; name"
    ):
        read_row_keys(tmp_path / "k.txt", 3, "m.npy")


def test_take_gives_what_is_left(tmp_path):
    (tmp_path / "f").write_bytes(b"abcde")
    stream = ByteStream(tmp_path / "f")
    assert [take(stream, count) for count in (2, 0, 9, 1)] == [b"ab", b"", b"cde", b""]
    stream.close()


@pytest.mark.parametrize(("start", "size"), [(0, 8), (3, 11), (3, 20), (0, 9)])
def test_rows_lie_anywhere_in_a_file(tmp_path: Path, start, size):
    path = tmp_path / "f"
    numbers = np.array([[1, 2], [3, 4]], ">i2")
    path.write_bytes((b"x" * start + numbers.tobytes()).ljust(size, b"y"))
    row_keys = tmp_path / "keys.txt"
    row_keys.write_text("a\nb\n")
    stream = ByteStream(path)
    source = RowsSource(stream, 0, Matrix(start, 2, 2, numbers.dtype), size, row_keys, "test")
    (block,) = source.blocks()
    assert block.vectors.tolist() == [[1, 2], [3, 4]]
    assert block.positions.tolist() == [start, start + 4]
    status = path.stat(), row_keys.stat()
    assert source.description == Source(
        "f", sum(file.st_size for file in status), "test", None, max(file.st_mtime_ns for file in status)
    )
    source.close()
