"""EmbeddingMatrix: the vectors of a vocabulary, each in its key's row, ready for a model.

Keys that the store does not have get a vector by policy: `align` gathers what was found in one pass and then
fills in the rest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from vecstore.gather import gather, new_or_checked
from vecstore.index import KeyIndex
from vecstore.kernels.lookup import hash_keys
from vecstore.kernels.sampling import draw_normal
from vecstore.keys import KeyBatch
from vecstore.storage import StoredVectors
from vecstore.vocabulary import Vocabulary, plain

__all__ = ["EmbeddingMatrix", "Oov", "align"]

Oov = Literal["zeros", "mean", "normal"] | ArrayLike | Callable[[list[str]], ArrayLike]
"""What a key that is out of vocabulary gets; `VectorStore.matrix` explains each."""

_SHOWN = 5
_CHUNK = 1 << 12  # rows at a time that are float32 before they are of another type


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class EmbeddingMatrix:
    """The vectors of a vocabulary.

    Attributes
    ----------
    vectors : (v, d) float32 array
        Row i is the vector of the key that the vocabulary puts into row i.
    found : (v,) bool array
        Whether the store has that key; False in rows that no key has.
    missing : list of str
        The keys that the store does not have, in the vocabulary's order.
    """

    vectors: NDArray[np.float32]
    found: NDArray[np.bool_]
    missing: list[str]

    @property
    def coverage(self) -> float:
        """Share of the keys that were found, from 0 to 1; 1 for a vocabulary without keys."""
        found = int(self.found.sum())
        keys = found + len(self.missing)
        return found / keys if keys else 1.0

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.vectors, dtype, copy=copy)

    def __str__(self) -> str:
        found = int(self.found.sum())
        text = f"{found:,} of {found + len(self.missing):,} keys found ({self.coverage:.1%})"
        if self.missing:
            more = len(self.missing) - _SHOWN
            text += "; missing: " + ", ".join(repr(key) for key in self.missing[:_SHOWN])
            text += f" and {more:,} more" if more > 0 else ""
        return text

    def __repr__(self) -> str:
        height, width = self.vectors.shape
        return f"EmbeddingMatrix({height:,} x {width} {self.vectors.dtype}: {self})"


def align(
    index: KeyIndex,
    vectors: StoredVectors,
    moments: NDArray[np.float64],
    vocabulary: Any,
    *,
    oov: Oov = "zeros",
    seed: int = 0,
    out: NDArray[Any] | None = None,
    dtype: DTypeLike | None = None,
) -> EmbeddingMatrix:
    """Return the matrix of `vocabulary` over `vectors` (v, d), whose keys `index` finds.

    `moments` (2, d) holds the mean and the standard deviation of each component. `VectorStore.matrix` says
    what the other parameters mean, and what is raised.
    """
    wanted = Vocabulary.of(vocabulary)
    d = vectors.shape[1]
    dtype = np.dtype(np.float32 if dtype is None else dtype)
    if dtype.kind != "f":
        raise ValueError(f"dtype: expected a float type, found {dtype}")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed: expected 0 <= seed < 2**64, found {seed}")
    result = new_or_checked(out, (wanted.height, d), dtype)
    fill = _policy(oov, moments, seed, d)

    found_rows = index.find_batch(wanted.batch)
    rows = np.full(wanted.height, -1, np.int64)
    rows[wanted.rows] = found_rows
    if dtype == vectors.dtype:
        gather(vectors, rows, out=result)
    else:
        for start in range(0, len(rows), _CHUNK):
            result[start : start + _CHUNK] = gather(vectors, rows[start : start + _CHUNK])

    absent = np.flatnonzero(found_rows < 0)
    missing = plain([wanted.keys[i] for i in absent.tolist()])
    names = missing + [key for key, places in wanted.unknown.items() for _ in places]
    unknown = np.array([row for rows in wanted.unknown.values() for row in rows], np.int64)
    places = np.concatenate([wanted.rows[absent], unknown])
    if names and fill is not None:
        with np.errstate(over="ignore"):  # moments of a damaged store
            result[places] = fill(names)
    return EmbeddingMatrix(result, rows >= 0, missing)


def _policy(oov: Oov, moments: NDArray[np.float64], seed: int, d: int) -> Callable[[list[str]], NDArray[Any]] | None:
    """Return what gives n keys their vectors, (n, d) or (d,); None where zeros will do."""
    if isinstance(oov, str):
        if oov == "zeros":
            return None
        if oov == "mean":
            return lambda keys: moments[0]
        if oov == "normal":
            return lambda keys: _normal(keys, moments, seed)
        raise ValueError(f"oov: expected 'zeros', 'mean', 'normal', an array or a callable, found {oov!r}")
    if callable(oov):
        return lambda keys: _checked(oov(keys), (len(keys), d), "the callable's result")
    vector = _checked(oov, (d,), "the array")
    return lambda keys: vector


def _checked(vectors: ArrayLike, shape: tuple[int, ...], what: str) -> NDArray[Any]:
    array = np.asarray(vectors)
    if array.shape != shape or array.dtype.kind not in "fiu":
        raise ValueError(f"oov: expected {what} to be numbers of shape {shape}, found {array.dtype} of {array.shape}")
    return array


def _normal(keys: list[str], moments: NDArray[np.float64], seed: int) -> NDArray[np.float32]:
    # A key with a lone surrogate has no UTF-8, but its vector is its own all the same.
    batch = KeyBatch.of([key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key for key in keys])
    hashes = np.empty(len(batch), np.uint64)
    hash_keys(batch.data, batch.starts, batch.stops, seed, 0, len(batch), hashes)
    vectors = np.empty((len(batch), moments.shape[1]), np.float32)
    draw_normal(hashes, moments[0], moments[1], 0, len(batch), vectors)
    return vectors
