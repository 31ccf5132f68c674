"""Which reader a source needs: by what it is and by its content, or by the name that the caller gives."""

import os
from pathlib import Path
from typing import Any

from vecstore.choices import CountMismatch, Format
from vecstore.errors import FormatError
from vecstore.formats.lines import has_no_keys, looks_like_text
from vecstore.formats.memory import MemorySource
from vecstore.formats.model2vec import Model2vecSource, is_model2vec
from vecstore.formats.names import STANDARD_INPUT, keys_path, split_member
from vecstore.formats.npy import NpySource
from vecstore.formats.safetensors import SafetensorsSource, looks_like_safetensors
from vecstore.formats.source import VectorSource
from vecstore.formats.stream import ByteStream
from vecstore.formats.text import TextSource
from vecstore.formats.word2vec import WORD2VEC_HEADER, Word2vecSource

__all__ = ["open_source"]

_HEAD_BYTES = 1 << 12
_PICKLE = b"\x80"  # the version of its protocol follows
_FOREIGN = {
    b"\xba\x16\x4f\x2f": "a fastText model; its vectors alone are in the .vec file that is published beside it",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file; read it with h5py and give vecstore.convert((keys, vectors), target)",
    b"PAR1": "a Parquet file; read it with pyarrow and give vecstore.convert((keys, vectors), target)",
    b"ARROW1": "an Arrow file; read it with pyarrow and give vecstore.convert((keys, vectors), target)",
    b"SQLite format 3": "an SQLite database, such as magnitude's; export it with the library that made it",
    b"\xff\xfe": "text in UTF-16; save it as UTF-8",
    b"\xfe\xff": "text in UTF-16; save it as UTF-8",
    b"FiFu": "a finalfusion file; export it as word2vec with the library that made it",
    **{
        _PICKLE + bytes([version]): "a pickle, which may run code when loaded and is never read here; load it with the "
        "library that wrote it, such as gensim, and give vecstore.convert(keyed_vectors, target)"
        for version in range(2, 6)
    },
}


def open_source(
    source: Any,
    *,
    format: Format = "auto",
    count_mismatch: CountMismatch = "error",
    row_keys: Path | None = None,
) -> VectorSource:
    """Open a source of word vectors; the caller closes it.

    Parameters
    ----------
    source
        What `vecstore.convert` takes.
    format, count_mismatch
        As `vecstore.convert` takes them, and checked there.
    row_keys : Path, optional
        The keys of a source that holds a matrix alone; ``NAME.keys.txt`` beside it unless given.

    Raises
    ------
    FormatError
        The source is empty, a folder that holds no vectors, or not of the format.
    TypeError
        `source` is nothing of the kind.
    OSError
        The file cannot be opened.
    """
    if not isinstance(source, str | os.PathLike):
        return MemorySource(source)
    path, member = split_member(Path(source))
    if path.is_dir() and path != STANDARD_INPUT and (format == "model2vec" or is_model2vec(path)):
        return Model2vecSource(path)
    if format == "model2vec":
        raise FormatError(f"{path}: expected the folder of a model2vec model, found a file")
    # In safetensors "::" names a tensor, not a file of an archive.
    stream = ByteStream(path, None if member and _is_safetensors(path) else member)
    try:
        return _reader(stream, member, format, count_mismatch, row_keys or keys_path(path))
    except BaseException:
        stream.close()
        raise


def _reader(
    stream: ByteStream, member: str | None, format: Format, count_mismatch: CountMismatch, row_keys: Path
) -> VectorSource:
    head = stream.peek(_HEAD_BYTES)
    if format == "auto":
        format = _detect(stream.place, head)
    if format == "npy":
        return NpySource(stream, row_keys)
    if format == "safetensors":
        return SafetensorsSource(stream, row_keys, tensor=member)
    if format == "word2vec":
        return Word2vecSource(stream, count_mismatch=count_mismatch)
    header = {"word2vec-text": True, "glove": False}[format]
    return TextSource(stream, header=header, count_mismatch=count_mismatch)


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        return looks_like_safetensors(file.read(_HEAD_BYTES))


def _detect(place: str, head: bytes) -> Format:
    """Return the format of a file that starts with `head`."""
    if looks_like_safetensors(head):  # first: its length may look like the start of a pickle
        return "safetensors"
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            raise FormatError(f"{place}: expected a file of word vectors, found {what}")
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if format := looks_like_text(head):
        if format == "glove" and has_no_keys(head):
            raise FormatError(
                f"{place}: byte 0: expected a key before the numbers of each line, found {head[:60]!r}; "
                "if the first number is the key: format='glove' (--format glove), otherwise give "
                "vecstore.convert((keys, vectors), target)"
            )
        return format
    if not WORD2VEC_HEADER.match(head):
        raise FormatError(
            f"{place}: byte 0: expected a word2vec header 'count dim', a line of text with a key and its numbers, or a "
            f".npy or safetensors matrix, found {head[:60]!r}"
        )
    return "word2vec"
