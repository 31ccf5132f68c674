"""One array in one `.npy` file: written as a stream, mapped read-only, checked by its CRC-32.

The files are NumPy's own format, version 1.0 (https://numpy.org/doc/stable/reference/generated/
numpy.lib.format.html). Its header is padded so that it has the same length whatever the first axis, which
lets a stream of unknown length write the header again when it ends.
"""

import ast
import errno
import io
import math
import mmap
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np
from isal import isal_zlib
from numpy.typing import DTypeLike, NDArray

from vecstore.disk import NewFile
from vecstore.errors import StoreError

__all__ = ["ArrayWriter", "checksum", "map_array", "new_mapped_array", "open_regular", "sync_folder"]

_BLOCK_BYTES = 1 << 22
_HEAD_BYTES = 1 << 8
_DESCR = r"<[iuf][248]|\|[iu]1"
# As NumPy and `ArrayWriter` write it; to evaluate it takes most of the time of opening a store.
_USUAL_HEADER = re.compile(
    rf"\{{'descr': '({_DESCR})', 'fortran_order': False, "
    r"'shape': \(((?:[0-9]{1,18}, ?)*(?:[0-9]{1,18})?)\), \} *\n"
)


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


def open_regular(path: Path) -> io.FileIO:
    """Open a file for reading, unbuffered; a pipe is not waited for, and a device not read.

    Raises
    ------
    FileNotFoundError
        There is no regular file.
    IsADirectoryError
        It is a folder.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise FileNotFoundError(errno.ENOENT, "not a regular file", str(path))
        return io.FileIO(handle)
    except BaseException:
        os.close(handle)
        raise


def map_array(path: Path) -> NDArray[Any]:
    """Map a `.npy` file; O(1), reads its header alone.

    Returns
    -------
    array
        A read-only view of the mapped file, which stays mapped as long as any view of it lives.

    Raises
    ------
    StoreError
        The file is missing, is no C-ordered array of plain numbers, or is longer or shorter than its header says.
    """
    try:
        with open_regular(path) as file:
            dtype, shape, start = _read_header(path, file)
            count = math.prod(shape)
            size = os.fstat(file.fileno()).st_size
            if size != start + count * dtype.itemsize:
                raise StoreError(
                    f"{path}: expected {start + count * dtype.itemsize:,} bytes for shape {shape} of {dtype}, "
                    f"found {size:,}; the file was cut or grown: convert the source again"
                )
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (FileNotFoundError, IsADirectoryError):
        raise StoreError(f"{path.parent}: {path.name} is missing; convert the source again") from None
    try:
        return np.frombuffer(data, dtype, count, start).reshape(shape)
    except ValueError as error:  # an axis of 2**62 beside one of 0
        raise StoreError(f"{path}: {error}") from None


def _read_header(path: Path, file: io.FileIO) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Return dtype, shape and length of a `.npy` header; stricter than NumPy, which reads what others once wrote."""
    head = file.read(_HEAD_BYTES)
    stop = 10 + int.from_bytes(head[8:10], "little") if head[:8] == b"\x93NUMPY\x01\x00" else 0
    if len(head) < stop:
        head += file.read(stop - len(head))
    text = head[10:stop].decode("latin-1")
    usual = _USUAL_HEADER.fullmatch(text)
    if usual and len(head) >= stop and not stop % 16:
        return np.dtype(usual[1]), tuple(map(int, usual[2].replace(",", " ").split())), stop
    try:
        header = ast.literal_eval(text.strip())
        descr, fortran_order, shape = header["descr"], header["fortran_order"], header["shape"]
        sound = (
            len(head) >= stop
            and stop % 16 == 0  # so that the mapped numbers are aligned
            and header.keys() == {"descr", "fortran_order", "shape"}
            and fortran_order is False
            and isinstance(descr, str)
            and re.fullmatch(_DESCR, descr)
            and isinstance(shape, tuple)
            and all(type(length) is int and 0 <= length < 2**63 for length in shape)
        )
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        sound = False
    if not sound:
        raise StoreError(
            f"{path}: expected a .npy array of numbers, version 1.0, C order, little endian, "
            f"found {head[: max(stop, 10)]!r:.120}"
        )
    return np.dtype(descr), shape, stop


def checksum(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """Return the CRC-32 of a file as 8 hexadecimal digits; O(bytes).

    `progress`, if given, is called with the number of bytes of each block that was read.
    """
    crc = 0
    buffer = memoryview(bytearray(_BLOCK_BYTES))
    with open_regular(path) as file:
        while count := file.readinto(buffer):
            crc = isal_zlib.crc32(buffer[:count], crc)
            if progress:
                progress(count)
    return f"{crc:08x}"


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable; does nothing where folders cannot be synced (Windows)."""
    if os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems sync no folder
            raise
    finally:
        os.close(handle)


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
    with path.open("r+b") as file:
        data = mmap.mmap(file.fileno(), 0)
        yield np.frombuffer(data, dtype, math.prod(shape), len(header)).reshape(shape)
        data.flush()
        os.fsync(file.fileno())
