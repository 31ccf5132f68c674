"""Tokens: the keys of many documents, end to end."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vecstore.keys import KeyBatch

__all__ = ["Tokens"]


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """n documents of t tokens in all.

    Attributes
    ----------
    batch : KeyBatch
        The tokens of all documents, without codes.
    offsets : (n + 1,) int64 array
        Document i has the tokens ``offsets[i]:offsets[i + 1]``.
    """

    batch: KeyBatch
    offsets: NDArray[np.int64]
