"""StorageType: how a store keeps float32 numbers, whole or in fewer bits; StoredVectors: vectors so kept.

Whatever the type, what is handed out is float32.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vecstore.kernels.gathering import gather_rows, gather_rows_bfloat16, gather_rows_float16, gather_rows_int8
from vecstore.kernels.lanes import LANES
from vecstore.kernels.machine import Kernel
from vecstore.kernels.narrowing import (
    holds_bfloat16,
    holds_float16,
    holds_int8,
    narrow_bfloat16,
    narrow_float16,
    narrow_int8,
)
from vecstore.kernels.pooling import pool_rows, pool_rows_bfloat16, pool_rows_float16, pool_rows_int8

__all__ = ["FLOAT32", "STORAGE_TYPES", "ExactTypes", "StorageType", "StoredVectors"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class StorageType:
    """A way to keep float32 numbers.

    Attributes
    ----------
    name : str
    dtype : dtype
        Of the numbers as they are kept; uint16 for bfloat16, which NumPy does not have.
    version : int
        The first version of the format on disk that has it.
    gather_rows : Kernel
        What hands rows out as float32.
    pool_rows : Kernel
        What makes one vector of the rows of a document.
    scaled : bool
        Whether each row has a scale, a float32 that its numbers are to be multiplied by.
    """

    name: str
    dtype: np.dtype[Any]
    version: int
    gather_rows: Kernel
    pool_rows: Kernel
    _holds: Kernel | None = None
    _narrow: Kernel | None = None
    scaled: bool = False

    def __repr__(self) -> str:
        return f"StorageType({self.name!r})"

    def row_bytes(self, dim: int) -> int:
        """Return how many bytes a row of `dim` numbers takes."""
        return dim * self.dtype.itemsize + (4 if self.scaled else 0)

    def holds(self, vectors: NDArray[np.float32]) -> bool:
        """Say whether every number of `vectors` (n, d), C-contiguous, comes back bit for bit."""
        return self._holds is None or bool(self._holds(vectors.view(np.uint32)))

    def store(self, vectors: NDArray[np.float32], *, exact: bool = False) -> tuple["StoredVectors", int]:
        """Return `vectors` (n, d), C-contiguous, as this type keeps them, a view if that is float32.

        `exact` says that this type holds them all: scales are then looked for that give back every bit.

        Returns
        -------
        StoredVectors
        int
            The first row that cannot be kept, -1 if there is none: a finite number would become infinite or, in int8,
            is none. The rows from there on are undefined.
        """
        if self._narrow is None:
            return StoredVectors(self, vectors), -1
        array = np.empty(vectors.shape, self.dtype)
        scales = np.empty(len(vectors), np.float32) if self.scaled else None
        args = (_numbers(array),) if scales is None else (exact, array, scales)
        return StoredVectors(self, array, scales), int(self._narrow(vectors.view(np.uint32), *args))


FLOAT32 = StorageType("float32", np.dtype("<f4"), 1, gather_rows, pool_rows)
_FLOAT16 = StorageType(
    "float16", np.dtype("<f2"), 2, gather_rows_float16, pool_rows_float16, holds_float16, narrow_float16
)
_BFLOAT16 = StorageType(
    "bfloat16", np.dtype("<u2"), 2, gather_rows_bfloat16, pool_rows_bfloat16, holds_bfloat16, narrow_bfloat16
)
_INT8 = StorageType("int8", np.dtype("|i1"), 2, gather_rows_int8, pool_rows_int8, holds_int8, narrow_int8, scaled=True)
STORAGE_TYPES = {kept.name: kept for kept in (FLOAT32, _FLOAT16, _BFLOAT16, _INT8)}
_BY_PREFERENCE = ("bfloat16", "float16", "int8", "float32")  # of several that take as many bytes


class ExactTypes:
    """Which storage types hold, bit for bit, every number seen so far.

    A type that has failed is not looked at again: ordinary numbers leave float32 alone after some rows.

    Parameters
    ----------
    dim : int
        Width of the vectors.
    """

    def __init__(self, dim: int) -> None:
        kept = (STORAGE_TYPES[name] for name in _BY_PREFERENCE)
        self._alive = sorted(kept, key=lambda kept: kept.row_bytes(dim))

    def see(self, vectors: NDArray[np.float32]) -> None:
        """Drop the types that do not hold every number of `vectors` (n, d), C-contiguous."""
        self._alive = [kept for kept in self._alive if kept.holds(vectors)]

    def __contains__(self, kept: StorageType) -> bool:
        return kept in self._alive

    @property
    def smallest(self) -> StorageType:
        """The one that takes the fewest bytes."""
        return self._alive[0]


@dataclass(frozen=True, slots=True, eq=False)
class StoredVectors:
    """v vectors of width d as they are kept; a slice of rows, or NumPy's ``asarray``, gives them as float32.

    Attributes
    ----------
    storage : StorageType
    array : (v, d) array of its dtype
        C-contiguous.
    scales : (v,) float32 array or None
    """

    storage: StorageType
    array: NDArray[Any]
    scales: NDArray[np.float32] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(v, d)."""
        return self.array.shape[0], self.array.shape[1]

    @property
    def ndim(self) -> int:
        """Always 2."""
        return 2

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of what is handed out: float32."""
        return FLOAT32.dtype

    def __len__(self) -> int:
        return len(self.array)

    def gather(
        self, rows: NDArray[np.int64], oov: float, streaming: bool, start: int, stop: int, out: NDArray[np.float32]
    ) -> None:
        """Write vector ``rows[i]`` to ``out[i]`` for start <= i < stop, and `oov` for rows that do not exist.

        `streaming` says whether `out` is larger than the processor's caches.
        """
        self.storage.gather_rows(*self._kept, rows, oov, streaming, start, stop, out)

    def pool(
        self,
        rows: NDArray[np.int64],
        offsets: NDArray[np.int64],
        *,
        pooling: int,
        weights: NDArray[np.float32],
        normalize: bool,
        counts: NDArray[np.int64],
        out: NDArray[np.float32],
    ) -> None:
        """Write the pooled vectors of documents to `out`, and over `rows`; `kernels.pooling` says more."""
        sums = np.empty(max(self.shape[1], LANES), np.float64)
        self.storage.pool_rows(*self._kept, weights, rows, offsets, pooling, normalize, sums, counts, out)

    @property
    def _kept(self) -> tuple[NDArray[Any], ...]:
        return (_numbers(self.array),) if self.scales is None else (self.array, self.scales)

    def row(self, row: int) -> NDArray[np.float32]:
        """Return one vector (d,), a copy."""
        return np.array(self.array[row]) if self.storage is FLOAT32 else self[row : row + 1][0]

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        """Return consecutive vectors (n, d): a view if they are kept as float32, or else a copy."""
        if self.storage is FLOAT32:
            shared: NDArray[np.float32] = self.array[rows]
            return shared
        chosen = np.arange(*rows.indices(len(self)))
        out = np.empty((len(chosen), self.shape[1]), np.float32)
        self.gather(chosen, 0.0, False, 0, len(chosen), out)
        return out

    def take(self, rows: NDArray[np.int64]) -> "StoredVectors":
        """Return some vectors as they are kept; a copy."""
        return StoredVectors(self.storage, self.array[rows], None if self.scales is None else self.scales[rows])

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self[:], dtype, copy=copy)


def _numbers(array: NDArray[Any]) -> NDArray[Any]:
    """Return numbers as kernels take them, float16 as uint16."""
    return array.view(np.uint16) if array.dtype == np.float16 else array
