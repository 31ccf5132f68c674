"""Corpus: the files that a job reads, the columns they have, and their rows in blocks.

A block is cut from one file by numbers alone, its rows and bytes, so that the same corpus always has the same blocks.
CSV, JSON lines and text may be packed (gzip, zip, bz2, xz, zstd), which their content says. All columns of CSV are
text, as the file has it: 007 stays 007, and no number in the last row can stop a job that took the others for dates.
Types of JSON columns are those of the first block; what does not fit them later is a bad row.
"""

from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa

from vecstore.choices import CorpusFormat
from vecstore.errors import FormatError
from vecstore.jobs.files import CorpusFile, find_files, format_of
from vecstore.jobs.parquet import ParquetRows
from vecstore.jobs.records import BLOCK_BYTES, BLOCK_ROWS, Records
from vecstore.jobs.rows import ArrowRows, Csv, JsonLines, RecordFormat, RecordRows, Rows, TextLines, good_tables

__all__ = ["Block", "Corpus"]


@dataclass(frozen=True)
class Block:
    """Some rows of one file, which become one part of the result.

    Attributes
    ----------
    number : int
        Of the block among all of the corpus.
    file : CorpusFile
    first_row : int
        Number of the first row in the file, from 1; a header is none.
    rows : Rows
    done : int
        Bytes of the corpus up to the block's end, as they lie on disk.
    """

    number: int
    file: CorpusFile
    first_row: int
    rows: Rows
    done: int


@dataclass(frozen=True)
class Corpus:
    """Files of one format, and the columns that are read of them.

    Attributes
    ----------
    files : sequence of CorpusFile
        In the order of their rows.
    format : str
        "parquet", "csv", "json" or "text".
    column : str
        The column of texts.
    file_schema : pa.Schema
        The columns that are read of each file.
    constants : pa.Schema
        The columns that the names of folders give.
    delimiter : str
        Of CSV.
    is_strict : bool
        Whether a file may have no other columns.
    """

    files: Sequence[CorpusFile]
    format: CorpusFormat
    column: str
    file_schema: pa.Schema
    constants: pa.Schema
    delimiter: str
    is_strict: bool

    @classmethod
    def of(
        cls, source: Path, column: str, *, keep: Sequence[str] | None, format: CorpusFormat, delimiter: str | None
    ) -> "Corpus":
        """Find a corpus's files, and the types of their columns, of which `column` and `keep` (None: all) are read.

        Raises
        ------
        FileNotFoundError
            Nothing is at `source`.
        FormatError
            There are no files, files of several formats or of none that is known, or the first cannot be read.
        KeyError
            A column is missing.
        """
        files, constants = find_files(source)
        chosen = format_of(files, source) if format == "auto" else format
        if delimiter is None:
            delimiter = "\t" if ".tsv" in Path(files[0].path).suffixes else ","
        elif len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n':
            raise ValueError(f"delimiter: expected one ASCII character, found {delimiter!r}")
        found = _infer(files, chosen, column, delimiter)
        names = [*found.names, *(name for name in constants.names if name not in found.names)]
        for name in (column, *(keep or ())):
            if name not in (found.names if name == column else names):
                raise KeyError(f"{files[0].path}: expected a column {name!r}, found {', '.join(names)}")
        wanted = set(names if keep is None else [column, *keep])
        file_schema = pa.schema([field for field in found if field.name in wanted])
        constants = pa.schema([constants.field(name) for name in names[len(found) :] if name in wanted])
        return cls(files, chosen, column, file_schema, constants, delimiter, keep is None)

    @property
    def schema(self) -> pa.Schema:
        """The columns of the tables that `tables` gives."""
        return pa.schema([*self.file_schema, *self.constants])

    @property
    def size(self) -> int:
        """Bytes of all files as they lie on disk."""
        return sum(file.size for file in self.files)

    def blocks(self, finished: Set[int] = frozenset()) -> Iterator[Block]:
        """Yield all blocks but those whose numbers are given; there is at least one, which may have no rows."""
        number, before = 0, 0
        for file in self.files:
            first_row = 1
            for count, make_rows, share in _cut_parquet(self, file) if self.format == "parquet" else _cut(self, file):
                if number not in finished:
                    yield Block(number, file, first_row, make_rows(), before + int(share * file.size))
                number += 1
                first_row += count
            before += file.size
        if number == 0 and 0 not in finished:
            yield Block(0, self.files[0], 1, ArrowRows(self.file_schema.empty_table(), self.column), before)

    def tables(self, block: Block, bad: Callable[[int, str], None]) -> Iterator[pa.Table]:
        """Yield the good rows of a block as tables of `schema`; call ``bad(row, reason)`` for each of the others."""
        for table in good_tables(block.rows, lambda row, reason: bad(block.first_row + row, reason)):
            columns = dict(zip(table.column_names, table.columns, strict=True))
            for constant in self.constants:
                value = pa.scalar(block.file.constants.get(constant.name), constant.type)
                columns[constant.name] = pa.repeat(value, len(table))
            yield pa.table(columns, schema=self.schema)


_Cut = tuple[int, Callable[[], Rows], float]
"""The number of a block's rows, a function that gives them, and what share of the file is read with them."""


def _cut_parquet(corpus: Corpus, file: CorpusFile) -> Iterator[_Cut]:
    """Cut a Parquet file into blocks of as many rows each; row groups that nobody asks for are not decoded."""
    with ParquetRows(file.path) as rows:
        _check_columns(corpus, file, rows.schema.names)
        height = max(1, min(BLOCK_ROWS, BLOCK_BYTES * rows.rows // max(rows.size, 1)))
        for start in range(0, rows.rows, height):
            stop = min(start + height, rows.rows)

            def take(start: int = start, stop: int = stop) -> Rows:
                return ArrowRows(rows.take(start, stop, corpus.file_schema), corpus.column)

            yield stop - start, take, stop / rows.rows


def _cut(corpus: Corpus, file: CorpusFile) -> Iterator[_Cut]:
    """Cut a file of records into blocks of so many rows or bytes at most."""
    with Records(file) as records:
        format: RecordFormat = TextLines(corpus.column)
        if corpus.format == "csv":
            names = records.take_header(corpus.delimiter)
            _check_columns(corpus, file, names)
            format = Csv(corpus.delimiter, names, corpus.file_schema)
        elif corpus.format == "json":
            format = JsonLines(corpus.file_schema, corpus.is_strict)
        for data, ends in records.blocks(format):
            yield len(ends), partial(RecordRows, format, data, ends), records.share


def _infer(files: Sequence[CorpusFile], format: CorpusFormat, column: str, delimiter: str) -> pa.Schema:
    """Return the columns of the first file; of JSON those of the first block that there is."""
    if format == "parquet":
        with ParquetRows(files[0].path) as rows:
            return rows.schema
    if format == "text":
        return pa.schema([(column, pa.string())])
    if format == "csv":
        with Records(files[0]) as records:
            return pa.schema([(name, pa.string()) for name in records.take_header(delimiter)])
    for file in files:
        with Records(file) as records:
            block = next(records.blocks(JsonLines()), None)
        if block is not None:
            return _infer_json(RecordRows(JsonLines(), *block))
    return pa.schema([(column, pa.string())])


def _infer_json(rows: Rows) -> pa.Schema:
    found = pa.schema([])
    for table in good_tables(rows, lambda row, reason: None):
        # A row that contradicts those before it will be a bad one.
        with suppress(pa.ArrowInvalid, pa.ArrowTypeError):
            found = pa.unify_schemas([found, table.schema], promote_options="permissive")
    # A timestamp is a string that looks like one.
    vague = (pa.types.is_null, pa.types.is_timestamp)
    kinds = (pa.string() if any(is_kind(field.type) for is_kind in vague) else field.type for field in found)
    return pa.schema(list(zip(found.names, kinds, strict=True)))


def _check_columns(corpus: Corpus, file: CorpusFile, names: Sequence[str]) -> None:
    if corpus.column not in names:
        raise KeyError(f"{file.path}: expected a column {corpus.column!r}, found {', '.join(names)}")
    others = [name for name in names if name not in corpus.file_schema.names]
    if corpus.is_strict and others:
        raise FormatError(
            f"{file.path}: expected the columns of {corpus.files[0].path}, found {others[0]!r} too; "
            "to name those that are kept: --keep (keep=)"
        )
