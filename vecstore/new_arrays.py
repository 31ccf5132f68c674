"""A new `.npy` file: written as a stream of rows, or mapped and filled in.

The header of the format is padded so that it has the same length whatever the first axis, which lets a stream of
unknown length write the header again when it ends.
"""

import io
import math
import mmap
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from isal import isal_zlib
from numpy.typing import DTypeLike, NDArray

from vecstore.arrays import checksum
from vecstore.disk import NewFile

__all__ = ["ArrayWriter", "new_mapped_array"]

_BLOCK_BYTES = 1 << 22


class ArrayWriter:
    """Append rows to a new `.npy` file.

    Parameters
    ----------
    path : Path
        The file; it must not exist.
    dtype, row_shape
        Every row is `row_shape` components of `dtype`.
    expected : int
        The likely number of rows. The checksum is computed on the way if the guess is right, and by
        reading the file again if it is not.
    """

    def __init__(self, path: Path, dtype: DTypeLike, row_shape: tuple[int, ...] = (), *, expected: int = 0) -> None:
        self.path = path
        self.dtype = np.dtype(dtype)
        self.row_shape = row_shape
        self.rows = 0
        self._header = self._render(expected)
        self._crc = isal_zlib.crc32(self._header)
        self._file = NewFile(path)
        try:
            self._file.write(self._header)
        except BaseException:
            self._file.close()
            raise

    def _render(self, rows: int) -> bytes:
        return _render_header(self.dtype, (rows, *self.row_shape))

    def append(self, rows: NDArray[Any]) -> None:
        """Write `rows` (n, *row_shape), C-contiguous and of the file's dtype, after those already there."""
        assert rows.dtype == self.dtype
        assert rows.shape[1:] == self.row_shape
        assert rows.flags.c_contiguous
        if rows.size:
            data = rows.data.cast("B")
            self._file.write(data)
            self._crc = isal_zlib.crc32(data, self._crc)
        self.rows += len(rows)

    def finish(self) -> str:
        """Give the file its true shape, sync it to disk and return its checksum."""
        header = self._render(self.rows)
        assert len(header) == len(self._header)
        if header != self._header:
            self._file.write_again(header)
        self._file.finish()
        return f"{self._crc:08x}" if header == self._header else checksum(self.path)

    def close(self) -> None:
        """Close the file, complete or not."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _render_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


@contextmanager
def new_mapped_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> Iterator[NDArray[Any]]:
    """Give a writable array of zeros that is a new `.npy` file; it is on disk when the context ends.

    The zeros are written out first, so that a full disk is an OSError here and not a fault at some later store
    (except on file systems that write each page anew, such as btrfs).
    """
    dtype = np.dtype(dtype)
    header = _render_header(dtype, shape)
    size = math.prod(shape) * dtype.itemsize
    zeros = memoryview(bytes(min(size, _BLOCK_BYTES)))
    with closing(NewFile(path, in_background=False)) as new:
        new.write(header)
        for start in range(0, size, _BLOCK_BYTES):
            new.write(zeros[: size - start])
        new.flush()
    with path.open("r+b") as file:
        data = mmap.mmap(file.fileno(), 0)
        yield np.frombuffer(data, dtype, math.prod(shape), len(header)).reshape(shape)
        data.flush()
        os.fsync(file.fileno())
