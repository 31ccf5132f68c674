"""CommonComponent: the direction that all vectors of texts share, found in a sample and taken out of others.

The second step of smooth inverse frequency (Arora, Liang, Ma: "A Simple but Tough-to-Beat Baseline for Sentence
Embeddings", ICLR 2017, https://openreview.net/forum?id=SyK00v5xx, algorithm 1): u is the first singular vector of the
matrix of the texts' vectors, which is not centred, and each vector x becomes x - u u^T x.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vecstore.gather import new_or_checked

__all__ = ["CommonComponent"]

_BLOCK = 1 << 20  # numbers that are worked on at a time


@dataclass(frozen=True, slots=True, eq=False)
class CommonComponent:
    """A direction that is taken out of vectors.

    Attributes
    ----------
    direction : (d,) float32 array
        Of length one; all zeros if there was nothing to fit. Its largest component is positive.

    Examples
    --------
    >>> common = vecstore.CommonComponent.fit([[1.0, 2.0], [2.0, 4.0]])
    >>> common.direction
    array([0.4472136, 0.8944272], dtype=float32)
    >>> common.remove([[2.0, -1.0]])
    array([[ 2., -1.]], dtype=float32)
    """

    direction: NDArray[np.float32]

    @classmethod
    def fit(cls, vectors: ArrayLike) -> "CommonComponent":
        """Return the first singular vector of a sample of vectors (n, d); O(n d^2 + d^3), in float64.

        Raises
        ------
        ValueError
            `vectors` is not 2-d, or holds NaN or infinities.
        """
        sample = _as_vectors(vectors)
        d = sample.shape[1]
        products = np.zeros((d, d))
        for block in _blocks(sample):
            part = sample[block].astype(np.float64)
            products += part.T @ part
        if not np.isfinite(products).all():
            raise ValueError("expected finite vectors, found NaN or infinities")
        if not products.any():
            return cls(np.zeros(d, np.float32))
        direction = np.linalg.eigh(products)[1][:, -1]
        return cls((direction * np.sign(direction[np.abs(direction).argmax()])).astype(np.float32))

    def remove(self, vectors: ArrayLike, *, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return vectors (n, d) without this direction: (n, d) float32, a copy; `out` if given, maybe `vectors`.

        Raises
        ------
        TypeError
            `out` is not an array.
        ValueError
            `vectors` is not (n, d), or `out` has the wrong shape, dtype or memory order.
        """
        given = _as_vectors(vectors)
        if given.shape[1] != len(self.direction):
            raise ValueError(f"expected vectors of width {len(self.direction)}, found shape {given.shape}")
        result = new_or_checked(out, given.shape, np.float32)
        direction = self.direction.astype(np.float64)
        for block in _blocks(given):
            part = given[block].astype(np.float64)
            result[block] = part - (part @ direction)[:, None] * direction
        return result


def _as_vectors(vectors: ArrayLike) -> NDArray[np.float32]:
    array = np.asarray(vectors, np.float32)
    if array.ndim != 2:
        raise ValueError(f"expected (n, d) vectors, found shape {array.shape}")
    return array


def _blocks(vectors: NDArray[np.float32]) -> list[slice]:
    height = max(1, _BLOCK // max(1, vectors.shape[1]))
    return [slice(low, low + height) for low in range(0, len(vectors), height)]
