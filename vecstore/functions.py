"""What is made of texts: vectors, ids or counts; each a function of batches that any engine or job runs.

Each process that calls one opens the store, or reads the vocabulary, once, and again only where another one has taken
its place; a store's vectors are shared by all processes of a machine. A relative address is relative to the working
directory of whoever calls.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from vecstore.arrays import checksum
from vecstore.batches import (
    BatchFunction,
    ColumnFunction,
    NewColumns,
    as_batch,
    as_frame,
    is_frame,
    text_table,
    text_type,
)
from vecstore.choices import PoolingName, Side
from vecstore.counts import Counts, count
from vecstore.encoding import Encoder, encode, encode_ragged
from vecstore.keys import KeyBatch, frozen
from vecstore.layout import METADATA
from vecstore.store import VectorStore, open_store
from vecstore.vocabulary import read_vocabulary

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["CountTexts", "EmbedTexts", "EncodeTexts"]

_KEPT = 4  # stores and vocabularies that a process keeps open


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

        text_type(schema, self.column)
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
        yield as_batch(_as_table(total))

    def frame(self, frame: Any) -> Any:
        """Return the counts of a frame's texts."""
        return as_frame(self.table(text_table(frame, self.column)))

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

    if is_frame(result):
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
