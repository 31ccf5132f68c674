"""Tokens: the keys of many documents, end to end."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vecstore.keys import KeyBatch, frozen

if TYPE_CHECKING:
    import pyarrow as pa

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

    Raises
    ------
    ValueError
        The batch has codes, or the offsets do not ascend within it.
    """

    batch: KeyBatch
    offsets: NDArray[np.int64]

    def __post_init__(self) -> None:
        offsets, t = frozen(self.offsets, np.int64), len(self.batch)
        object.__setattr__(self, "offsets", offsets)
        if self.batch.codes is not None:
            raise ValueError("expected a batch without codes")
        bounds = offsets.ndim == 1 and len(offsets) and offsets[0] >= 0 and offsets[-1] <= t
        if not bounds or np.any(offsets[1:] < offsets[:-1]):
            raise ValueError(f"expected (n + 1,) offsets that ascend within {t:,} tokens")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def of(cls, documents: Any) -> "Tokens":
        """Return documents whose tokens are known as `Tokens`.

        Parameters
        ----------
        documents : n documents
            Lists of str, or any iterable of such; or what speaks the Arrow PyCapsule protocol and holds lists of
            strings, such as a column of pyarrow, pandas or polars, whose bytes are shared. None and Arrow's nulls are
            documents without tokens.

        Raises
        ------
        TypeError
            A document is one str, or holds something that is no key.
        ValueError
            A token is null.

        Examples
        --------
        >>> tokens = vecstore.Tokens.of([["nice", "great"], [], ["bad"]])
        >>> len(tokens), len(tokens.batch), tokens.offsets
        (3, 3, array([0, 2, 2, 3]))
        """
        if isinstance(documents, cls):
            return documents
        if isinstance(documents, str | bytes) or not isinstance(documents, Iterable):
            raise TypeError(f"expected lists of tokens, found {type(documents).__name__}: {documents!r:.80}")
        if hasattr(documents, "__arrow_c_array__") or hasattr(documents, "__arrow_c_stream__"):
            return _from_arrow(documents)
        return _from_lists(list(documents))


def _from_lists(documents: list[Any]) -> Tokens:
    parts: list[Any] = []
    for i, document in enumerate(documents):
        if isinstance(document, str | bytes):
            found = f"one {type(document).__name__}: {document!r:.80}"
            raise TypeError(f"document {i}: expected a list of tokens, found {found}; split it, or name a tokenizer")
        if document is not None and not isinstance(document, Iterable):
            raise TypeError(f"document {i}: expected a list of tokens, found {type(document).__name__}: {document!r}")
        parts.append(document if hasattr(document, "__len__") else list(document or ()))
    offsets = np.zeros(len(parts) + 1, np.int64)
    np.cumsum([len(part) for part in parts], out=offsets[1:])
    return Tokens(_without_codes(KeyBatch.of(list(chain.from_iterable(parts)))), offsets)


def _from_arrow(documents: Any) -> Tokens:
    import pyarrow as pa

    try:
        lists = _import_arrow(documents)
    except (UnicodeError, pa.ArrowInvalid, pa.ArrowTypeError):
        return _from_lists(list(documents))  # a column of objects, which names the one that is no list
    if pa.types.is_null(lists.type):
        lists = lists.cast(pa.large_list(pa.string()))
    if not _is_list(lists.type):
        raise TypeError(f"expected an Arrow array of lists of strings, found {lists.type}; name a tokenizer")
    # A null document may lie over tokens, which `flatten` leaves out.
    lengths = [part.value_lengths().fill_null(0).to_numpy() for part in lists.chunks]
    offsets = np.concatenate([[0], *lengths]).cumsum(dtype=np.int64)
    values = pa.chunked_array([part.flatten() for part in lists.chunks], lists.type.value_type)
    return Tokens(_without_codes(KeyBatch.of(values)), offsets)


def _import_arrow(documents: Any) -> "pa.ChunkedArray":
    import pyarrow as pa

    if hasattr(documents, "__arrow_c_array__"):
        return pa.chunked_array([pa.array(documents)])
    return pa.chunked_array(documents)


def _is_list(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    types = pa.types
    return any(accepts(kind) for accepts in (types.is_list, types.is_large_list, types.is_fixed_size_list))


def _without_codes(batch: KeyBatch) -> KeyBatch:
    return batch if batch.codes is None else KeyBatch.from_offsets(*batch.packed())
