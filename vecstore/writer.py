"""StoreWriter: keys and vectors in, the files of a store out, in memory that does not grow with them.

Vectors, keys and offsets go to their files as they come. The index is built in its mapped file once all keys
are there, moments and metadata come last.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vecstore.arrays import ArrayWriter, checksum, map_array, new_mapped_array
from vecstore.errors import VecstoreError
from vecstore.index import fill_slots, slots_for
from vecstore.kernels.records import survey
from vecstore.layout import ARRAYS, MAX_ROWS, Metadata, Source

__all__ = ["StoreWriter"]


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
            self._files = files.pop_all()
        self._sums = np.zeros(dim)
        self._squares = np.zeros(dim)
        self._counts = np.zeros(4, np.int64)
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
        survey(vectors, vectors.view(np.uint32), self._sums, self._squares, self._counts)
        self._vectors.append(vectors)

    def index(self, progress: Callable[[int], None] | None = None) -> NDArray[np.int64]:
        """Complete keys and vectors, and index the keys; `progress` is told the number of keys, now and then.

        Returns
        -------
        (r, 2) int64 array
            Rows whose key an earlier row holds, and that earlier row; such a store must not be finished.
        """
        for name, writer in (("vectors.npy", self._vectors), ("keys.npy", self._keys), ("offsets.npy", self._offsets)):
            self._checksums[name] = writer.finish()
        path = self.folder / "index.npy"
        with new_mapped_array(path, np.uint64, (slots_for(self.rows),)) as slots:
            data, offsets = map_array(self.folder / "keys.npy"), map_array(self.folder / "offsets.npy")
            self._seed, repeats = fill_slots(data, offsets, slots, progress)
        self._checksums["index.npy"] = checksum(path)
        return repeats

    def finish(self, writer: str, source: Source, dropped: dict[str, int]) -> Metadata:
        """Write moments and metadata; the folder is then a store."""
        finite, nan, infinite, zero = (int(count) for count in self._counts)
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
            unusual={"nan": nan, "infinite": infinite, "zero": zero},
            files={
                name: {"size": (self.folder / name).stat().st_size, "crc32": self._checksums[name]} for name in ARRAYS
            },
        )
        metadata.write(self.folder)
        return metadata

    def close(self) -> None:
        """Close the files, complete or not."""
        self._files.close()
