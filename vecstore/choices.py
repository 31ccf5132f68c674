"""The choices that a caller has, as types: most of them when a source is converted."""

from typing import Literal

__all__ = [
    "BadRows",
    "CorpusFormat",
    "CountMismatch",
    "Duplicates",
    "EncodingErrors",
    "Format",
    "PoolingName",
    "Side",
    "Storage",
]

Format = Literal["auto", "word2vec", "word2vec-text", "glove", "npy", "safetensors", "model2vec"]
"""Names of the formats that can be read. fastText's ``.vec`` is word2vec-text."""

Storage = Literal["float32", "float16", "bfloat16", "int8", "auto"]
"""Names of the storage types; "auto" is the smallest that holds every number bit for bit."""

Duplicates = Literal["first", "last", "error"]
"""Which vector a key gets that stands several times, or that this is an error."""

EncodingErrors = Literal["strict", "replace", "ignore", "skip"]
"""What becomes of a key that is no UTF-8: an error, U+FFFD for the bad bytes, none for them, or no record."""

CountMismatch = Literal["error", "warn"]
"""What to do when a file holds more or fewer records than its header announces."""

Side = Literal["pre", "post"]
"""Where the sequence of a text is filled up or cut: before its first token or after its last."""

PoolingName = Literal["mean", "sum", "max", "first", "sif"]
"""How the vectors of a text become one; "sif" is a mean weighted by smooth inverse frequency, which needs counts."""

CorpusFormat = Literal["auto", "parquet", "csv", "json", "text"]
"""Names of the formats of a corpus; json is lines of JSON, text lines of text."""

BadRows = Literal["error", "skip"]
"""What becomes of a row of a corpus that cannot be read: an error that names it, or it is left out and counted."""
