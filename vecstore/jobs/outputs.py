"""Outputs: how a block's result is written as a part, and how parts become the target.

A part is written under a name of its own by whichever worker has the block, synced, and counts from when the job has
noted it. `join` makes the target of all parts, in the folder where they are; the parts stay until it has its name.
"""

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from vecstore.batches import BatchFunction, ColumnFunction
from vecstore.counts import Counts
from vecstore.errors import FormatError
from vecstore.functions import CountTexts, EmbedTexts, EncodeTexts
from vecstore.jobs.files import FORMATS
from vecstore.new_arrays import ArrayWriter
from vecstore.vocabulary import write_vocabulary

__all__ = ["ArrayOutput", "CountsOutput", "FolderOutput", "Output", "ParquetOutput", "output_for"]

_GROUP_BYTES = 1 << 23  # of a row group: what a worker holds, twice while it is written
_PIECE_BYTES, _PIECE_ROWS = 1 << 20, 1 << 13  # of texts that are worked on at a time
_JOINED = "joined"


class Output(ABC):
    """What becomes of a function's results."""

    suffix: str
    """Of a part's file."""
    is_folder = False
    """Whether the target is a folder of the parts themselves."""

    @abstractmethod
    def write(self, path: Path, tables: Iterable[pa.Table]) -> Counter[str]:
        """Write the part of a block, whose rows are `tables`, to a new file, synced; return figures of it."""

    @abstractmethod
    def join(self, parts: Sequence[Path], folder: Path) -> Path:
        """Return a file or folder on disk with all parts in order: a new one in `folder`, or `folder` itself."""


@dataclass(frozen=True)
class FolderOutput(Output):
    """A folder of Parquet files: each row with the function's columns appended."""

    function: ColumnFunction
    schema: pa.Schema
    suffix = ".parquet"
    is_folder = True

    def write(self, path: Path, tables: Iterable[pa.Table]) -> Counter[str]:
        figures: Counter[str] = Counter()

        def made() -> Iterator[pa.Table]:
            for piece in _pieces(tables, self.function.column):
                columns = self.function.columns(piece)
                figures.update(columns.figures)
                yield pa.table([*piece.columns, *columns.arrays], schema=self.schema)

        figures["rows"] += _write_parquet(path, self.schema, made())
        return figures

    def join(self, parts: Sequence[Path], folder: Path) -> Path:
        return folder


@dataclass(frozen=True)
class ParquetOutput(FolderOutput):
    """One Parquet file."""

    is_folder = False

    def join(self, parts: Sequence[Path], folder: Path) -> Path:
        def groups() -> Iterator[pa.Table]:
            for part in parts:
                with pa.parquet.ParquetFile(part) as file:
                    for group in range(file.num_row_groups):
                        yield file.read_row_group(group, use_threads=False)

        _write_parquet(folder / _JOINED, self.schema, groups())
        return folder / _JOINED


@dataclass(frozen=True)
class ArrayOutput(Output):
    """A `.npy` file: the function's column alone, a row for each row."""

    function: ColumnFunction
    width: int
    dtype: np.dtype[np.generic]
    suffix = ".npy"

    def write(self, path: Path, tables: Iterable[pa.Table]) -> Counter[str]:
        figures: Counter[str] = Counter()
        with ArrayWriter(path, self.dtype, (self.width,)) as writer:
            for piece in _pieces(tables, self.function.column):
                columns = self.function.columns(piece)
                figures.update(columns.figures)
                writer.append(columns.arrays[0].values.to_numpy().reshape(-1, self.width))
            writer.finish()
        figures["rows"] += writer.rows
        return figures

    def join(self, parts: Sequence[Path], folder: Path) -> Path:
        joined = folder / _JOINED
        step = max(1, _GROUP_BYTES // (self.width * self.dtype.itemsize))
        with ArrayWriter(joined, self.dtype, (self.width,)) as writer:
            for part in parts:
                rows = np.load(part, mmap_mode="r", allow_pickle=False)
                for start in range(0, len(rows), step):
                    writer.append(np.asarray(rows[start : start + step]))
            writer.finish()
        return joined


@dataclass(frozen=True)
class CountsOutput(Output):
    """The counts of all texts as `Counts.save` writes them, or with a `format` a vocabulary made of them."""

    function: CountTexts
    format: str
    min_count: int
    max_size: int | None
    suffix = ".parquet"

    def write(self, path: Path, tables: Iterable[pa.Table]) -> Counter[str]:
        counts = _sum(map(self.function.count, _pieces(tables, self.function.column)))
        counts.save(path)
        return Counter({"rows": counts.documents, "tokens": counts.tokens})

    def join(self, parts: Sequence[Path], folder: Path) -> Path:
        counts = _sum(map(Counts.load, parts))
        if self.format == ".parquet":
            counts.save(folder / _JOINED)
        else:
            write_vocabulary(folder / _JOINED, counts.vocabulary(self.min_count, self.max_size), self.format)
        return folder / _JOINED


def output_for(
    function: BatchFunction, schema: pa.Schema, target: Path, min_count: int, max_size: int | None
) -> Output:
    """Return what makes `target`, by its suffix, of the function's results for tables of `schema`.

    Raises
    ------
    FormatError
        The column holds no texts.
    ValueError
        The target cannot hold the results, or options have no effect on them.
    """
    suffix = target.suffix.lower()
    try:
        result = function.schema(schema)
    except TypeError as error:
        raise FormatError(str(error)) from None
    if isinstance(function, CountTexts):
        if suffix not in (".parquet", ".json", ".txt"):
            raise ValueError(f"{target}: expected .parquet for counts, .json or .txt for a vocabulary")
        if suffix == ".parquet" and (min_count, max_size) != (1, None):
            raise ValueError(
                "min_count, max_size: have no effect on counts, which are kept whole; make a .json or .txt"
            )
        return CountsOutput(function, suffix, min_count, max_size)
    if not isinstance(function, EmbedTexts | EncodeTexts):
        raise TypeError(f"expected EmbedTexts, EncodeTexts or CountTexts, found {type(function).__name__}")
    if (min_count, max_size) != (1, None):
        raise ValueError("min_count, max_size: have no effect but on a vocabulary")
    if suffix == ".npy":
        kind = result.field(function.into).type
        if not pa.types.is_fixed_size_list(kind):
            raise ValueError(f"{target}: expected rows of one length for an array, found {kind}; give a length")
        return ArrayOutput(
            function, kind.list_size, np.dtype(np.float32 if pa.types.is_floating(kind.value_type) else np.int32)
        )
    if suffix in FORMATS and suffix != ".parquet":
        raise ValueError(f"{target}: expected .parquet, .npy, or the name of a folder for Parquet files")
    return (ParquetOutput if suffix == ".parquet" else FolderOutput)(function, result)


def _sum(counts: Iterable[Counts]) -> Counts:
    return Counts.from_word_counts({}).merge(counts)


def _pieces(tables: Iterable[pa.Table], column: str) -> Iterator[pa.Table]:
    """Yield tables of texts that fit the processor's cache."""
    for table in tables:
        step = max(1, min(_PIECE_ROWS, _PIECE_BYTES * len(table) // max(table[column].nbytes, 1)))
        yield from (table.slice(start, step) for start in range(0, len(table), step))


def _write_parquet(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> int:
    """Write a new Parquet file with row groups of some MB, synced; return its rows."""
    flat = [column.name for column in schema if not pa.types.is_nested(column.type)]
    with path.open("xb") as file:
        # Numbers of vectors repeat nowhere: neither a dictionary nor their least and largest would be of use.
        with pa.parquet.ParquetWriter(file, schema, use_dictionary=flat, write_statistics=flat) as writer:
            rows, waiting, size = 0, [], 0
            for table in tables:
                waiting.append(table)
                size += table.nbytes
                rows += len(table)
                if size >= _GROUP_BYTES:
                    writer.write_table(pa.concat_tables(waiting), row_group_size=1 << 30)
                    waiting, size = [], 0
            if waiting:
                writer.write_table(pa.concat_tables(waiting), row_group_size=1 << 30)
        file.flush()
        os.fsync(file.fileno())
    return rows
