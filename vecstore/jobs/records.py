"""Records: a file of records of bytes, read once, in blocks of whole ones."""

from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from vecstore.errors import FormatError
from vecstore.formats.stream import ByteStream
from vecstore.jobs.files import CorpusFile
from vecstore.jobs.rows import Csv, RecordFormat

__all__ = ["BLOCK_BYTES", "BLOCK_ROWS", "Records"]

BLOCK_ROWS, BLOCK_BYTES = 1 << 15, 1 << 23
"""What a block has at most; a longer row is one alone."""

_LONGEST = 1 << 28  # bytes of a record; what is longer has lost a quote or its newlines
_BOM = b"\xef\xbb\xbf"
_UTF16 = b"\xff\xfe", b"\xfe\xff"


class Records:
    """Read a file once, in blocks of whole records; use as a context manager.

    Raises
    ------
    FormatError
        The file is packed in a way that nobody here reads, or damaged.
    """

    def __init__(self, file: CorpusFile) -> None:
        self._file = file
        self._stream = None if file.size == 0 else ByteStream(Path(file.path), wanted="a file of texts")
        self._rest = b""
        self._is_last = False
        self._row = 1

    def __enter__(self) -> Self:
        try:
            self._read(BLOCK_BYTES)
            if self._rest.startswith(_UTF16):
                raise FormatError(f"{self._file.path}: expected text in UTF-8, found UTF-16; save it as UTF-8")
        except BaseException:
            self.__exit__()
            raise
        self._rest = self._rest.removeprefix(_BOM)
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()

    @property
    def share(self) -> float:
        """How much of the file was read, from 0 to 1."""
        return 1.0 if self._stream is None or self._is_last else self._stream.done / self._file.size

    def take_header(self, delimiter: str) -> tuple[str, ...]:
        """Read the names in the header of a CSV file."""
        ends = self._ends(Csv(delimiter, (), pa.schema([])))
        header = self._rest[: ends[0]] if len(ends) else b""
        self._rest = self._rest[len(header) :]
        return _names(header, delimiter, self._file.path)

    def blocks(self, format: RecordFormat) -> Iterator[tuple[bytes, NDArray[np.int64]]]:
        """Yield the rest of the file: the bytes of a block, and where each of its records ends."""
        while True:
            ends = self._ends(format)
            start = first = 0
            while first < len(ends):
                last = min(first + BLOCK_ROWS, int(np.searchsorted(ends, start + BLOCK_BYTES, "right")))
                if last == len(ends) and not self._is_last and len(self._rest) - start <= BLOCK_BYTES:
                    break  # the next record may fit
                last = max(last, first + 1)
                stop = int(ends[last - 1])
                yield self._rest[start:stop], ends[first:last] - start
                self._row += last - first
                start, first = stop, last
            self._rest = self._rest[start:]
            if self._is_last:
                return
            self._read(max(BLOCK_BYTES, 2 * len(self._rest)))

    def _ends(self, format: RecordFormat) -> NDArray[np.int64]:
        """Return where the records in memory end, of which there is at least one, unless the file has no more."""
        while True:
            try:
                ends = format.ends(np.frombuffer(self._rest, np.uint8), is_last=self._is_last)
            except ValueError as error:
                raise FormatError(f"{self._file.path}, from row {self._row:,} on: {error}") from None
            if len(ends) or self._is_last:
                return ends
            if len(self._rest) > _LONGEST:
                raise FormatError(
                    f"{self._file.path}, row {self._row:,}: expected rows of less than {_LONGEST:,} bytes, "
                    "found one that does not end"
                )
            self._read(2 * len(self._rest))

    def _read(self, size: int) -> None:
        """Read until `size` bytes are in memory, or the file ends."""
        more = bytearray(max(0, size - len(self._rest)))
        count = 0 if self._stream is None else self._stream.fill(memoryview(more))
        self._is_last = count < len(more)
        self._rest += bytes(memoryview(more)[:count])


def _names(header: bytes, delimiter: str, path: str) -> tuple[str, ...]:
    """Return the names in the header of a CSV file."""
    if not header:
        raise FormatError(f"{path}: expected a header with the columns' names, found an empty file")
    options = pa.csv.ReadOptions(autogenerate_column_names=True)
    parsing = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    try:
        table = pa.csv.read_csv(pa.BufferReader(header), options, parsing, pa.csv.ConvertOptions(null_values=[]))
        names = tuple(str(column[0].cast(pa.string())) for column in table.columns)
    except pa.ArrowInvalid as error:
        raise FormatError(f"{path}: expected a header with the columns' names: {error}") from None
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise FormatError(f"{path}: expected a header with distinct names, found {twice!r} twice")
    return names
