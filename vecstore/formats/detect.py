"""Which reader a file needs: by its content, or by the name that the caller gives."""

from pathlib import Path
from typing import Literal, get_args

from vecstore.formats.source import CountMismatch, VectorSource
from vecstore.formats.stream import ByteStream
from vecstore.formats.word2vec import Word2vecSource

__all__ = ["Format", "open_source"]

Format = Literal["auto", "word2vec"]
"""Names of the formats that can be read."""


def open_source(path: Path, *, format: Format = "auto", count_mismatch: CountMismatch = "error") -> VectorSource:
    """Open a file of word vectors; the caller closes it.

    Raises
    ------
    FormatError
        The file is empty, a folder, or not of the format.
    ValueError
        `format` or `count_mismatch` is no known name.
    OSError
        The file cannot be opened.
    """
    if format not in get_args(Format):
        raise ValueError(f"format: expected one of {', '.join(get_args(Format))}, found {format!r}")
    if count_mismatch not in get_args(CountMismatch):
        raise ValueError(f"count_mismatch: expected 'error' or 'warn', found {count_mismatch!r}")
    stream = ByteStream(path)
    try:
        return Word2vecSource(stream, count_mismatch=count_mismatch)
    except BaseException:
        stream.close()
        raise
