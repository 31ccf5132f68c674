import io
import zlib
from pathlib import Path

import numpy as np
import pytest

import vecstore
from vecstore.arrays import checksum, map_array

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


def with_header(text: str, data: bytes = b"") -> bytes:
    header = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


@arrays
def test_map_gives_a_read_only_view(path, array):
    path.write_bytes(npy(array))
    mapped = map_array(path)
    np.testing.assert_array_equal(mapped, array, strict=True)
    assert not mapped.flags.writeable
    assert mapped.base is not None


def test_map_names_a_missing_file(path):
    with pytest.raises(vecstore.StoreError, match=r"array\.npy is missing; convert the source again"):
        map_array(path)


@pytest.mark.parametrize("change", [-1, 1, 100])
def test_map_refuses_a_file_of_another_length(path, change):
    data = npy(ARRAYS["matrix"])
    path.write_bytes(data[:change] if change < 0 else data + bytes(change))
    message = rf"expected {len(data)} bytes for shape \(4, 3\) of float32, found {len(data) + change}; the file was cut"
    with pytest.raises(vecstore.StoreError, match=message):
        map_array(path)


@arrays
def test_map_refuses_a_file_cut_at_any_byte(path, array):
    data = npy(array)
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(vecstore.StoreError, match=r"array\.npy: expected "):
            map_array(path)


@pytest.mark.parametrize(
    "content",
    [
        npy(np.asfortranarray(ARRAYS["matrix"])),
        npy(np.array([None, "pickled"])),
        npy(ARRAYS["matrix"], (2, 0)),
        npy(ARRAYS["matrix"], (3, 0)),
        b"not an array",
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"),
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2**70,)}"),
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 18446744073709551616)}"),
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (3L,)}", bytes(12)),
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (3,"),
        with_header("{'descr': '<f4', 'fortran_order': False}"),
        with_header("{'descr': '<f4"),
        with_header("{'descr': '|S0', 'fortran_order': False, 'shape': (9,)}"),
        with_header("{'descr': '<f3', 'fortran_order': False, 'shape': (1,)}", bytes(3)),
        with_header("{'descr': ('<f4', (2,)), 'fortran_order': False, 'shape': (1,)}", bytes(8)),
        with_header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", bytes(4)),
        with_header("(" * 117),
        with_header("[]"),
    ],
)
def test_map_refuses_what_is_no_plain_array(path, content):
    path.write_bytes(content)
    with pytest.raises(vecstore.StoreError, match=r"array\.npy: expected "):
        map_array(path)


def test_map_refuses_a_folder(path):
    path.mkdir()
    with pytest.raises(vecstore.StoreError, match=r"array\.npy"):
        map_array(path)


def test_checksum_tells_its_progress(path):
    path.write_bytes(bytes(10 << 20))
    seen: list[int] = []
    assert checksum(path, seen.append) == f"{zlib.crc32(bytes(10 << 20)):08x}"
    assert sum(seen) == 10 << 20
    assert len(seen) > 1
