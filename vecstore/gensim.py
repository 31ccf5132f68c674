"""From a store to gensim's `KeyedVectors`; the only module that imports gensim.

Examples
--------
>>> vectors = store.to_gensim()
>>> vectors.most_similar("nice", topn=1)[0][0]
'good'
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from gensim.models import KeyedVectors
from numpy.typing import NDArray

__all__ = ["to_keyed_vectors"]


def to_keyed_vectors(keys: Iterable[str], vectors: NDArray[Any]) -> KeyedVectors:
    """Return gensim's object for distinct keys and their vectors.

    Takes O(v): a list of v str and a dict from each to its row, some 150 bytes a key.

    Parameters
    ----------
    keys : v str
        Distinct, in row order.
    vectors : (v, d) array
        Shared, not copied. What changes vectors in place, such as `unit_normalize_all`, is an error if the array is
        read-only; what adds keys copies it first.

    Returns
    -------
    KeyedVectors

    Raises
    ------
    ValueError
        There are not as many keys as vectors, or a key stands twice.
    """
    keyed = KeyedVectors(vectors.shape[1], dtype=vectors.dtype)
    keyed.index_to_key = list(keys)
    keyed.key_to_index = {key: row for row, key in enumerate(keyed.index_to_key)}
    if not len(vectors) == len(keyed.index_to_key) == len(keyed.key_to_index):
        raise ValueError(
            f"expected {len(vectors):,} distinct keys for as many vectors, found {len(keyed.index_to_key):,} keys, "
            f"{len(keyed.key_to_index):,} of them distinct"
        )
    keyed.vectors = np.asarray(vectors)
    keyed.next_index = len(vectors)
    return keyed
