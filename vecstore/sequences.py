"""Documents to sequences of vectors: one for each token, padded to one length, or ragged as Arrow has it."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vecstore.choices import Side
from vecstore.gather import gather, new_or_checked
from vecstore.index import KeyIndex
from vecstore.storage import StoredVectors
from vecstore.tokens import Tokens

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["embed_padded", "embed_ragged"]

_BLOCK = 1 << 16  # places of the result that are filled at a time


def embed_padded(
    index: KeyIndex,
    vectors: StoredVectors,
    tokens: Tokens,
    length: int,
    *,
    padding: Side,
    truncating: Side,
    out: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    """Return the vectors of each document's tokens (n, length, d). `VectorStore.embed_sequence` says more."""
    for name, side in ("padding", padding), ("truncating", truncating):
        if side not in ("pre", "post"):
            raise ValueError(f"{name}: expected 'pre' or 'post', found {side!r}")
    if length < 1:
        raise ValueError(f"length: expected at least 1, found {length}")
    offsets, d = tokens.offsets, vectors.shape[1]
    n = len(offsets) - 1
    result = new_or_checked(out, (n, length, d), vectors.dtype)
    documents = max(1, _BLOCK // length)
    for low in range(0, n, documents):
        high = min(low + documents, n)
        starts, stops = offsets[low:high], offsets[low + 1 : high + 1]
        kept = np.minimum(stops - starts, length)
        first = starts if truncating == "post" else stops - kept
        place = np.arange(length) - (0 if padding == "post" else (length - kept)[:, None])
        filled = (place >= 0) & (place < kept[:, None])
        rows = np.full(filled.shape, -1, np.int64)
        rows[filled] = index.find_batch(tokens.batch.take((first[:, None] + place)[filled]))
        gather(vectors, rows.ravel(), out=result[low:high].reshape(-1, d))
    return result


def embed_ragged(index: KeyIndex, vectors: StoredVectors, tokens: Tokens) -> "pa.LargeListArray":
    """Return the vectors of each document's tokens as Arrow's lists. `VectorStore.embed_ragged` says more."""
    import pyarrow as pa

    d = vectors.shape[1]
    found = gather(vectors, index.find_batch(tokens.batch.take(np.arange(tokens.offsets[-1]))))
    values = pa.FixedSizeListArray.from_arrays(pa.array(found.ravel()), d)
    return pa.LargeListArray.from_arrays(pa.array(tokens.offsets), values)
