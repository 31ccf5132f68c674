"""Rows of a corpus, before it is known which of them are good: CSV, JSON lines, lines of text, Arrow.

A range of rows is read at once. Where that fails it is halved until the bad rows are alone, so that each can be named,
and all others are read whatever is wrong with these.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
from numpy.typing import NDArray

from vecstore.kernels.csv import find_records
from vecstore.keys import frozen

__all__ = ["ArrowRows", "Csv", "JsonLines", "RecordFormat", "RecordRows", "Rows", "TextLines", "good_tables"]

_NEWLINE, _RETURN, _BRACE = 10, 13, 123
_LEAST_BLOCK = 1 << 16


class RecordFormat(ABC):
    """A grammar of files that are records of bytes, one after the other."""

    @abstractmethod
    def ends(self, data: NDArray[np.uint8], *, is_last: bool) -> NDArray[np.int64]:
        """Return where each whole record of `data` ends, after its newline.

        With `is_last` what follows the last newline is a record too.

        Raises
        ------
        ValueError
            The last record never ends.
        """

    @abstractmethod
    def read(self, data: bytes) -> pa.Table:
        """Return the rows of some whole records.

        Raises
        ------
        pa.ArrowInvalid
            One of them is not as it should be.
        """


@dataclass(frozen=True)
class TextLines(RecordFormat):
    """Every line is a text, an empty one too; the column is named `column`."""

    column: str

    def ends(self, data: NDArray[np.uint8], *, is_last: bool) -> NDArray[np.int64]:
        return _line_ends(data, is_last=is_last)

    def read(self, data: bytes) -> pa.Table:
        given = np.frombuffer(data, np.uint8)
        ends = _line_ends(given, is_last=True)
        kept = given != _NEWLINE
        kept[:-1] &= (given[:-1] != _RETURN) | kept[1:]
        offsets = np.append(0, np.cumsum(kept)[ends - 1]).astype(np.int64)
        text = pa.py_buffer(given[kept])
        return pa.table({self.column: pa.LargeStringArray.from_buffers(len(ends), pa.py_buffer(offsets), text)})


@dataclass(frozen=True)
class JsonLines(RecordFormat):
    """Every line is an object; empty lines are none.

    `schema` names the columns and their types; None infers both. `is_strict` makes other names an error.
    """

    schema: pa.Schema | None = None
    is_strict: bool = True

    def ends(self, data: NDArray[np.uint8], *, is_last: bool) -> NDArray[np.int64]:
        ends = _line_ends(data, is_last=is_last)
        starts = np.append(0, ends[:-1])[: len(ends)]
        lengths, first = ends - starts, data[starts]
        empty = (lengths == 1) & (first == _NEWLINE) | (lengths == 2) & (first == _RETURN)
        return np.compress(~empty, ends)

    def read(self, data: bytes) -> pa.Table:
        if not data.strip():
            return pa.table({}) if self.schema is None else self.schema.empty_table()
        _check_objects(data)
        others = "infer" if self.schema is None else "error" if self.is_strict else "ignore"
        return pyarrow.json.read_json(
            BytesIO(data),
            read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=max(len(data), _LEAST_BLOCK) + 1),
            parse_options=pyarrow.json.ParseOptions(explicit_schema=self.schema, unexpected_field_behavior=others),
        )


@dataclass(frozen=True)
class Csv(RecordFormat):
    """Records of fields between delimiters, quoted where needed; empty lines are none.

    `names` are the file's columns in order; `schema` names those to read, all of them strings, absent ones being null.
    """

    delimiter: str
    names: tuple[str, ...]
    schema: pa.Schema

    def ends(self, data: NDArray[np.uint8], *, is_last: bool) -> NDArray[np.int64]:
        room = np.count_nonzero(data == _NEWLINE) + np.count_nonzero(data == _RETURN) + 1
        ends = np.empty(room, np.int64)
        found = int(find_records(frozen(data), ord(self.delimiter), int(is_last), ends))
        if found < 0:
            raise ValueError("a quote is not closed until the end of the file")
        return ends[:found]

    def read(self, data: bytes) -> pa.Table:
        if not data.strip(b"\r\n"):
            return self.schema.empty_table()
        return pyarrow.csv.read_csv(
            BytesIO(data),
            read_options=pyarrow.csv.ReadOptions(
                column_names=self.names, use_threads=False, block_size=max(len(data), _LEAST_BLOCK) + 1
            ),
            parse_options=pyarrow.csv.ParseOptions(delimiter=self.delimiter, newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=self.schema, include_columns=self.schema.names, include_missing_columns=True
            ),
        )


class Rows(ABC):
    """Rows that can be read in ranges."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def table(self, start: int, stop: int) -> pa.Table:
        """Return rows start <= i < stop; pa.ArrowInvalid if one of them is bad."""


@dataclass(frozen=True)
class RecordRows(Rows):
    """Whole records: row i ends at ``ends[i]``, where the next one begins."""

    format: RecordFormat
    data: bytes
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ends)

    def table(self, start: int, stop: int) -> pa.Table:
        low = int(self.ends[start - 1]) if start else 0
        high = int(self.ends[stop - 1]) if stop else 0
        data = self.data[low:high]
        table = self.format.read(data)
        table.validate(full=True)  # pyarrow reads JSON without a look at its UTF-8
        if len(table) != stop - start and not (stop - start == 1 and not data.strip()):
            raise pa.ArrowInvalid(f"expected one row, found {len(table)}")
        return table


@dataclass(frozen=True)
class ArrowRows(Rows):
    """Rows of a table, whose text may be no UTF-8."""

    rows: pa.Table
    column: str

    def __len__(self) -> int:
        return len(self.rows)

    def __reduce__(self) -> tuple[Any, ...]:
        # As a stream: a pickled table would take the bytes along that it is a slice of.
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self.rows.schema) as writer:
            writer.write_table(self.rows)
        return _arrow_rows, (sink.getvalue(), self.column)

    def table(self, start: int, stop: int) -> pa.Table:
        table = self.rows.slice(start, stop - start)
        table[self.column].validate(full=True)
        return table


def _arrow_rows(stream: pa.Buffer, column: str) -> ArrowRows:
    return ArrowRows(pa.ipc.open_stream(stream).read_all(), column)


def good_tables(rows: Rows, bad: Callable[[int, str], None]) -> Iterator[pa.Table]:
    """Yield all good rows, in order; call ``bad(row, reason)`` for each of the others, which may raise."""
    waiting = [(0, len(rows))]
    while waiting:
        start, stop = waiting.pop()
        try:
            table = rows.table(start, stop)
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            if stop - start == 1:
                bad(start, _reason(error))
            else:
                middle = (start + stop) // 2
                waiting += [(middle, stop), (start, middle)]
        else:
            yield table


def _line_ends(data: NDArray[np.uint8], *, is_last: bool) -> NDArray[np.int64]:
    ends = np.flatnonzero(data == _NEWLINE) + 1
    if is_last and len(data) and data[-1] != _NEWLINE:
        ends = np.append(ends, len(data))
    return ends


def _check_objects(data: bytes) -> None:
    """Raise ArrowInvalid if a line is no object: pyarrow's reader crashes at ``null, 1`` (26.0)."""
    array = np.frombuffer(data, np.uint8)
    starts = np.append(0, np.flatnonzero(array[:-1] == _NEWLINE) + 1)
    for start in starts[array[starts] != _BRACE].tolist():
        line = data[start : data.find(b"\n", start) % (len(data) + 1)].lstrip(b" \t\r")
        if line and not line.startswith(b"{"):
            raise pa.ArrowInvalid(f"expected an object, found {line[:40]!r}")


def _reason(error: Exception) -> str:
    """Return what Arrow says, without its own numbers of rows, which count from the start of a range."""
    numbers = r" in row \d+|Row #\d+: |In chunk \d+: |Column \d+: | at string index \d+|Invalid: "
    return re.sub(numbers, "", str(error)).rstrip(".\n")
