"""Matrices of numbers, row after row, and the keys of their rows: what the readers of matrices share.

Numbers of every real type become float32, the nearest one; a number that is finite and has no finite float32 is an
error. bfloat16, which NumPy does not have, is the upper half of a float32.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vecstore.errors import FormatError, VocabularyError
from vecstore.formats.source import Block, SpareArrays
from vecstore.formats.stream import ByteStream
from vecstore.formats.word2vec import DIM_LIMIT
from vecstore.keys import KeyBatch
from vecstore.layout import Source
from vecstore.vocabulary import read_keys

__all__ = ["BLOCK_BYTES", "Matrix", "RowsSource", "as_float32", "check_numbers", "pack_keys", "read_row_keys", "take"]

BLOCK_BYTES = 1 << 22
"""Bytes of the vectors of a block, or those of one row if they are more."""


class Matrix(NamedTuple):
    """Where and what the numbers of a file are.

    Attributes
    ----------
    start : int
        The byte of the file at which they start.
    rows, dim : int
    dtype : dtype
        Of the numbers as they are read.
    bfloat16 : bool
        Whether they are read as integers of 16 bits but are bfloat16.
    """

    start: int
    rows: int
    dim: int
    dtype: np.dtype[Any]
    bfloat16: bool = False

    @property
    def width(self) -> int:
        """Bytes of a row."""
        return self.dim * self.dtype.itemsize

    @property
    def stop(self) -> int:
        """The byte of the file after the last number."""
        return self.start + self.rows * self.width

    def decode(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """Return numbers as they were read as what they are."""
        return (numbers.astype(np.uint32) << np.uint32(16)).view(np.float32) if self.bfloat16 else numbers


def check_numbers(where: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise FormatError unless numbers of a shape and type can be word vectors; `where` starts the message."""
    if dtype.hasobject:
        raise FormatError(f"{where}: expected numbers, found Python objects; make them numbers: astype('float32')")
    if not np.can_cast(dtype, np.float32, "same_kind"):
        raise FormatError(f"{where}: expected real numbers, found dtype {dtype}")
    if len(shape) != 2:
        raise FormatError(f"{where}: expected a matrix (rows, dim), found shape {shape}")
    if not (shape[0] and 0 < shape[1] <= DIM_LIMIT):
        raise FormatError(f"{where}: expected at least one vector of 1 to {DIM_LIMIT:,} numbers, found shape {shape}")


def as_float32(numbers: NDArray[Any], first: int, locate: Callable[[int], str]) -> NDArray[np.float32]:
    """Return real numbers (n, d), whose first row is row `first`, as float32, rounded to nearest; a C-contiguous copy.

    Raises
    ------
    FormatError
        A finite number is beyond float32; ``locate(row)`` says for a person where a row is.
    """
    with np.errstate(all="ignore"):
        vectors = np.array(numbers, np.float32, order="C")
        if not np.can_cast(numbers.dtype, np.float32):
            beyond = np.argwhere(np.isinf(vectors) & np.isfinite(numbers))
            if len(beyond):
                row, column = beyond[0]
                raise FormatError(
                    f"{locate(first + int(row))}: expected numbers within float32 (3.4e38 at most), "
                    f"found {numbers[row, column]} at position {column}"
                )
    return vectors


def pack_keys(
    keys: KeyBatch, start: int, stop: int, first: int, locate: Callable[[int], str]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return ``keys[start:stop]``, whose first is that of row `first`, as a `Block` holds them; a copy.

    Raises
    ------
    FormatError
        A key is null; ``locate(row)`` says for a person where a row is.
    """
    if keys.codes is None:
        part = KeyBatch(keys.data, keys.starts[start:stop], keys.stops[start:stop])
    else:
        part = replace(keys, codes=keys.codes[start:stop])
        nulls = np.flatnonzero(keys.codes[start:stop] < 0)
        if len(nulls):
            raise FormatError(
                f"{locate(first + int(nulls[0]))}: expected a key, found a null (None, NaN, or a str with a lone "
                "surrogate, which has no UTF-8); leave its row out"
            )
    return part.packed()


def read_row_keys(path: Path, rows: int, place: str) -> tuple[KeyBatch, os.stat_result]:
    """Read the keys of a matrix of `rows` rows, which `place` names, from a file that `read_keys` reads; and its state.

    Raises
    ------
    FormatError
        The file is missing or no such file, or holds another number of keys.
    """
    try:
        status = path.stat()
        keys = KeyBatch.of(read_keys(path))
    except FileNotFoundError:
        raise FormatError(
            f"{place}: expected the keys of its {rows:,} rows in {path}, one a line, found no such file; "
            "name the file: row_keys= (--row-keys)"
        ) from None
    except VocabularyError as error:
        raise FormatError(str(error)) from None
    if len(keys) != rows:
        raise FormatError(
            f"{path}: expected {rows:,} keys, one for each row of {place}, found {len(keys):,}; "
            "name another file: row_keys= (--row-keys)"
        )
    return keys, status


def take(stream: ByteStream, count: int) -> bytes:
    """Return the next `count` bytes of a stream, or fewer at its end."""
    data = bytearray(count)
    del data[stream.fill(memoryview(data)) :]
    return bytes(data)


class RowsSource:
    """Read a matrix of a file, whose header was read, and give its rows their keys; a `VectorSource`.

    Parameters
    ----------
    stream : ByteStream
        Before the first number; closed with the source.
    at : int
        The byte at which the stream is.
    matrix : Matrix
    size : int
        Bytes that the whole file must have, unpacked.
    row_keys : Path
        A file with a key for each row.
    format : str
        For `description`.

    Raises
    ------
    FormatError
        The file is shorter or longer, as far as that is known before it is read, or there are not as many keys.
    """

    def __init__(self, stream: ByteStream, at: int, matrix: Matrix, size: int, row_keys: Path, format: str) -> None:
        check_size(stream, size)
        self._keys, self._keys_status = read_row_keys(row_keys, matrix.rows, stream.place)
        self._stream = stream
        self._at = at
        self._matrix = matrix
        self._size = size
        self._format = format
        self.dim, self.expected = matrix.dim, matrix.rows
        self.departures: list[str] = []

    @property
    def description(self) -> Source:
        """The file's name and kind, the size of both files and when the later one was changed."""
        source, keys = self._stream.describe(self._format), self._keys_status
        modified = None if source.modified is None else max(source.modified, keys.st_mtime_ns)
        return replace(source, size=source.size + keys.st_size, modified=modified)

    @property
    def done(self) -> int:
        """Bytes of both files that were read, as they lie on disk."""
        return self._stream.done + self._keys_status.st_size

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def locate(self, record: int, position: int) -> str:
        """Say where a row is."""
        return f"{self._stream.place}: row {record:,}, byte {position:,}"

    def blocks(self) -> Iterator[Block]:
        """Read the rows, a few megabytes at a time.

        Raises
        ------
        FormatError
            The file is shorter or longer than it promised, a number is beyond float32, or a key is null.
        """
        matrix = self._matrix
        self._skip(matrix.start - self._at)
        step = max(1, BLOCK_BYTES // matrix.width)
        spare = SpareArrays((min(step, matrix.rows), matrix.dim), matrix.dtype)
        for first in range(0, matrix.rows, step):
            stop = min(first + step, matrix.rows)
            positions = matrix.start + matrix.width * np.arange(first, stop)
            data, offsets = pack_keys(self._keys, first, stop, first, self._locate)
            yield Block(data, offsets, self._read(first, spare.take()[: stop - first]), positions, first)
        if self._stream.compression or not self._stream.size:  # the size of a plain file is known already
            self._skip(self._size - matrix.stop)
            if self._stream.peek(1):
                raise FormatError(
                    f"{self._stream.place}: byte {self._size:,}: expected the end, as the header says, "
                    "found more; the file is damaged"
                )

    def _read(self, first: int, numbers: NDArray[Any]) -> NDArray[np.float32]:
        matrix = self._matrix
        filled = self._stream.fill(numbers.view(np.uint8).reshape(-1).data)
        if filled < numbers.nbytes:
            raise self._ends(matrix.start + first * matrix.width + filled)
        if matrix.dtype == np.float32:
            return numbers
        return as_float32(matrix.decode(numbers), first, self._locate)

    def _skip(self, count: int) -> None:
        buffer = memoryview(bytearray(min(count, BLOCK_BYTES)))
        while count:
            filled = self._stream.fill(buffer[:count])
            if not filled:
                raise self._ends(self._size - count)
            count -= filled

    def _ends(self, position: int) -> FormatError:
        return FormatError(
            f"{self._stream.place}: byte {position:,}: expected {self._size:,} bytes, as the header says, "
            "found the end; the file is cut short"
        )

    def _locate(self, row: int) -> str:
        return self.locate(row, self._matrix.start + row * self._matrix.width)


def check_size(stream: ByteStream, size: int) -> None:
    """Raise FormatError unless a file can have, unpacked, the `size` bytes that its header promises."""
    if size > stream.most:
        raise FormatError(
            f"{stream.place}: expected {size:,} bytes, as the header says, found {stream.most:,} at most; "
            "the file is cut short"
        )
    if not stream.compression and 0 < stream.size != size:
        raise FormatError(
            f"{stream.place}: expected {size:,} bytes, as the header says, found {stream.size:,}; the file is damaged"
        )
