"""Parquet: ranges of a file's rows, with little more than them in memory."""

from collections.abc import Iterator
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from vecstore.errors import FormatError

__all__ = ["ParquetRows"]

_BATCH = 1 << 13  # rows that are decoded at a time
_BUFFER = 1 << 20


class ParquetRows:
    """A file whose rows are read in ranges that ascend, none twice; use as a context manager.

    Parameters
    ----------
    path : str

    Attributes
    ----------
    schema : pa.Schema
        All columns.
    rows : int
    size : int
        Bytes of all rows before they were packed.

    Raises
    ------
    FormatError
        It is no Parquet file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._file = pa.parquet.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER)
        except pa.ArrowInvalid as error:
            raise FormatError(f"{path}: expected a Parquet file: {error}") from None
        self.schema = self._file.schema_arrow.remove_metadata()
        metadata = self._file.metadata
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        self._group_stops = np.cumsum([group.num_rows for group in groups])
        self.rows, self.size = metadata.num_rows, sum(group.total_byte_size for group in groups)
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._rest: list[pa.RecordBatch] = []
        self._at = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def take(self, start: int, stop: int, wanted: pa.Schema) -> pa.Table:
        """Return rows start <= i < stop with the columns `wanted`, always the same ones; nulls where there is none.

        Raises
        ------
        FormatError
            The file is damaged, or a column is of another type.
        """
        names = [name for name in wanted.names if name in self.schema.names]
        try:
            if start != self._at:
                self._skip_to(start, names)
            while sum(map(len, self._rest)) < stop - start:
                self._rest.append(next(self._batches))
        except (pa.ArrowException, OSError, StopIteration) as error:
            raise FormatError(f"{self._path}: rows {start + 1:,} to {stop:,} cannot be read: {error}") from None
        table = pa.Table.from_batches(self._rest)
        self._rest = table.slice(stop - start).to_batches()
        self._at = stop
        return self._as_wanted(table.slice(0, stop - start), wanted)

    def _skip_to(self, start: int, names: list[str]) -> None:
        group = int(np.searchsorted(self._group_stops, start, "right"))
        left = start - (int(self._group_stops[group - 1]) if group else 0)
        self._batches = self._file.iter_batches(_BATCH, range(group, len(self._group_stops)), names, use_threads=False)
        self._rest = []
        while left:
            batch = next(self._batches)
            if len(batch) > left:
                self._rest = [batch.slice(left)]
            left -= min(len(batch), left)

    def _as_wanted(self, table: pa.Table, wanted: pa.Schema) -> pa.Table:
        columns = {}
        for field in wanted:
            if field.name not in self.schema.names:
                columns[field.name] = pa.nulls(len(table), field.type)
                continue
            try:
                columns[field.name] = table[field.name].cast(field.type)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                found = table[field.name].type
                raise FormatError(
                    f"{self._path}: column {field.name!r}: expected {field.type} as in the first file, found {found}"
                ) from None
        return pa.table(columns, schema=wanted)
