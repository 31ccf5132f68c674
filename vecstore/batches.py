"""BatchFunction: a function from Arrow batch to Arrow batch, and the kinds of batches that engines hand out.

It is settings and addresses, pickles in some hundred bytes, and gives the same kind back that it takes: a
``pyarrow.RecordBatch`` (multiprocessing), a ``pyarrow.Table`` (Ray Data, Hugging Face datasets), an iterator of batches
(Spark's ``mapInArrow``), a pandas ``DataFrame`` (Dask).
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from vecstore.tokenizer import Tokenizer
from vecstore.tokens import Tokens

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "BatchFunction",
    "ColumnFunction",
    "NewColumns",
    "as_batch",
    "as_frame",
    "is_frame",
    "text_table",
    "text_type",
]


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
        """Return all settings as JSON has them, and checksums of the files that they name; of an analyzer its name."""
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
            return as_batch(self.table(pa.Table.from_batches([batch])))
        if isinstance(batch, Iterator):
            return self.partition(batch)
        if is_frame(batch):
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

        kind = text_type(table.schema, self.column)
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
        text_type(schema, self.column)
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
        _, *made = self.table(text_table(frame, self.column)).itercolumns()
        columns = {}
        for new, column in zip(self.fields(), made, strict=True):
            _check_new(new.name, list(frame.columns))
            columns[new.name] = pd.Series(pd.arrays.ArrowExtensionArray(column), index=frame.index)
        return frame.assign(**columns)


def as_batch(table: "pa.Table") -> "pa.RecordBatch":
    """Return a table of one chunk a column as a batch."""
    import pyarrow as pa

    return pa.RecordBatch.from_arrays([column.chunk(0) for column in table.columns], schema=table.schema)


def as_frame(table: "pa.Table") -> Any:
    """Return a table as a pandas.DataFrame of Arrow's types."""
    import pandas as pd

    return table.to_pandas(types_mapper=pd.ArrowDtype)


def is_frame(batch: Any) -> bool:
    """Say whether a batch is a pandas.DataFrame."""
    # Nobody has a frame who has not imported pandas, which takes half a second.
    pandas: Any = sys.modules.get("pandas")
    return pandas is not None and isinstance(batch, pandas.DataFrame)


def text_table(frame: Any, column: str) -> "pa.Table":
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


def text_type(schema: "pa.Schema", column: str) -> "pa.DataType":
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
