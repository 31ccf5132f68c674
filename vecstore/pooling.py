"""Documents to vectors: the rows of each document's tokens found, and made one vector, in one pass.

Each thread takes documents, and of their tokens a block at a time: it finds the block's rows, then pools them straight
out of the mapped file. A document belongs to one thread and its rows are added in order, in float64, so that a result
does not depend on the number of threads, nor on what else is in a call.
"""

from bisect import bisect_left
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vecstore.gather import ask_ahead, new_or_checked
from vecstore.index import KeyIndex
from vecstore.kernels.pooling import FIRST, MAX, MEAN, SUM
from vecstore.keys import Keys, frozen
from vecstore.storage import StoredVectors
from vecstore.threads import split
from vecstore.tokens import Tokens

__all__ = ["Pooling", "pool", "sif_weights"]

Pooling = Literal["mean", "sum", "max", "first"] | NDArray[Any]
"""How the vectors of a document become one: by name, or a weight (v,) for each row of the store."""

_POOLINGS = {"mean": MEAN, "sum": SUM, "max": MAX, "first": FIRST}
_GRAIN = 4096  # tokens and documents that are worth a thread: about 0.5 ms
_BLOCK = 1 << 16  # tokens whose rows are found at a time; their rows stay in the processor's cache
_ALIKE = frozen([], np.float32)  # no weights: all rows weigh 1


def pool(
    index: KeyIndex,
    vectors: StoredVectors,
    tokens: Tokens,
    *,
    pooling: Pooling,
    normalize: bool,
    out: NDArray[np.float32] | None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return a vector for each document (n, d), and how many of its tokens are known (n,).

    `VectorStore.embed` says more, and what is raised.
    """
    batch, offsets = tokens.batch, tokens.offsets
    v, d = vectors.shape
    n = len(offsets) - 1
    code, weights = _check_pooling(pooling, v)
    result = new_or_checked(out, (n, d), vectors.dtype)
    counts = np.empty(n, np.int64)

    def embed(low: int, high: int) -> None:
        document, stop = _document_at(offsets, low), _document_at(offsets, high)
        at, last = int(offsets[document]), int(offsets[stop])
        buffer, sums = np.empty(min(_BLOCK, last - at), np.int64), np.empty(d, np.float64)
        while document < stop:
            rows = buffer[: last - at]
            index.find_part(batch, at, at + len(rows), rows)
            ask_ahead(vectors.array, rows, alone=True)
            document = vectors.pool(
                rows,
                at,
                offsets,
                document,
                stop,
                pooling=code,
                weights=weights,
                normalize=normalize,
                sums=sums,
                counts=counts,
                out=result,
            )
            at += len(rows)

    split(embed, int(offsets[-1]) + n, _GRAIN)
    return result, counts


def _document_at(offsets: NDArray[np.int64], place: int) -> int:
    """Return the first document that begins at `place` or later, where each document is its tokens and 1 more.

    The 1 gives documents without tokens a place of their own, and counts the work that each document is.
    """
    return bisect_left(range(len(offsets) - 1), place, key=lambda i: int(offsets[i]) + i)


def _check_pooling(pooling: Any, v: int) -> tuple[int, NDArray[np.float32]]:
    if isinstance(pooling, str):
        if pooling not in _POOLINGS:
            names = ", ".join(map(repr, _POOLINGS))
            raise ValueError(f"pooling: expected {names} or an array of weights, found {pooling!r}")
        return _POOLINGS[pooling], _ALIKE
    if not isinstance(pooling, np.ndarray) or pooling.dtype.kind not in "fiu":
        raise TypeError(f"pooling: expected a name or an array of weights, found {type(pooling).__name__}: {pooling!r}")
    if pooling.shape != (v,):
        raise ValueError(f"pooling: expected a weight for each of {v:,} rows, found shape {pooling.shape}")
    return MEAN, frozen(pooling, np.float32)


def sif_weights(index: KeyIndex, counts: Any, *, a: float = 1e-3) -> NDArray[np.float32]:
    """Return the smooth inverse frequency of each row (v,). `VectorStore.sif_weights` says more."""
    keys, numbers = _check_counts(counts)
    if not 0 < a < np.inf:
        raise ValueError(f"a: expected a positive number, found {a!r}")
    rows = index.find(keys)
    if len(rows) != len(numbers):
        raise ValueError(f"counts: expected as many counts as keys, found {len(numbers):,} for {len(rows):,}")
    known = rows >= 0
    frequency = np.bincount(rows[known], numbers[known], minlength=len(index))
    weights: NDArray[np.float64] = a / (a + frequency / max(numbers.sum(), np.finfo(float).tiny))
    return weights.astype(np.float32)


def _check_counts(counts: Any) -> tuple[Keys, NDArray[np.float64]]:
    keys, given = (list(counts), list(counts.values())) if isinstance(counts, Mapping) else counts
    array = np.asarray(given)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iuf"):
        raise TypeError(f"counts: expected a number for each key, found {array.dtype} of shape {array.shape}")
    numbers = array.astype(np.float64)
    if not np.all((numbers >= 0) & (numbers < np.inf)):
        raise ValueError("counts: expected numbers that are not negative, nor infinite, nor NaN")
    return keys, numbers
