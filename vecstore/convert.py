"""Source to store: one pass over the file, an index over what it wrote, one rename.

Two threads share the work: this one reads the source and cuts its records, the other writes them. What the source
holds and the store must not (keys that are no UTF-8, keys that stand twice) is decided here.
"""

import os
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vecstore.arrays import map_array
from vecstore.errors import FormatError, FormatWarning
from vecstore.formats.detect import Format, open_source
from vecstore.formats.source import Block, CountMismatch, VectorSource
from vecstore.keys import is_utf8
from vecstore.layout import ARRAYS, Source
from vecstore.progress import Progress, ProgressCallback
from vecstore.staging import StagedFolder
from vecstore.version import __version__
from vecstore.writer import StoreWriter

__all__ = ["ConversionReport", "Duplicates", "EncodingErrors", "convert"]

Duplicates = Literal["first", "last", "error"]
"""Which vector a key gets that stands several times, or that this is an error."""

EncodingErrors = Literal["strict", "replace", "ignore", "skip"]
"""What becomes of a key that is no UTF-8: an error, U+FFFD for the bad bytes, none for them, or no record."""

_IN_FLIGHT = 2  # blocks that wait for the writing thread
_CHUNK = 1 << 14  # rows moved at a time when repeated keys are dropped


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """What a conversion did.

    Attributes
    ----------
    path : Path
        The store.
    rows, dim : int
        Its shape.
    size : int
        Its size on disk in bytes.
    seconds : float
        Wall time.
    source : Source
        The file that was read.
    dropped : dict
        Records that were left out: "duplicates" of an earlier key, "undecodable" keys.
    unusual : dict
        Rows that were kept bit for bit: with a "nan", "infinite", all "zero".
    """

    path: Path
    rows: int
    dim: int
    size: int
    seconds: float
    source: Source
    dropped: dict[str, int]
    unusual: dict[str, int]

    def __str__(self) -> str:
        rate = self.size / max(self.seconds, 1e-9) / 1e6
        dropped = ", ".join(f"{count:,} {name}" for name, count in self.dropped.items())
        unusual = ", ".join(f"{count:,} {name}" for name, count in self.unusual.items())
        return (
            f"{self.path}\n"
            f"  {self.rows:,} keys x {self.dim} float32, {self.size / 1e6:,.1f} MB\n"
            f"  from {self.source.name} in {self.seconds:.1f} s ({rate:,.0f} MB/s)\n"
            f"  records dropped: {dropped}\n"
            f"  unusual rows kept: {unusual}"
        )


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    format: Format = "auto",
    limit: int | None = None,
    duplicates: Duplicates = "first",
    encoding_errors: EncodingErrors = "strict",
    count_mismatch: CountMismatch = "error",
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> ConversionReport:
    """Turn a published file of word vectors into a store.

    The store appears whole or not at all: it is written beside `target` and renamed when it is on disk. Memory
    does not grow with the file.

    Parameters
    ----------
    source : path
        A word2vec binary, plain or gzip; which of them is seen from its content.
    target : path
        The folder to make.
    format : {"auto", "word2vec"}, default "auto"
        The format of the source.
    limit : int, optional
        Read this many records and no more.
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
        The source is damaged, cut short, or not of its format; the message says where.
    TargetError
        The target exists, cannot be written, or is being written by another process.
    OSError
        The source cannot be read, or the disk is full.

    Examples
    --------
    >>> report = vecstore.convert("glove.bin", "glove.vecstore", overwrite=True)
    >>> report.rows, report.dim, report.dropped
    (400000, 50, {'duplicates': 0, 'undecodable': 0})
    """
    _check_choice("duplicates", duplicates, Duplicates)
    _check_choice("encoding_errors", encoding_errors, EncodingErrors)
    if limit is not None and limit < 1:
        raise ValueError(f"limit: expected at least 1, found {limit}")
    started = time.perf_counter()
    report = progress or (lambda progress: None)
    reader = open_source(Path(source), format=format, count_mismatch=count_mismatch)
    folder = Path(target).absolute()
    with closing(reader), StagedFolder(folder, overwrite=overwrite) as staged:
        blocks = _Blocks(reader, encoding_errors=encoding_errors, limit=limit, progress=report)
        expected = reader.expected if limit is None else min(limit, reader.expected)
        with closing(StoreWriter(staged.path, reader.dim, expected=expected)) as writer:
            _write_all(blocks, writer)
            repeats = writer.index(lambda keys: report(Progress("indexing", keys, writer.rows, "keys")))
            if len(repeats) and duplicates == "error":
                raise FormatError(_name_repeat(Path(source), staged.path, repeats[0]))
            if len(repeats):
                writer = _without_repeats(writer, repeats, last=duplicates == "last")
            dropped = {"duplicates": len(repeats), "undecodable": blocks.undecodable}
            metadata = writer.finish(f"vecstore {__version__}", reader.description, dropped)
        for departure in reader.departures:
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
    )


def _check_choice(name: str, value: str, choices: object) -> None:
    if value not in get_args(choices):
        raise ValueError(f"{name}: expected one of {', '.join(get_args(choices))}, found {value!r}")


class _Blocks:
    """The blocks of a source that go into the store: keys in UTF-8, no more records than wanted."""

    def __init__(
        self, reader: VectorSource, *, encoding_errors: EncodingErrors, limit: int | None, progress: ProgressCallback
    ) -> None:
        self._reader = reader
        self._errors = encoding_errors
        self._limit = limit
        self._progress = progress
        self.undecodable = 0

    def __iter__(self) -> Iterator[Block]:
        source = self._reader.description
        for block in self._reader.blocks():
            if self._limit is not None and block.first + len(block) >= self._limit:
                yield self._decodable(_head(block, self._limit - block.first))
                return
            yield self._decodable(block)
            self._progress(Progress("reading", self._reader.done, source.size))

    def _decodable(self, block: Block) -> Block:
        if is_utf8(block.data, block.offsets):
            return block
        keys: list[bytes] = []
        kept: list[int] = []
        for i, (low, high) in enumerate(pairwise(block.offsets)):
            key = block.data[low:high].tobytes()
            try:
                key.decode()
            except UnicodeDecodeError as error:
                if self._errors == "strict":
                    raise FormatError(
                        f"{self._reader.description.name}: record {block.first + i + 1:,}, "
                        f"byte {block.positions[i]:,}: expected a key in UTF-8, found {key!r:.80} ({error.reason}); "
                        "to accept it: encoding_errors='replace', 'ignore' or 'skip', unless an earlier key "
                        "holds a space, which puts a word2vec binary out of step"
                    ) from None
                if self._errors == "skip":
                    self.undecodable += 1
                    continue
                key = key.decode(errors=self._errors).encode()
            keys.append(key)
            kept.append(i)
        offsets = np.zeros(len(keys) + 1, np.int64)
        np.cumsum([len(key) for key in keys], out=offsets[1:])
        data = np.frombuffer(b"".join(keys), np.uint8)
        return replace(block, data=data, offsets=offsets, vectors=block.vectors[kept], positions=block.positions[kept])


def _head(block: Block, n: int) -> Block:
    return replace(
        block,
        data=block.data[: block.offsets[n]],
        offsets=block.offsets[: n + 1],
        vectors=block.vectors[:n],
        positions=block.positions[:n],
    )


def _write_all(blocks: _Blocks, writer: StoreWriter) -> None:
    """Append every block, on a thread of its own, a few blocks behind the reading."""
    with ThreadPoolExecutor(1, thread_name_prefix="vecstore-writer") as pool:
        waiting: list[Future[None]] = []
        for block in blocks:
            if len(waiting) == _IN_FLIGHT:
                waiting.pop(0).result()
            waiting.append(pool.submit(writer.append, block.data, block.offsets, block.vectors))
        for future in waiting:
            future.result()


def _name_repeat(source: Path, folder: Path, repeat: NDArray[np.int64]) -> str:
    data, offsets = map_array(folder / "keys.npy"), map_array(folder / "offsets.npy")
    row, first = int(repeat[0]), int(repeat[1])
    key = data[offsets[row] : offsets[row + 1]].tobytes().decode()
    return (
        f"{source}: expected each key once, found {key!r} in rows {first:,} and {row:,}; "
        "to keep one of its vectors: duplicates='first' or 'last'"
    )


def _without_repeats(writer: StoreWriter, repeats: NDArray[np.int64], *, last: bool) -> StoreWriter:
    """Write a store again without the rows of repeated keys, in the same folder; return its new writer."""
    folder = writer.folder
    vectors, data, offsets = (map_array(folder / name) for name in ("vectors.npy", "keys.npy", "offsets.npy"))
    keep = np.ones(len(vectors), bool)
    keep[repeats[:, 0]] = False
    # A key's last record is the one whose repeat comes last: sort by first row, then by row.
    order = np.lexsort((repeats[:, 0], repeats[:, 1]))
    row, first = repeats[order].T
    final = np.flatnonzero(np.append(first[1:] != first[:-1], True))
    row, first = row[final], first[final]

    inner = folder / "distinct"
    inner.mkdir()
    with closing(StoreWriter(inner, writer.dim, expected=int(keep.sum()))) as distinct:
        for start in range(0, len(vectors), _CHUNK):
            rows = start + np.flatnonzero(keep[start : start + _CHUNK])
            lengths = offsets[rows + 1] - offsets[rows]
            keys = [data[low:high] for low, high in zip(offsets[rows], offsets[rows + 1], strict=True)]
            if last:
                place = np.minimum(np.searchsorted(first, rows), len(first) - 1)
                rows = np.where(first[place] == rows, row[place], rows)
            distinct.append(
                np.concatenate([np.empty(0, np.uint8), *keys]),
                np.concatenate([[0], np.cumsum(lengths)]),
                vectors[rows],
            )
        distinct.index()
    for name in ARRAYS[:-1]:
        os.replace(inner / name, folder / name)
    inner.rmdir()
    distinct.folder = folder
    return distinct
