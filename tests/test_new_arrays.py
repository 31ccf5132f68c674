import io
import zlib
from pathlib import Path

import numpy as np
import pytest

from vecstore.arrays import checksum
from vecstore.new_arrays import ArrayWriter, new_mapped_array

ARRAYS = {
    "matrix": np.arange(12, dtype=np.float32).reshape(4, 3),
    "bytes": np.frombuffer(b"abc", np.uint8),
    "empty": np.empty(0, np.uint8),
    "no rows": np.empty((0, 7), np.float32),
    "words": np.arange(100, dtype=np.uint64),
}
arrays = pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "array.npy"


def npy(array: np.ndarray, version: tuple[int, int] | None = (1, 0)) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=version)
    return stream.getvalue()


@arrays
@pytest.mark.parametrize("expected", [0, 4, 10**18])
def test_writer_writes_what_numpy_reads(path, array, expected):
    with ArrayWriter(path, array.dtype, array.shape[1:], expected=expected) as writer:
        for row in range(len(array)):
            writer.append(array[row : row + 1])
        crc32 = writer.finish()
    assert writer.rows == len(array)
    assert path.read_bytes() == npy(array)
    assert crc32 == checksum(path) == f"{zlib.crc32(path.read_bytes()):08x}"


def test_writer_keeps_a_file_that_is_there(path):
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        ArrayWriter(path, np.float32)
    assert path.read_bytes() == b"mine"


@pytest.mark.parametrize("shape", [(8,), (3, 5), (600_000, 2)])
def test_new_mapped_array_is_on_disk_when_the_context_ends(path, shape):
    with new_mapped_array(path, np.uint64, shape) as array:
        assert not array.any()
        array[...] = np.arange(array.size).reshape(shape)
        expected = array.copy()
    np.testing.assert_array_equal(np.load(path), expected, strict=True)
