"""StoreWriter: keys and vectors in, the files of a store out, in memory that does not grow with them.

Vectors, keys and offsets go to their files as they come. The index is built in its mapped file once all keys
are there, moments and metadata come last.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vecstore.arrays import ArrayWriter, checksum, map_array, new_mapped_array
from vecstore.errors import VecstoreError
from vecstore.index import fill_slots, slots_for
from vecstore.kernels.records import survey
from vecstore.layout import ARRAYS, MAX_ROWS, Metadata, Source

__all__ = ["StoreWriter", "name_repeat", "without_repeats"]

_CHUNK = 1 << 14  # rows moved at a time when repeated keys are dropped


class StoreWriter:
    """Write the files of one store into an empty folder: `append` blocks, `index`, `finish`.

    Parameters
    ----------
    folder : Path
        Where the files go; `vecstore.staging` makes the folder appear whole.
    dim : int
        Width of the vectors.
    expected : int, default 0
        The likely number of keys; a right guess saves reading the vectors again for their checksum.
    """

    def __init__(self, folder: Path, dim: int, *, expected: int = 0) -> None:
        self.folder = folder
        self.dim = dim
        with ExitStack() as files:
            self._vectors = files.enter_context(
                ArrayWriter(folder / "vectors.npy", np.float32, (dim,), expected=expected)
            )
            self._keys = files.enter_context(ArrayWriter(folder / "keys.npy", np.uint8))
            self._offsets = files.enter_context(ArrayWriter(folder / "offsets.npy", np.int64, expected=expected + 1))
            self._offsets.append(np.zeros(1, np.int64))
            self._surveyor = files.enter_context(ThreadPoolExecutor(1, thread_name_prefix="vecstore-surveyor"))
            self._files = files.pop_all()
        self._sums = np.zeros(dim)
        self._squares = np.zeros(dim)
        self._counts = np.zeros(5, np.int64)
        self._checksums: dict[str, str] = {}
        self._seed = 0

    @property
    def rows(self) -> int:
        """The number of keys so far."""
        return self._vectors.rows

    def append(self, data: NDArray[np.uint8], offsets: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add n keys, ``data[offsets[i]:offsets[i + 1]]``, and their vectors (n, d); all C-contiguous."""
        if self.rows + len(vectors) > MAX_ROWS:
            raise VecstoreError(f"{self.folder}: expected at most {MAX_ROWS:,} keys")
        self._offsets.append(offsets[1:] - offsets[0] + self._keys.rows)
        self._keys.append(data[offsets[0] : offsets[-1]])
        surveyed = self._surveyor.submit(
            survey, vectors, vectors.view(np.uint32), self._sums, self._squares, self._counts
        )
        try:
            self._vectors.append(vectors)
        finally:
            surveyed.result()

    def index(self, progress: Callable[[int], None] | None = None) -> NDArray[np.int64]:
        """Complete keys and vectors, and index the keys; `progress` is told the number of keys, now and then.

        Returns
        -------
        (r, 2) int64 array
            Rows whose key an earlier row holds, and that earlier row; such a store must not be finished.
        """
        path = self.folder / "index.npy"
        with ThreadPoolExecutor(1, thread_name_prefix="vecstore-writer") as pool:
            vectors = pool.submit(self._vectors.finish)  # waits for the disk while the index is built
            self._checksums["keys.npy"] = self._keys.finish()
            self._checksums["offsets.npy"] = self._offsets.finish()
            with new_mapped_array(path, np.uint64, (slots_for(self.rows),)) as slots:
                data, offsets = map_array(self.folder / "keys.npy"), map_array(self.folder / "offsets.npy")
                self._seed, repeats = fill_slots(data, offsets, slots, progress)
            self._checksums["index.npy"] = checksum(path)
            self._checksums["vectors.npy"] = vectors.result()
        return repeats

    def finish(self, writer: str, source: Source, dropped: dict[str, int]) -> Metadata:
        """Write moments and metadata; the folder is then a store."""
        finite, nan, infinite, zero, huge = (int(count) for count in self._counts)
        mean = self._sums / max(1, finite)
        variance = np.maximum(self._squares / max(1, finite) - mean**2, 0)
        with ArrayWriter(self.folder / "moments.npy", np.float64, (self.dim,), expected=2) as moments:
            moments.append(np.stack([mean, np.sqrt(variance)]))
            self._checksums["moments.npy"] = moments.finish()
        metadata = Metadata(
            writer=writer,
            rows=self.rows,
            dim=self.dim,
            dtype="float32",
            hash={"name": "xxh64", "seed": self._seed},
            source=source,
            dropped=dropped,
            unusual={"nan": nan, "infinite": infinite, "zero": zero, "huge": huge},
            files={
                name: {"size": (self.folder / name).stat().st_size, "crc32": self._checksums[name]} for name in ARRAYS
            },
        )
        metadata.write(self.folder)
        return metadata

    def close(self) -> None:
        """Close the files, complete or not."""
        self._files.close()


def name_repeat(writer: StoreWriter, repeat: NDArray[np.int64]) -> str:
    """Say which key `repeat`, a row of what `StoreWriter.index` returned, is about."""
    data, offsets = map_array(writer.folder / "keys.npy"), map_array(writer.folder / "offsets.npy")
    row, first = int(repeat[0]), int(repeat[1])
    key = data[offsets[row] : offsets[row + 1]].tobytes().decode()
    return (
        f"expected each key once, found {key!r} in rows {first:,} and {row:,}; "
        "to keep one of its vectors: duplicates='first' or 'last'"
    )


def without_repeats(writer: StoreWriter, repeats: NDArray[np.int64], *, last: bool) -> StoreWriter:
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
