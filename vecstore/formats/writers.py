"""Writers: keys and vectors out, as word2vec binary, as text, and as a ``.npy`` with its keys beside it.

All keys are checked before anything is written: what a format, or our own reader of it, would not give back is an
error that names the key. Keys and vectors are taken a few thousand rows at a time, so that a store of any size is
written in the same memory.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vecstore.errors import FormatError
from vecstore.formats.compression import packing
from vecstore.formats.lines import BLANKS, NUMBER
from vecstore.formats.names import keys_path
from vecstore.kernels.records import KEY_LIMIT
from vecstore.kernels.text import MAX_NUMBERS_IN_KEY
from vecstore.kernels.writing import NUMBER_BYTES, POWERS, find_key_with, write_lines, write_records
from vecstore.keys import KeyBatch, Keys
from vecstore.progress import Progress, ProgressCallback
from vecstore.staging import staged_file
from vecstore.storage import StoredVectors
from vecstore.threads import split

__all__ = ["write_npy", "write_text", "write_word2vec"]

_CHUNK_BYTES = 1 << 22  # of vectors
_CHUNK_ROWS = 1 << 14
_GRAIN_NUMBERS = 1 << 14  # that are worth a thread: about 1 ms of digits
_SAMPLE_ROWS = 100  # lines by which a reader of text without a header guesses the dim
_BOM = "\ufeff".encode()
_SPACE, _TAB, _NEWLINE, _RETURN = b" \t\n\r"


class _Records(NamedTuple):
    """Keys, ``data[starts[i]:stops[i]]``, and their vectors."""

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]
    vectors: Any  # an array, or a store's vectors, of which slices are arrays

    @classmethod
    def of(cls, keys: Keys, vectors: ArrayLike) -> "_Records":
        batch = KeyBatch.of(keys)
        if batch.codes is not None:
            batch = KeyBatch.from_offsets(*batch.packed())
        matrix: Any = vectors if isinstance(vectors, StoredVectors) else np.asarray(vectors)
        if matrix.ndim != 2 or len(matrix) != len(batch):
            raise ValueError(f"expected vectors of shape ({len(batch):,}, dim) for as many keys, found {matrix.shape}")
        return cls(batch.data, batch.starts, batch.stops, matrix)

    def key(self, row: int) -> bytes:
        return self.data[self.starts[row] : self.stops[row]].tobytes()

    def find(self, one: int, other: int, start: int = 0) -> int:
        """Return the first row from `start` on whose key holds one of two bytes, or the number of rows."""
        return int(find_key_with(self.data, self.starts, self.stops, one, other, start))

    def refuse(self, row: int, what: str) -> FormatError:
        return FormatError(
            f"row {row:,}: key {self.key(row).decode(errors='replace')!r:.80}: {what}; "
            "gensim's own format (format='gensim', --format gensim) holds any key"
        )

    def chunks(self, progress: ProgressCallback | None) -> Iterator["_Records"]:
        """Cut into a few thousand rows each, their vectors little-endian float32; tell what is done after each."""
        total, dim = self.vectors.shape
        step = min(max(1, _CHUNK_BYTES // (4 * dim or 1)), _CHUNK_ROWS)
        for start in range(0, total, step):
            stop = min(start + step, total)
            rows = np.ascontiguousarray(self.vectors[start:stop], "<f4")
            yield self._replace(starts=self.starts[start:stop], stops=self.stops[start:stop], vectors=rows)
            if progress:
                progress(Progress("writing", stop, total, "keys"))


def write_word2vec(
    path: Path, keys: Keys, vectors: ArrayLike, *, newlines: bool = False, progress: ProgressCallback | None = None
) -> None:
    """Write a word2vec binary.

    Parameters
    ----------
    path : Path
        Appears whole or not at all; replaced if it exists.
    keys : v keys
        Whatever `KeyBatch.of` takes. The format cannot hold a space or a newline in a key, nor a key of more than
        4,096 bytes.
    vectors : (v, d) array
        Written as float32.
    newlines : bool, default False
        Whether a newline follows each vector, as word2vec.c writes it.
    progress : callable, optional
        Told the number of keys written, now and then.

    Raises
    ------
    FormatError
        A key cannot be written; nothing is.
    ValueError
        There are not as many keys as vectors, or a key is null.
    """
    records = _Records.of(keys, vectors)
    _check_lengths(records)
    row = records.find(_SPACE, _NEWLINE)
    if row < len(records.starts):
        what = "a newline" if b"\n" in records.key(row) else "a space"
        raise records.refuse(row, f"word2vec binary cannot hold {what} in a key")
    with staged_file(path, overwrite=True) as file:
        file.write(b"%d %d\n" % records.vectors.shape)
        for chunk in records.chunks(progress):
            file.write(_render_records(chunk, space=True, newline=newlines).data)


def write_text(
    path: Path, keys: Keys, vectors: ArrayLike, *, header: bool, progress: ProgressCallback | None = None
) -> None:
    """Write a record a line: the key, then each number as the shortest decimal that gives its float32 again.

    Numbers are laid out as gensim writes them. Vectors of another type are rounded to float32.

    Parameters
    ----------
    path : Path
        Appears whole or not at all; replaced if it exists.
    keys : v keys
        Whatever `KeyBatch.of` takes. Text cannot hold a newline in a key or a blank at its end, nor a key of more
        than 4,096 bytes or one with so many numbers in it that its line looks like two. Other readers, gensim's
        among them, take no key with a space.
    vectors : (v, d) array
    header : bool
        Whether a line ``count dim`` comes first: word2vec text and fastText's ``.vec`` have it, GloVe has not.
    progress : callable, optional
        Told the number of keys written, now and then.

    Raises
    ------
    FormatError
        A key cannot be written; nothing is.
    ValueError
        There are not as many keys as vectors, or a key is null.
    """
    records = _Records.of(keys, vectors)
    _check_lengths(records)
    _check_newlines(records, "text")
    _check_blanks(records)
    if not header:
        _check_start(records, "text without a header")
    _check_sample(records, header=header)
    with staged_file(path, overwrite=True) as file:
        if header:
            file.write(b"%d %d\n" % records.vectors.shape)
        for chunk in records.chunks(progress):
            for lines in _render_lines(chunk):
                file.write(lines.data)


def write_npy(path: Path, keys: Keys, vectors: ArrayLike, *, progress: ProgressCallback | None = None) -> None:
    """Write vectors as a ``.npy`` array of float32, and their keys one a line to `keys_path`.

    Parameters
    ----------
    path : Path
        Appears whole or not at all, after the keys; both files are replaced if they exist.
    keys : v keys
        Whatever `KeyBatch.of` takes. The lines cannot hold a newline in a key or a carriage return at its end.
    vectors : (v, d) array
        Written as float32.
    progress : callable, optional
        Told the number of keys written, now and then.

    Raises
    ------
    FormatError
        A key cannot be written; nothing is.
    ValueError
        There are not as many keys as vectors, or a key is null.
    """
    records = _Records.of(keys, vectors)
    _check_newlines(records, "a key a line")
    _check_start(records, "a key a line")
    row = -1
    while (row := records.find(_RETURN, _RETURN, row + 1)) < len(records.starts):
        if records.key(row).endswith(b"\r"):
            raise records.refuse(row, "a key a line cannot hold a carriage return at a key's end")
    layout = {"descr": "<f4", "fortran_order": False, "shape": records.vectors.shape}
    with staged_file(path, overwrite=True) as matrix, staged_file(keys_path(path), overwrite=True) as lines:
        np.lib.format.write_array_header_1_0(matrix, layout)
        for chunk in records.chunks(progress):
            matrix.write(chunk.vectors.data)
            lines.write(_render_records(chunk._replace(vectors=chunk.vectors[:, :0]), space=False, newline=True).data)
        # The keys get their name first, and must not if the disk has no room for the matrix.
        matrix.flush()
        os.fsync(matrix.fileno())


def _check_lengths(records: _Records) -> None:
    long = np.flatnonzero(records.stops - records.starts > KEY_LIMIT)
    if len(long):
        raise records.refuse(int(long[0]), f"a key of more than {KEY_LIMIT:,} bytes would be taken for damage")


def _check_newlines(records: _Records, format: str) -> None:
    row = records.find(_NEWLINE, _NEWLINE)
    if row < len(records.starts):
        raise records.refuse(row, f"{format} cannot hold a newline in a key")


def _check_start(records: _Records, format: str) -> None:
    """Refuse a first key whose bytes say, at the start of a file, that it is something else."""
    if not len(records.starts):
        return
    key = records.key(0)
    if key.startswith(_BOM):
        raise records.refuse(0, f"{format} cannot start with U+FEFF: it would be taken for a byte order mark")
    if kind := packing(key):
        raise records.refuse(0, f"{format} cannot start with this key: it would be taken for a {kind} file")


def _check_blanks(records: _Records) -> None:
    """Refuse the keys with blanks that readers of text would cut or take for two lines."""
    most = min(MAX_NUMBERS_IN_KEY, max(records.vectors.shape[1] - 2, 3))
    row = -1
    while (row := records.find(_SPACE, _TAB, row + 1)) < len(records.starts):
        key = records.key(row)
        if key[-1] in b" \t":
            raise records.refuse(row, "text cannot hold a blank at a key's end")
        fields = BLANKS.split(key)[1:]
        if len(fields) > most and sum(bool(NUMBER.fullmatch(field)) for field in fields) > most:
            raise records.refuse(
                row, f"text cannot hold more than {most} numbers in a key: its line would look like two"
            )


def _check_sample(records: _Records, *, header: bool) -> None:
    """Refuse first keys that end in numbers so often that a reader would count these to the vectors.

    A reader takes the number of fields that most of the first lines end with, and does not always see all of these.
    A header says how many there are; two lines that have more are enough for a reader to take it for wrong.
    """
    counts: Counter[int] = Counter()
    for row in range(min(_SAMPLE_ROWS, len(records.starts))):
        fields = BLANKS.split(records.key(row))[1:]
        more = next((i for i, field in enumerate(reversed(fields)) if not NUMBER.fullmatch(field)), len(fields))
        counts[more] += 1
        usual = max(counts, key=lambda more: (counts[more], more))
        if usual and (counts[usual] > 1 or not header):
            remedy = "" if header else "; with a header (format='word2vec-text') it can, unless two keys have as many"
            raise records.refuse(
                row,
                f"text {'with' if header else 'without'} a header cannot hold so many numbers at the end of its first "
                f"keys: they would be taken for the vector's{remedy}",
            )


def _render_records(chunk: _Records, *, space: bool, newline: bool) -> NDArray[np.uint8]:
    rows = chunk.vectors.view(np.uint8).reshape(-1) if chunk.vectors.size else np.empty(0, np.uint8)
    n, width = len(chunk.starts), 4 * chunk.vectors.shape[1]
    out = np.empty(int((chunk.stops - chunk.starts).sum()) + n * (width + space + newline), np.uint8)
    write_records(chunk.data, chunk.starts, chunk.stops, rows, width, space, newline, 0, n, out)
    return out


def _render_lines(chunk: _Records) -> list[NDArray[np.uint8]]:
    """Return the lines of a chunk in a few pieces, each made by one thread."""
    n, dim = chunk.vectors.shape
    numbers = chunk.vectors.astype(np.float32, copy=False)
    lengths = chunk.stops - chunk.starts
    pieces: dict[int, NDArray[np.uint8]] = {}

    def render(start: int, stop: int) -> None:
        out = np.empty(int(lengths[start:stop].sum()) + (stop - start) * (NUMBER_BYTES * dim + 1), np.uint8)
        used = write_lines(
            chunk.data, chunk.starts, chunk.stops, numbers, numbers.view(np.uint32), POWERS, start, stop, out
        )
        pieces[start] = out[:used]

    split(render, n, max(1, _GRAIN_NUMBERS // (dim or 1)))
    return [pieces[start] for start in sorted(pieces)]
