"""Source to store: one pass over the file, an index over what it wrote, one rename.

Two threads share the work: this one reads the source and cuts its records, the other writes them. Keys that stand
twice are found once all are there, and the store is then written again without them.
"""

import os
import time
import warnings
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from numpy.typing import ArrayLike

from vecstore.choices import CountMismatch, Duplicates, EncodingErrors, Format, Storage
from vecstore.errors import FormatError, FormatWarning
from vecstore.keys import Keys
from vecstore.progress import Progress, ProgressCallback
from vecstore.report import ConversionReport, RoundingErrors
from vecstore.storage import STORAGE_TYPES
from vecstore.threads import num_threads
from vecstore.version import __version__

if TYPE_CHECKING:
    from concurrent.futures import Future

    from vecstore.formats.source import Block
    from vecstore.writer import StoreWriter

__all__ = ["convert"]

_IN_FLIGHT = 6  # blocks that wait for the writing thread


def convert(
    source: str | os.PathLike[str] | tuple[Keys, ArrayLike] | Iterable[tuple[Keys, ArrayLike]] | Any,
    target: str | os.PathLike[str],
    *,
    format: Format = "auto",
    dtype: Storage = "float32",
    limit: int | None = None,
    keys: Any = None,
    row_keys: str | os.PathLike[str] | None = None,
    duplicates: Duplicates = "first",
    encoding_errors: EncodingErrors = "strict",
    count_mismatch: CountMismatch = "error",
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> ConversionReport:
    """Turn a published file of word vectors, or vectors in memory, into a store.

    The store appears whole or not at all: it is written beside `target` and renamed when it is on disk. Memory
    does not grow with the file.

    Parameters
    ----------
    source : path, tuple, iterable or KeyedVectors
        A file, whose format and packing (gzip, zip, bz2, xz, zstd) are seen from its content: word2vec binary or text,
        GloVe, fastText ``.vec``, a matrix in ``.npy`` or safetensors; the folder of a model2vec model; ``"-"`` for
        standard input. ``"archive.zip::member"`` names a file in an archive, ``"file.safetensors::name"`` a matrix.
        Or ``(keys, vectors)``: n keys as `VectorStore.find` takes them, and an array (n, d) of numbers. Or any other
        iterable of such pairs, all of one d, which is read a pair at a time. Or gensim's `KeyedVectors`.
    target : path
        The folder to make.
    format : {"auto", "word2vec", "word2vec-text", "glove", "npy", "safetensors", "model2vec"}, default "auto"
        The format of a file: "word2vec" is the binary one, "word2vec-text" (also fastText's ``.vec``) has a first line
        ``count dim``, "glove" has none.
    dtype : {"float32", "float16", "bfloat16", "int8", "auto"}, default "float32"
        How the vectors are stored; whatever it is, float32 is read from the store. "float16" and "bfloat16" take half
        the bytes, "int8" (with a scale for each row) a quarter: numbers are rounded to the nearest, and the report has
        the errors. "auto" is the smallest that holds every number of the source bit for bit, if need be float32.
    limit : int, optional
        Read this many records and no more.
    keys : optional
        Store these keys alone, of those that the source has: a file with a key a line, a vocabulary as
        `VectorStore.matrix` takes it, or a batch of keys.
    row_keys : path, optional
        The keys of a source that holds a matrix alone, in the order of its rows: a file with a key a line, or a
        JSON list. By default ``NAME.keys.txt`` beside ``NAME.npy``.
    duplicates : {"first", "last", "error"}, default "first"
        Which vector a key gets that the source holds several times; its row is that of its first record.
        The other records are dropped and counted. "error" refuses such a source.
    encoding_errors : {"strict", "replace", "ignore", "skip"}, default "strict"
        What to do with a key that is no UTF-8: refuse the source, put U+FFFD for the bad bytes, leave them out,
        or drop the record and count it.
    count_mismatch : {"error", "warn"}, default "error"
        Whether to refuse a source that holds more or fewer records than its header announces, or to warn and
        keep no more than announced.
    overwrite : bool, default False
        Whether to replace a store that is at `target` already. Who has it open keeps the old one.
    progress : callable, optional
        Called with a `Progress` several times a second.

    Returns
    -------
    ConversionReport
        Rows, size, time, and what was dropped.

    Raises
    ------
    FormatError
        The source is damaged, cut short, or not of its format; the message says where. Or `dtype` cannot hold one of
        its numbers: finite ones beyond float16 or bfloat16, in "int8" NaN and infinities.
    TargetError
        The target exists, cannot be written, or is being written by another process.
    TypeError
        The source in memory is neither keys and vectors nor blocks of them.
    OSError
        The source cannot be read, or the disk is full.

    Examples
    --------
    >>> report = vecstore.convert("glove.bin", "glove.vecstore", overwrite=True)
    >>> report.rows, report.dim, report.dropped
    (400000, 50, {'duplicates': 0, 'undecodable': 0, 'unwanted': 0})
    >>> vecstore.convert((["nice", "great"], [[1.0, 2.0], [3.0, 4.0]]), "two.vecstore", overwrite=True).rows
    2
    """
    _check_choice("format", format, Format)
    _check_choice("dtype", dtype, Storage)
    _check_choice("duplicates", duplicates, Duplicates)
    _check_choice("encoding_errors", encoding_errors, EncodingErrors)
    _check_choice("count_mismatch", count_mismatch, CountMismatch)
    if limit is not None and limit < 1:
        raise ValueError(f"limit: expected at least 1, found {limit}")
    # Here, since most processes only look up: the readers take a fifth of the time of importing vecstore.
    from vecstore.ahead import CompileAhead
    from vecstore.formats.detect import open_source
    from vecstore.selection import Selection, index_wanted
    from vecstore.staging import StagedFolder
    from vecstore.writer import StoreWriter, name_repeat, without_repeats

    started = time.perf_counter()
    report = progress or (lambda progress: None)
    wanted = None if keys is None else index_wanted(keys)
    reader = open_source(
        source, format=format, count_mismatch=count_mismatch, row_keys=None if row_keys is None else Path(row_keys)
    )
    folder = Path(target).absolute()
    with closing(reader), StagedFolder(folder, overwrite=overwrite) as staged, CompileAhead() as compiler:
        selection = Selection(reader, encoding_errors=encoding_errors, limit=limit, wanted=wanted, progress=report)
        # Unpacking keeps a thread busy, and loses what more busy threads than CPUs take: a tenth of its time on two.
        aside = num_threads() > (2 if reader.description.compression else 1)
        storage = STORAGE_TYPES.get(dtype)
        with closing(
            StoreWriter(staged.path, reader.dim, expected=selection.expected, storage=storage, aside=aside)
        ) as writer:
            _write_all(selection, writer, reader.description.name)
            compiler.compile(writer.storage.gather_rows, writer.storage.pool_rows)
            exact_dtype, errors = writer.exact.smallest.name, _rounding_errors(writer)
            repeats = writer.index(lambda keys: report(Progress("indexing", keys, writer.rows, "keys")))
            if len(repeats) and duplicates == "error":
                raise FormatError(f"{reader.description.name}: {name_repeat(writer, repeats[0])}")
            if len(repeats):
                writer = without_repeats(writer, repeats, last=duplicates == "last")
            dropped = {
                "duplicates": len(repeats),
                "undecodable": selection.undecodable,
                "unwanted": selection.unwanted,
            }
            metadata = writer.finish(f"vecstore {__version__}", reader.description, dropped)
        departures = list(reader.departures)
        if metadata.unusual["huge"] and reader.description.format == "word2vec":
            departures.append(
                f"{reader.description.name}: {metadata.unusual['huge']:,} rows hold numbers beyond 1e15; if that is "
                "not meant, a key holds a space, which a word2vec binary cannot hold, and rows near it are wrong"
            )
        for departure in departures:
            warnings.warn(departure, FormatWarning, stacklevel=2)
        staged.publish()
    return ConversionReport(
        path=folder,
        rows=metadata.rows,
        dim=metadata.dim,
        size=sum(file["size"] for file in metadata.files.values()) + len(metadata.render()),
        seconds=time.perf_counter() - started,
        source=metadata.source,
        dropped=metadata.dropped,
        unusual=metadata.unusual,
        dtype=metadata.dtype,
        exact_dtype=exact_dtype,
        errors=errors,
    )


def _rounding_errors(writer: "StoreWriter") -> RoundingErrors:
    total, largest, cosine = map(float, writer.errors)
    return RoundingErrors(largest, total / max(1, writer.rows * writer.dim), cosine)


def _check_choice(name: str, value: str, choices: object) -> None:
    if value not in get_args(choices):
        raise ValueError(f"{name}: expected one of {', '.join(get_args(choices))}, found {value!r}")


def _write_all(blocks: "Iterable[Block]", writer: "StoreWriter", name: str) -> None:
    """Append every block of the source `name`, on a thread of its own, a few blocks behind the reading."""
    from concurrent.futures import ThreadPoolExecutor

    def append(block: "Block") -> None:
        try:
            writer.append(block.data, block.offsets, block.vectors)
        except FormatError as error:
            raise FormatError(f"{name}: {error}") from None

    with ThreadPoolExecutor(1, thread_name_prefix="vecstore-writer") as pool:
        waiting: list[Future[None]] = []
        for block in blocks:
            if len(waiting) == _IN_FLIGHT:
                waiting.pop(0).result()
            waiting.append(pool.submit(append, block))
        for future in waiting:
            future.result()
