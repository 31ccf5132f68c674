"""StoreWriter: keys and vectors in, the files of a store out, in memory that does not grow with them.

Vectors, keys and offsets go to their files as they come. The index is built in its mapped file once all keys
are there, moments and metadata come last.

Where the smallest exact storage type is asked for, vectors are written in the smallest that has held every number so
far. When one comes that it does not hold, what is written already is written again in the smallest that is left, and
nothing is lost: it was exact.
"""

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vecstore.arrays import checksum, map_array
from vecstore.errors import FormatError, VecstoreError
from vecstore.index import fill_slots, slots_for
from vecstore.kernels.narrowing import measure
from vecstore.kernels.records import survey
from vecstore.layout import MAX_ROWS, SCALES, Metadata, Source, arrays_of
from vecstore.new_arrays import ArrayWriter, new_mapped_array
from vecstore.storage import FLOAT32, ExactTypes, StorageType, StoredVectors

__all__ = ["StoreWriter", "name_repeat", "without_repeats"]

_CHUNK = 1 << 14  # rows moved at a time when they are written again


class _VectorsWriter:
    """Write vectors as a storage type keeps them: ``vectors.npy``, and ``scales.npy`` if it has scales."""

    def __init__(self, folder: Path, storage: StorageType, dim: int, *, expected: int) -> None:
        self.storage = storage
        with ExitStack() as files:
            self._array = files.enter_context(
                ArrayWriter(folder / "vectors.npy", storage.dtype, (dim,), expected=expected)
            )
            self._scales = (
                files.enter_context(ArrayWriter(folder / SCALES, np.float32, expected=expected))
                if storage.scaled
                else None
            )
            self.close = files.pop_all().close

    @property
    def rows(self) -> int:
        return self._array.rows

    def append(self, vectors: StoredVectors) -> None:
        if self._scales is not None and vectors.scales is not None:
            self._scales.append(vectors.scales)
        self._array.append(vectors.array)

    def finish(self) -> dict[str, str]:
        """Complete the files; return the checksum of each."""
        checksums = {} if self._scales is None else {SCALES: self._scales.finish()}
        return checksums | {"vectors.npy": self._array.finish()}


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
    storage : StorageType or None
        How vectors are kept; None for the smallest type that holds all of them bit for bit.
    aside : bool, default True
        Whether vectors are surveyed on a thread of their own while they are written.

    Attributes
    ----------
    exact : ExactTypes
        The storage types that hold bit for bit every vector that was appended.
    errors : (3,) float64 array
        Of the vectors appended, against those kept: the sum of the absolute errors, the largest of them, and the
        lowest cosine between a row and what is kept of it.
    """

    def __init__(
        self,
        folder: Path,
        dim: int,
        *,
        expected: int = 0,
        storage: StorageType | None = FLOAT32,
        aside: bool = True,
    ) -> None:
        self.folder = folder
        self.dim = dim
        self.exact = ExactTypes(dim)
        self.errors = np.array([0.0, 0.0, 1.0])
        self._expected = expected
        self._choose = storage is None
        with ExitStack() as files:
            self._vectors = self._new_vectors(storage or self.exact.smallest)
            files.callback(lambda: self._vectors.close())
            self._keys = files.enter_context(ArrayWriter(folder / "keys.npy", np.uint8))
            self._offsets = files.enter_context(ArrayWriter(folder / "offsets.npy", np.int64, expected=expected + 1))
            self._offsets.append(np.zeros(1, np.int64))
            self._surveyor = ThreadPoolExecutor(1, thread_name_prefix="vecstore-surveyor") if aside else None
            if self._surveyor:
                files.enter_context(self._surveyor)
            self._files = files.pop_all()
        self._sums = np.zeros(dim)
        self._squares = np.zeros(dim)
        self._counts = np.zeros(5, np.int64)
        self._checksums: dict[str, str] = {}
        self._seed = 0

    def _new_vectors(self, storage: StorageType) -> _VectorsWriter:
        return _VectorsWriter(self.folder, storage, self.dim, expected=self._expected)

    @property
    def rows(self) -> int:
        """The number of keys so far."""
        return self._vectors.rows

    @property
    def storage(self) -> StorageType:
        """How vectors are kept; until the last one is appended, it may change if the smallest type was asked for."""
        return self._vectors.storage

    def append(self, data: NDArray[np.uint8], offsets: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Add n keys, ``data[offsets[i]:offsets[i + 1]]``, and their vectors (n, d); all C-contiguous.

        Raises
        ------
        FormatError
            The storage type cannot hold one of the vectors; the message names its key, but not the source.
        """
        self.exact.see(vectors)
        if self._choose and self.storage not in self.exact:
            self._write_again(self.exact.smallest)
        exact = self.storage in self.exact
        stored, refused = self.storage.store(vectors, exact=exact)
        if refused >= 0:
            key = data[offsets[refused] : offsets[refused + 1]].tobytes().decode()
            raise self._refuse(self.rows + refused, key, vectors[refused])
        served = vectors
        if not exact:
            served = stored[:]
            measure(vectors, served, self.errors)
        self._append(data, offsets, stored, served)

    def append_stored(self, data: NDArray[np.uint8], offsets: NDArray[np.int64], vectors: StoredVectors) -> None:
        """Add n keys and their vectors (n, d), which are kept in this store's way already."""
        self._append(data, offsets, vectors, vectors[:])

    def _append(
        self,
        data: NDArray[np.uint8],
        offsets: NDArray[np.int64],
        stored: StoredVectors,
        served: NDArray[np.float32],
    ) -> None:
        if self.rows + len(stored) > MAX_ROWS:
            raise VecstoreError(f"{self.folder}: expected at most {MAX_ROWS:,} keys")
        self._offsets.append(offsets[1:] - offsets[0] + self._keys.rows)
        self._keys.append(data[offsets[0] : offsets[-1]])
        survey_all = partial(survey, served, served.view(np.uint32), self._sums, self._squares, self._counts)
        if self._surveyor is None:
            survey_all()
            self._vectors.append(stored)
            return
        surveyed = self._surveyor.submit(survey_all)
        try:
            self._vectors.append(stored)
        finally:
            surveyed.result()

    def _write_again(self, storage: StorageType) -> None:
        """Write the vectors again in a type that holds them all."""
        aside = self.folder / "aside"
        aside.mkdir()
        self._vectors.finish()
        for name in {"vectors.npy", SCALES}.intersection(arrays_of(self.storage)):
            os.replace(self.folder / name, aside / name)
        vectors = _map_vectors(aside, self.storage)
        self._vectors = self._new_vectors(storage)
        for start in range(0, len(vectors), _CHUNK):
            stored, refused = storage.store(vectors[start : start + _CHUNK], exact=True)
            assert refused < 0
            self._vectors.append(stored)
        shutil.rmtree(aside)

    def _refuse(self, row: int, key: str, vector: NDArray[np.float32]) -> FormatError:
        """Return the error that names the number which the storage type cannot hold."""
        if self.storage.scaled:
            beyond = ~np.isfinite(vector)
        else:
            stored, _ = self.storage.store(vector[None])
            beyond = np.isfinite(vector) & ~np.isfinite(stored[:][0])
        position = int(np.flatnonzero(beyond)[0])
        return FormatError(
            f"row {row:,}: key {key!r:.80}: expected numbers that {self.storage.name} can hold, found "
            f"{vector[position]!s} at position {position}; name another type: dtype= (--dtype), 'float32' or 'auto'"
        )

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
            try:
                self._checksums |= vectors.result()
            finally:
                del vectors  # which refers to the error, and the error to this frame and the mapped files
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
            version=self.storage.version,
            writer=writer,
            rows=self.rows,
            dim=self.dim,
            dtype=self.storage.name,
            hash={"name": "xxh64", "seed": self._seed},
            source=source,
            dropped=dropped,
            unusual={"nan": nan, "infinite": infinite, "zero": zero, "huge": huge},
            files={
                name: {"size": (self.folder / name).stat().st_size, "crc32": self._checksums[name]}
                for name in arrays_of(self.storage)
            },
        )
        metadata.write(self.folder)
        return metadata

    def close(self) -> None:
        """Close the files, complete or not."""
        self._files.close()


def _map_vectors(folder: Path, storage: StorageType) -> StoredVectors:
    scales = map_array(folder / SCALES) if storage.scaled else None
    return StoredVectors(storage, map_array(folder / "vectors.npy"), scales)


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
    vectors = _map_vectors(folder, writer.storage)
    data, offsets = map_array(folder / "keys.npy"), map_array(folder / "offsets.npy")
    keep = np.ones(len(vectors), bool)
    keep[repeats[:, 0]] = False
    # A key's last record is the one whose repeat comes last: sort by first row, then by row.
    order = np.lexsort((repeats[:, 0], repeats[:, 1]))
    row, first = repeats[order].T
    final = np.flatnonzero(np.append(first[1:] != first[:-1], True))
    row, first = row[final], first[final]

    inner = folder / "distinct"
    inner.mkdir()
    with closing(StoreWriter(inner, writer.dim, expected=int(keep.sum()), storage=writer.storage)) as distinct:
        for start in range(0, len(vectors), _CHUNK):
            rows = start + np.flatnonzero(keep[start : start + _CHUNK])
            lengths = offsets[rows + 1] - offsets[rows]
            keys = [data[low:high] for low, high in zip(offsets[rows], offsets[rows + 1], strict=True)]
            if last:
                place = np.minimum(np.searchsorted(first, rows), len(first) - 1)
                rows = np.where(first[place] == rows, row[place], rows)
            distinct.append_stored(
                np.concatenate([np.empty(0, np.uint8), *keys]),
                np.concatenate([[0], np.cumsum(lengths)]),
                vectors.take(rows),
            )
        distinct.index()
    for path in list(inner.iterdir()):
        os.replace(path, folder / path.name)
    inner.rmdir()
    distinct.folder = folder
    return distinct
