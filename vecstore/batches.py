"""Functions from Arrow batch to Arrow batch: what a worker of any engine does with its share of a corpus.

Such a function is settings and addresses and pickles in some hundred bytes. Each process that calls it opens the store,
or reads the vocabulary, once; a store's vectors are shared by all processes of a machine.

It takes what engines hand out and gives the same kind back: a ``pyarrow.RecordBatch`` (multiprocessing), a
``pyarrow.Table`` (Ray Data, Hugging Face datasets), an iterator of batches (Spark's ``mapInArrow``), a pandas
``DataFrame`` (Dask).
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from vecstore.arrays import checksum
from vecstore.choices import PoolingName, Side
from vecstore.counts import Counts, count
from vecstore.encoding import Encoder, encode, encode_ragged
from vecstore.keys import KeyBatch, frozen
from vecstore.layout import METADATA
from vecstore.store import VectorStore, open_store
from vecstore.tokenizer import Tokenizer
from vecstore.tokens import Tokens
from vecstore.vocabulary import read_vocabulary

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BatchFunction", "ColumnFunction", "CountTexts", "EmbedTexts", "EncodeTexts", "NewColumns"]

_KEPT = 4  # stores and vocabularies that a process keeps open


@dataclass(frozen=True, kw_only=True)
class BatchFunction(ABC):
    """What all have in common: a column of texts, and how they are cut.

    Parameters
    ----------
    column : str, default "text"
        The column to read: strings (also large, view, dictionary-encoded), whose nulls are empty texts; or lists of
        strings, texts that are tokenised already.
    tokenizer : Tokenizer, default ``Tokenizer()``
        How strings are cut.
    """

    column: str = "text"
    tokenizer: Tokenizer = field(default_factory=Tokenizer)

    @abstractmethod
    def schema(self, schema: "pa.Schema") -> "pa.Schema":
        """Return the schema of the result for a batch of `schema`.

        Raises
        ------
        KeyError
            There is no such column.
        TypeError
            It holds no texts.
        ValueError
            There is a column of the result's name already.
        """

    @abstractmethod
    def table(self, table: "pa.Table") -> "pa.Table":
        """Return the result for a table; raises what `schema` does."""

    def describe(self) -> dict[str, Any]:
        """Return all settings as JSON has them, and checksums of the files that they name."""
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        tokenizer = {field.name: getattr(self.tokenizer, field.name) for field in fields(self.tokenizer)}
        if self.tokenizer.analyzer is not None:
            tokenizer["analyzer"] = getattr(self.tokenizer.analyzer, "__qualname__", repr(self.tokenizer.analyzer))
        return {**settings, "tokenizer": tokenizer}

    def __call__(self, batch: Any) -> Any:
        """Return the result for a batch, of the same kind as the batch: see the module docstring.

        Raises
        ------
        TypeError
            `batch` is none of these. Otherwise as `schema`.
        """
        import pyarrow as pa

        if isinstance(batch, pa.Table):
            return self.table(batch)
        if isinstance(batch, pa.RecordBatch):
            return _as_batch(self.table(pa.Table.from_batches([batch])))
        if isinstance(batch, Iterator):
            return self.partition(batch)
        if hasattr(batch, "iloc") and hasattr(batch, "columns"):
            return self._frame(batch)
        raise TypeError(
            f"expected a pyarrow.Table, RecordBatch, an iterator of them or a pandas.DataFrame, "
            f"found {type(batch).__name__}; Hugging Face datasets: dataset.with_format('arrow')"
        )

    def partition(self, batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        """Yield the result of each batch; what Spark's ``mapInArrow`` calls."""
        return map(self, batches)

    def spark_schema(self, schema: Any) -> Any:
        """Return the result's schema as ``mapInArrow`` wants it, for a DataFrame of `schema`; needs pyspark.

        Parameters
        ----------
        schema : pyspark.sql.types.StructType

        Returns
        -------
        pyspark.sql.types.StructType
        """
        from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema

        return from_arrow_schema(self.schema(to_arrow_schema(schema)))

    def _frame(self, frame: Any) -> Any:
        import pandas as pd
        import pyarrow as pa

        if self.column not in frame.columns:
            raise KeyError(_no_column(self.column, list(frame.columns)))
        # Of the other columns only names matter: they stay as they are, whatever pandas holds in them.
        given = pa.table({name: pa.nulls(len(frame)) for name in frame.columns if name != self.column})
        given = given.append_column(self.column, pa.array(frame[self.column], from_pandas=True))
        result = self.table(given)
        made = {
            name: pd.Series(pd.arrays.ArrowExtensionArray(result[name]), index=frame.index)
            for name in result.column_names
            if name not in given.column_names
        }
        return frame.assign(**made)

    def _texts(self, table: "pa.Table") -> Any:
        """Return the column to read, as `Tokenizer.tokenize` takes it, or as `Tokens`."""
        import pyarrow as pa

        kind = _text_type(table.schema, self.column)
        texts = table[self.column]
        if pa.types.is_null(kind):
            return texts.cast(pa.string())
        return texts if _is_text(kind) else Tokens.of(texts)


class NewColumns(NamedTuple):
    """What a function makes of a table: columns, and figures to add up."""

    arrays: "list[pa.Array]"
    figures: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class ColumnFunction(BatchFunction):
    """A function that appends columns."""

    @abstractmethod
    def columns(self, table: "pa.Table") -> NewColumns:
        """Return the new columns of a table, whose `schema` was found to be good."""

    def table(self, table: "pa.Table") -> "pa.Table":
        """Return `table` with the new columns; the others are shared."""
        import pyarrow as pa

        schema = self.schema(table.schema)
        return pa.table([*table.columns, *self.columns(table).arrays], schema=schema)

    def _tokens(self, table: "pa.Table") -> Tokens:
        texts = self._texts(table)
        return texts if isinstance(texts, Tokens) else self.tokenizer.tokenize(texts)


@dataclass(frozen=True, kw_only=True)
class EmbedTexts(ColumnFunction):
    """Append a vector of each text to a batch: what `VectorStore.embed` gives.

    Parameters
    ----------
    store : VectorStore or address
        The store, of which the address is kept: every machine must find a store there.
    column, tokenizer
        As in `BatchFunction`.
    into : str, default "vector"
        The new column: fixed-size lists of d float32.
    pooling : {"mean", "sum", "max", "first", "sif"}, default "mean"
        As in `VectorStore.embed`; "sif" is smooth inverse frequency with the counts in the file `counts`.
    counts : path, optional
        What `Counts.save` wrote, for "sif".
    a : float, default 1e-3
        Of "sif": see `VectorStore.sif_weights`.
    normalize : bool, default False
        Whether to divide each vector by its length.
    known_into : str, optional
        Another new column: how many tokens of each text are known, int64.

    Examples
    --------
    >>> import pyarrow as pa
    >>> embed = vecstore.EmbedTexts(store="glove.vecstore", known_into="known")
    >>> result = embed(pa.table({"id": [1, 2], "text": ["Nice work!", "qwertzuiop"]}))
    >>> result.column_names, result["known"].to_pylist(), result["vector"].type
    (['id', 'text', 'vector', 'known'], [2, 0], FixedSizeListType(fixed_size_list<item: float>[50]))
    """

    store: str
    into: str = "vector"
    pooling: PoolingName = "mean"
    counts: str | None = None
    a: float = 1e-3
    normalize: bool = False
    known_into: str | None = None

    def __post_init__(self) -> None:
        given: Any = self.store
        if isinstance(given, VectorStore):
            given = given.address or given.path
        object.__setattr__(self, "store", os.fspath(given))
        if self.counts is not None:
            object.__setattr__(self, "counts", os.fspath(self.counts))
        if self.pooling not in get_args(PoolingName):
            names = ", ".join(map(repr, get_args(PoolingName)))
            raise ValueError(f"pooling: expected {names}, found {self.pooling!r}")
        if (self.pooling == "sif") != (self.counts is not None):
            raise ValueError("expected counts, a file that Counts.save wrote, with the pooling 'sif' and no other")

    def schema(self, schema: "pa.Schema") -> "pa.Schema":
        """Return `schema` with the new columns; opens the store."""
        import pyarrow as pa

        _text_type(schema, self.column)
        new = [pa.field(self.into, pa.list_(pa.float32(), _opened(self.store).dim))]
        if self.known_into is not None:
            new.append(pa.field(self.known_into, pa.int64()))
        return _appended(schema, new)

    def describe(self) -> dict[str, Any]:  # noqa: D102
        counts = None if self.counts is None else checksum(Path(self.counts))
        return {**super().describe(), "store": checksum(_opened(self.store).path / METADATA), "counts": counts}

    def columns(self, table: "pa.Table") -> NewColumns:  # noqa: D102
        import pyarrow as pa

        tokens, store = self._tokens(table), _opened(self.store)
        pooling: Any = self.pooling if self.counts is None else _weights(self.store, self.counts, self.a)
        vectors, known = store.embed(tokens, pooling=pooling, normalize=self.normalize, return_counts=True)
        arrays = [pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), store.dim)]
        if self.known_into is not None:
            arrays.append(pa.array(known))
        figures = {"tokens": int(tokens.offsets[-1]), "known": int(known.sum()), "zeros": int((known == 0).sum())}
        return NewColumns(arrays, figures)


@dataclass(frozen=True, kw_only=True)
class EncodeTexts(ColumnFunction):
    """Append the ids of each text's tokens to a batch: what `encode` and `encode_ragged` give.

    Parameters
    ----------
    vocabulary : path, or whatever `encode` takes
        A path is that of a file as the command line takes it, text with a key a line or JSON, which every machine must
        find there. Anything else travels with the function.
    column, tokenizer
        As in `BatchFunction`.
    into : str, default "ids"
        The new column: lists of int32, of fixed size with `length`.
    length : int, optional
        Ids of each text, padded and cut as `padding`, `truncating` and `value` say; by default texts keep their length.
    padding, truncating, value, num_words, oov_token
        As in `encode`.

    Examples
    --------
    >>> import pyarrow as pa
    >>> encode = vecstore.EncodeTexts(vocabulary={"nice": 1, "work": 2}, length=3)
    >>> encode(pa.table({"text": ["Nice work!", None]}))["ids"].to_pylist()
    [[0, 1, 2], [0, 0, 0]]
    """

    vocabulary: Any
    into: str = "ids"
    length: int | None = None
    padding: Side = "pre"
    truncating: Side = "pre"
    value: int = 0
    num_words: int | None = None
    oov_token: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.vocabulary, os.PathLike):
            object.__setattr__(self, "vocabulary", os.fspath(self.vocabulary))

    def schema(self, schema: "pa.Schema") -> "pa.Schema":
        """Return `schema` with the new column."""
        import pyarrow as pa

        _text_type(schema, self.column)
        kind = pa.list_(pa.int32(), -1 if self.length is None else self.length)
        return _appended(schema, [pa.field(self.into, kind)])

    def describe(self) -> dict[str, Any]:  # noqa: D102
        return {**super().describe(), "vocabulary": self._encoder().checksum}

    def columns(self, table: "pa.Table") -> NewColumns:  # noqa: D102
        import pyarrow as pa

        tokens, encoder = self._tokens(table), self._encoder()
        if self.length is None:
            ids = encode_ragged(tokens, encoder).cast(pa.list_(pa.int32()))
        else:
            sides: dict[str, Any] = {"padding": self.padding, "truncating": self.truncating, "value": self.value}
            padded = encode(tokens, encoder, length=self.length, **sides)
            ids = pa.FixedSizeListArray.from_arrays(pa.array(padded.ravel()), self.length)
        return NewColumns([ids], {"tokens": int(tokens.offsets[-1])})

    def _encoder(self) -> Encoder:
        if isinstance(self.vocabulary, str):
            return _encoder_of_file(self.vocabulary, self.num_words, self.oov_token)
        kept = self.__dict__.get("_kept")
        if kept is None:
            kept = Encoder(self.vocabulary, self.num_words, self.oov_token)
            object.__setattr__(self, "_kept", kept)
        return kept

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_kept"}


@dataclass(frozen=True, kw_only=True)
class CountTexts(BatchFunction):
    """Count the tokens of a batch; `reduce` adds up what all workers give.

    The result has a row for each distinct token: `key` (large_string), `count` and `documents` (int64), in order of
    first appearance; and one without a key, whose `documents` are all of the batch's. An iterator of batches, such as
    a partition of Spark's, is counted as one.

    Examples
    --------
    >>> import pyarrow as pa
    >>> count = vecstore.CountTexts()
    >>> count.reduce(map(count, [pa.table({"text": ["Nice work!"]}), pa.table({"text": ["nice", None]})]))
    <3 tokens in 3 documents, 2 distinct>
    """

    def schema(self, schema: "pa.Schema") -> "pa.Schema":
        """Return the schema of counts."""
        import pyarrow as pa

        _text_type(schema, self.column)
        return pa.schema([("key", pa.large_string()), ("count", pa.int64()), ("documents", pa.int64())])

    def table(self, table: "pa.Table") -> "pa.Table":
        """Return the counts of a table's texts."""
        return _as_table(self.count(table))

    def count(self, table: "pa.Table") -> Counts:
        """Return the counts of a table's texts."""
        return count(self._texts(table), self.tokenizer)

    def partition(self, batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        """Yield the counts of all batches together."""
        import pyarrow as pa

        total = Counts.sum(self.count(pa.Table.from_batches([batch])) for batch in batches)
        yield _as_batch(_as_table(total))

    def _frame(self, frame: Any) -> Any:
        import pyarrow as pa

        if self.column not in frame.columns:
            raise KeyError(_no_column(self.column, list(frame.columns)))
        counted = self.table(pa.table({self.column: pa.array(frame[self.column], from_pandas=True)}))
        return counted.to_pandas(types_mapper=_arrow_dtype)

    @staticmethod
    def reduce(results: Iterable[Any]) -> Counts:
        """Return the sum of the results of all workers: tables, batches, pandas DataFrames.

        Numbers do not depend on the order of the results; the order of equally frequent tokens does, since it is that
        of their first appearance.

        Raises
        ------
        ValueError
            A result is something else.
        """
        return Counts.sum(map(_as_counts, results))


def _as_batch(table: "pa.Table") -> "pa.RecordBatch":
    import pyarrow as pa

    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def _arrow_dtype(kind: "pa.DataType") -> Any:
    import pandas as pd

    return pd.ArrowDtype(kind)


@lru_cache(_KEPT)
def _opened(address: str) -> VectorStore:
    return open_store(address)


@lru_cache(_KEPT)
def _weights(address: str, counts: str, a: float) -> NDArray[np.float32]:
    counted = Counts.load(counts)
    return _opened(address).sif_weights((counted.batch, counted.counts), a=a)


@lru_cache(_KEPT)
def _encoder_of_file(path: str, num_words: int | None, oov_token: str | None) -> Encoder:
    return Encoder(read_vocabulary(Path(path)), num_words, oov_token)


def _text_type(schema: "pa.Schema", column: str) -> "pa.DataType":
    """Return the type of the column to read, which is text, tokens or null."""
    import pyarrow as pa

    if schema.names.count(column) != 1:
        raise KeyError(_no_column(column, schema.names))
    kind = schema.field(column).type
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_list_view, pa.types.is_fixed_size_list)
    if any(is_kind(kind) for is_kind in lists) and _is_text(kind.value_type):
        return kind
    if not _is_text(kind) and not pa.types.is_null(kind):
        raise TypeError(f"column {column!r}: expected strings or lists of strings, found {kind}")
    return kind


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(is_kind(kind) for is_kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _no_column(column: str, names: list[Any]) -> str:
    shown = ", ".join(map(repr, names))
    return f"column {column!r}: expected one of that name, found {names.count(column)} among {shown or 'no columns'}"


def _appended(schema: "pa.Schema", new: "list[pa.Field]") -> "pa.Schema":
    for column in new:
        if column.name in schema.names:
            raise ValueError(f"column {column.name!r} of the result is there already: give the new one another name")
        schema = schema.append(column)
    return schema


def _as_table(counts: Counts) -> "pa.Table":
    import pyarrow as pa

    data, offsets = counts.batch.packed()
    keys = pa.LargeStringArray.from_buffers(len(counts), pa.py_buffer(offsets), pa.py_buffer(data))
    columns = {
        "key": pa.concat_arrays([keys, pa.nulls(1, pa.large_string())]),
        "count": pa.array(np.append(counts.counts, 0)),
        "documents": pa.array(np.append(counts.document_counts, counts.documents)),
    }
    return pa.table(columns)


def _as_counts(result: Any) -> Counts:
    import pyarrow as pa

    if hasattr(result, "iloc"):
        result = pa.Table.from_pandas(result, preserve_index=False)
    elif isinstance(result, pa.RecordBatch):
        result = pa.Table.from_batches([result])
    if not isinstance(result, pa.Table) or not {"key", "count", "documents"} <= set(result.column_names):
        raise ValueError(f"expected what CountTexts gave, found {type(result).__name__}")
    numbers = {name: result[name].cast(pa.int64()).to_numpy() for name in ("count", "documents")}
    without = result["key"].is_null().to_numpy()
    batch = KeyBatch.of(result["key"].filter(pa.array(~without)))
    kept = {name: frozen(column[~without]) for name, column in numbers.items()}
    return Counts(batch, kept["count"], kept["documents"], int(numbers["documents"][without].sum()))
