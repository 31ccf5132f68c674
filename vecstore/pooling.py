"""Texts to vectors: the rows of each text's tokens found, and made one vector, in one pass.

Each thread takes a piece of the texts, cuts it, finds its tokens' rows, and pools them straight out of the mapped file
while all of that is in its processor's cache; so memory does not grow with the texts. A document belongs to one piece
and its rows are added in order, in float64, so that a result does not depend on the number of threads, nor on what else
is in a call.
"""

from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from threading import get_ident
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vecstore.gather import ask_ahead, new_or_checked
from vecstore.index import KeyIndex, new_memo
from vecstore.kernels.pooling import FIRST, MAX, MEAN, SUM
from vecstore.keys import Keys, frozen
from vecstore.storage import StoredVectors
from vecstore.texts import Texts
from vecstore.tokenizer import Tokenizer, each_piece
from vecstore.tokens import Tokens

__all__ = ["Pooling", "pool", "sif_weights"]

Pooling = Literal["mean", "sum", "max", "first"] | NDArray[Any]
"""How the vectors of a document become one: by name, or a weight (v,) for each row of the store."""

_POOLINGS = {"mean": MEAN, "sum": SUM, "max": MAX, "first": FIRST}
_MEMORABLE = 2048  # tokens that are worth a memo, which takes 25 microseconds to make
_MEMO = 1 << 14  # tokens: half a megabyte, which the rows leave in the cache; 162 ns a token, with 1 << 16 178
_ALIKE = frozen([], np.float32)  # no weights: all rows weigh 1


def pool(
    index: KeyIndex,
    vectors: StoredVectors,
    texts: Keys | Tokens,
    tokenizer: Tokenizer,
    *,
    pooling: Pooling,
    normalize: bool,
    out: NDArray[np.float32] | None,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return a vector for each text (n, d), and how many of its tokens are known (n,).

    `VectorStore.embed` says more, and what is raised.
    """
    if isinstance(texts, list):
        texts = tuple(texts)  # which nobody lengthens or shortens meanwhile
    elif not isinstance(texts, tuple | Tokens):
        texts = Texts.of(texts)
    n, (v, d) = len(texts), vectors.shape
    code, weights = _check_pooling(pooling, v)
    result = new_or_checked(out, (n, d), vectors.dtype)
    counts = np.empty(n, np.int64)
    memos: dict[int, NDArray[np.uint64]] = defaultdict(partial(new_memo, _MEMO))

    def embed(first: int, tokens: Tokens) -> None:
        rows = _find(index, tokens, memos)
        ask_ahead(vectors.array, rows, alone=True)
        part = slice(first, first + len(tokens))
        vectors.pool(
            rows,
            tokens.offsets,
            pooling=code,
            weights=weights,
            normalize=normalize,
            counts=counts[part],
            out=result[part],
        )

    each_piece(texts, tokenizer, embed)
    return result, counts


def _find(index: KeyIndex, tokens: Tokens, memos: dict[int, NDArray[np.uint64]]) -> NDArray[np.int64]:
    if len(tokens.batch) >= _MEMORABLE:
        return index.find_tokens(tokens.batch, memos[get_ident()])
    rows = np.empty(len(tokens.batch), np.int64)
    index.find_part(tokens.batch, 0, len(rows), rows)
    return rows


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
