"""Functions from Arrow batch to Arrow batch: what a worker of any engine does with its share of a corpus.

Such a function is settings and addresses and pickles in some hundred bytes. Each process that calls it opens the store,
or reads the vocabulary, once, and again only where another one has taken its place; a store's vectors are shared by all
processes of a machine. A relative address is relative to the working directory of whoever calls.

It takes what engines hand out and gives the same kind back: a ``pyarrow.RecordBatch`` (multiprocessing), a
``pyarrow.Table`` (Ray Data, Hugging Face datasets), an iterator of batches (Spark's ``mapInArrow``), a pandas
``DataFrame`` (Dask).
"""

import os
import sys
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
        if _is_frame(batch):
            return self.frame(batch)
        raise TypeError(
            f"expected a pyarrow.Table, a RecordBatch, an iterator of them or a pandas.DataFrame, found "
            f"{type(batch).__name__}; Ray Data: batch_format='pyarrow'; Hugging Face datasets: with_format('arrow')"
        )

    def partition(self, batches: "Iterator[pa.RecordBatch]") -> "Iterator[pa.RecordBatch]":
        """Yield the result of each batch; what Spark's ``mapInArrow`` calls.

        Spark has no lists of fixed size: in these batches, and in `spark_schema`, they are plain lists.
        """
        for batch in batches:
            result = self(batch)
            yield result.cast(_without_fixed_sizes(result.schema))

    def spark_schema(self, schema: Any) -> Any:
        """Return the result's schema as ``mapInArrow`` wants it, for a DataFrame of `schema`; needs pyspark.

        Parameters
        ----------
        schema : pyspark.sql.types.StructType

        Returns
        -------
        pyspark.sql.types.StructType
        """
        from pyspark.sql.pandas.types import from_arrow_schema

        return from_arrow_schema(_without_fixed_sizes(self.schema(_of_spark(schema, self.column))))

    @abstractmethod
    def frame(self, frame: Any) -> Any:
        """Return the result for a pandas.DataFrame, as one; raises what `schema` does."""

    def _texts(self, table: "pa.Table") -> Any:
        """Return the column to read, as `Tokenizer.tokenize` takes it, or as `Tokens`."""
        import pyarrow as pa

        kind = _text_type(table.schema, self.column)
        texts = table[self.column]
        if pa.types.is_null(kind):
            return texts.cast(pa.string())
        return texts if _is_text(kind) else Tokens.of(texts)


class NewColumns(NamedTuple):
    """What a function makes of a table: columns, and figures of them that add up."""

    arrays: "list[pa.Array]"
    figures: dict[str, int]


class ColumnFunction(BatchFunction):
    """What gives a batch back with new columns; the others are shared."""

    @abstractmethod
    def columns(self, table: "pa.Table") -> NewColumns:
        """Return the new columns of a table, whose texts were found to be texts."""

    def table(self, table: "pa.Table") -> "pa.Table":
        import pyarrow as pa

        schema = self.schema(table.schema)
        return pa.table([*table.columns, *self.columns(table).arrays], schema=schema)

    def _tokens(self, table: "pa.Table") -> Tokens:
        texts = self._texts(table)
        return texts if isinstance(texts, Tokens) else self.tokenizer.tokenize(texts)

    @abstractmethod
    def fields(self) -> "list[pa.Field]":
        """Return the new columns' names and types."""

    def schema(self, schema: "pa.Schema") -> "pa.Schema":
        _text_type(schema, self.column)
        for new in self.fields():
            _check_new(new.name, schema.names)
            schema = schema.append(new)
        return schema

    def spark_schema(self, schema: Any) -> Any:
        from pyspark.sql.types import StructType

        return StructType([*schema.fields, *super().spark_schema(schema).fields[len(schema.fields) :]])

    def frame(self, frame: Any) -> Any:
        import pandas as pd

        # Of the other columns only names matter: they stay as they are, whatever pandas holds in them.
        _, *made = self.table(_table_of(frame, self.column)).itercolumns()
        columns = {}
        for new, column in zip(self.fields(), made, strict=True):
            _check_new(new.name, list(frame.columns))
            columns[new.name] = pd.Series(pd.arrays.ArrowExtensionArray(column), index=frame.index)
        return frame.assign(**columns)


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
        The new column: fixed-size lists of d float32 (in Spark, plain lists).
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

    def fields(self) -> "list[pa.Field]":
        """Return the new columns' names and types; opens the store."""
        import pyarrow as pa

        vector = pa.field(self.into, pa.list_(pa.float32(), _opened(self.store).dim))
        return [vector] if self.known_into is None else [vector, pa.field(self.known_into, pa.int64())]

    def describe(self) -> dict[str, Any]:
        counts = None if self.counts is None else checksum(Path(self.counts))
        return {**super().describe(), "store": checksum(_opened(self.store).path / METADATA), "counts": counts}

    def columns(self, table: "pa.Table") -> NewColumns:
        import pyarrow as pa

        tokens, store = self._tokens(table), _opened(self.store)
        pooling: Any = self.pooling
        if self.counts is not None:
            pooling = _weights(store, self.counts, _stamp(self.counts), self.a)
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
        find there. Anything else travels with the function, and each copy of it indexes it anew: with a large one, a
        file is less work.
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
        # What cannot be is to be said here, and not by every worker.
        encode([], {}, length=self.length, **self._sides())

    def fields(self) -> "list[pa.Field]":
        """Return the new column's name and type."""
        import pyarrow as pa

        return [pa.field(self.into, pa.list_(pa.int32(), -1 if self.length is None else self.length))]

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "vocabulary": self._encoder().checksum}

    def columns(self, table: "pa.Table") -> NewColumns:
        import pyarrow as pa

        tokens, encoder = self._tokens(table), self._encoder()
        if self.length is None:
            ids = encode_ragged(tokens, encoder).cast(pa.list_(pa.int32()))
        else:
            padded = encode(tokens, encoder, length=self.length, **self._sides())
            ids = pa.FixedSizeListArray.from_arrays(pa.array(padded.ravel()), self.length)
        return NewColumns([ids], {"tokens": int(tokens.offsets[-1])})

    def _sides(self) -> dict[str, Any]:
        return {"padding": self.padding, "truncating": self.truncating, "value": self.value}

    def _encoder(self) -> Encoder:
        if isinstance(self.vocabulary, str):
            return _encoder_of_file(self.vocabulary, _stamp(self.vocabulary), self.num_words, self.oov_token)
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

        total = _empty_counts().merge(self.count(pa.Table.from_batches([batch])) for batch in batches)
        yield _as_batch(_as_table(total))

    def frame(self, frame: Any) -> Any:
        """Return the counts of a frame's texts."""
        import pandas as pd

        return self.table(_table_of(frame, self.column)).to_pandas(types_mapper=pd.ArrowDtype)

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
        return _empty_counts().merge(map(_as_counts, results))


def _stamp(path: str) -> tuple[int, int, int] | None:
    """Return what is another when a file or a folder is replaced; None where there is neither."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _opened(address: str) -> VectorStore:
    return _opened_once(address, _stamp(address))


@lru_cache(_KEPT)
def _opened_once(address: str, _: object) -> VectorStore:
    return open_store(address)


@lru_cache(_KEPT)
def _weights(store: VectorStore, counts: str, _: object, a: float) -> NDArray[np.float32]:
    counted = Counts.load(counts)
    return store.sif_weights((counted.batch, counted.counts), a=a)


@lru_cache(_KEPT)
def _encoder_of_file(path: str, _: object, num_words: int | None, oov_token: str | None) -> Encoder:
    return Encoder(read_vocabulary(Path(path)), num_words, oov_token)


def _as_batch(table: "pa.Table") -> "pa.RecordBatch":
    """Return a table of one chunk a column as a batch."""
    import pyarrow as pa

    return pa.RecordBatch.from_arrays([column.chunk(0) for column in table.columns], schema=table.schema)


def _is_frame(batch: Any) -> bool:
    # Nobody has a frame who has not imported pandas, which takes half a second.
    pandas: Any = sys.modules.get("pandas")
    return pandas is not None and isinstance(batch, pandas.DataFrame)


def _table_of(frame: Any, column: str) -> "pa.Table":
    """Return one column of a pandas.DataFrame."""
    import pyarrow as pa

    names = list(frame.columns)
    if names.count(column) != 1:
        raise KeyError(_no_column(column, names))
    return pa.table({column: pa.array(frame[column], from_pandas=True)})


def _without_fixed_sizes(schema: "pa.Schema") -> "pa.Schema":
    import pyarrow as pa

    for i, column in enumerate(schema):
        if pa.types.is_fixed_size_list(column.type):
            schema = schema.set(i, column.with_type(pa.list_(column.type.value_field)))
    return schema


def _of_spark(schema: Any, column: str) -> "pa.Schema":
    """Return Spark's columns with their names alone, and one of them with its type."""
    import pyarrow as pa

    # Not by `to_arrow_schema`: it takes no timestamp without the session's time zone, and loses metadata.
    kinds = (_kind_of_spark(given, column) if given.name == column else pa.null() for given in schema.fields)
    return pa.schema(zip(schema.names, kinds, strict=True))


def _kind_of_spark(given: Any, column: str) -> "pa.DataType":
    import pyarrow as pa
    from pyspark.sql.types import ArrayType, NullType, StringType

    kind = given.dataType
    if isinstance(kind, StringType):
        return pa.string()
    if isinstance(kind, ArrayType) and isinstance(kind.elementType, StringType):
        return pa.list_(pa.string())
    if isinstance(kind, NullType):
        return pa.null()
    raise TypeError(_no_texts(column, kind.simpleString()))


def _text_type(schema: "pa.Schema", column: str) -> "pa.DataType":
    """Return the type of the column to read, which is text, tokens or null."""
    import pyarrow as pa

    if schema.names.count(column) != 1:
        raise KeyError(_no_column(column, schema.names))
    kind = schema.field(column).type
    types = pa.types
    lists = types.is_list, types.is_large_list, types.is_list_view, types.is_large_list_view, types.is_fixed_size_list
    if any(is_kind(kind) for is_kind in lists) and (_is_text(kind.value_type) or types.is_null(kind.value_type)):
        return kind
    if not _is_text(kind) and not pa.types.is_null(kind):
        raise TypeError(_no_texts(column, kind))
    return kind


def _is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return any(is_kind(kind) for is_kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view))


def _no_column(column: str, names: list[Any]) -> str:
    shown = ", ".join(map(repr, names))
    return f"column {column!r}: expected one of that name, found {names.count(column)} among {shown or 'no columns'}"


def _no_texts(column: str, kind: object) -> str:
    return f"column {column!r}: expected strings or lists of strings, found {kind}"


def _check_new(name: str, names: list[Any]) -> None:
    if name in names:
        raise ValueError(f"column {name!r} of the result is there already: give the new one another name")


def _empty_counts() -> Counts:
    return Counts.from_word_counts({})


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

    if _is_frame(result):
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
