"""Tokens: documents cut into tokens, which is where text ends and keys begin."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecstore.keys import KeyBatch, frozen

__all__ = ["Tokens"]


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """n documents of t tokens in all.

    Attributes
    ----------
    batch : KeyBatch
        All tokens, document after document; none is null, and ``batch.codes`` is None.
    offsets : (n + 1,) int64 array
        Document i has the tokens ``offsets[i] <= t < offsets[i + 1]``; the first offset is 0.

    Raises
    ------
    ValueError
        The batch has codes, or the offsets do not ascend from 0 within it.

    Examples
    --------
    >>> tokens = Tokens.of([["nice", "work"], [], ["great"]])
    >>> len(tokens), tokens.offsets, tokens.lists()
    (3, array([0, 2, 2, 3]), [['nice', 'work'], [], ['great']])
    """

    batch: KeyBatch
    offsets: NDArray[np.int64]

    def __post_init__(self) -> None:
        offsets, t = frozen(self.offsets, np.int64), len(self.batch)
        object.__setattr__(self, "offsets", offsets)
        if self.batch.codes is not None:
            raise ValueError("expected a batch without codes")
        bounds = offsets.ndim == 1 and len(offsets) and offsets[0] == 0 and offsets[-1] <= t
        if not bounds or np.any(offsets[1:] < offsets[:-1]):
            raise ValueError(f"expected (n + 1,) offsets that ascend from 0 within {t:,} tokens")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def of(cls, documents: Any) -> "Tokens":
        """Return documents that are tokenised already.

        Parameters
        ----------
        documents : iterable of documents
            A list of lists of str; an Arrow array of a list type (list, large_list, list_view, fixed-size list) of
            strings, chunked or not; a column of lists of pandas or polars; any iterable of iterables of str. A null
            document is empty. Arrow's bytes are used as they are.

        Raises
        ------
        ValueError
            A token is null, or has no UTF-8: no vocabulary can hold it, and to drop it would move those after it.
        TypeError
            A document is one str, or something in it is no token.
        """
        if isinstance(documents, cls):
            return documents
        if isinstance(documents, str | bytes) or not isinstance(documents, Iterable):
            raise TypeError(f"expected documents, each a list of tokens, found {type(documents).__name__}")
        if hasattr(documents, "__arrow_c_array__") or hasattr(documents, "__arrow_c_stream__"):
            return _from_arrow(documents)
        return _from_lists(documents.tolist() if isinstance(documents, np.ndarray) else documents)

    @classmethod
    def joined(cls, parts: Sequence["Tokens"]) -> "Tokens":
        """Return the documents of all `parts`, in order; a copy if there is more than one."""
        if len(parts) == 1:
            return parts[0]
        data = [part.batch.data for part in parts]
        bases = np.cumsum([0, *map(len, data)])
        tokens = np.cumsum([0, *(len(part.batch) for part in parts)])
        pairs = list(zip(parts, bases.tolist(), strict=False))
        starts = _concatenated([part.batch.starts + base for part, base in pairs])
        stops = _concatenated([part.batch.stops + base for part, base in pairs])
        offsets = [part.offsets[1:] + before for part, before in zip(parts, tokens.tolist(), strict=False)]
        batch = KeyBatch(frozen(np.concatenate([np.empty(0, np.uint8), *data])), starts, stops)
        return cls(batch, _concatenated([np.zeros(1, np.int64), *offsets]))

    def part(self, start: int, stop: int) -> "Tokens":
        """Return documents start <= i < stop; their bytes are shared."""
        first, last = int(self.offsets[start]), int(self.offsets[stop])
        if stop - start == len(self) and last == len(self.batch):
            return self
        batch = KeyBatch(self.batch.data, self.batch.starts[first:last], self.batch.stops[first:last])
        return Tokens(batch, frozen(self.offsets[start : stop + 1] - first))

    def cuts(self, most_tokens: int) -> list[tuple[int, int]]:
        """Return the ranges of documents, in order, of at most `most_tokens` tokens each or of one longer document."""
        ranges, start = [], 0
        while start < len(self):
            stop = int(np.searchsorted(self.offsets, self.offsets[start] + most_tokens, "right")) - 1
            ranges.append((start, max(stop, start + 1)))
            start = ranges[-1][1]
        return ranges

    def lists(self) -> list[list[str]]:
        """Return each document as a list of str."""
        tokens = self.batch.strings()
        return [tokens[first:last] for first, last in pairwise(self.offsets.tolist())]


def _concatenated(arrays: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    return frozen(np.concatenate([np.empty(0, np.int64), *arrays]), np.int64)


def _from_lists(documents: Iterable[Any]) -> Tokens:
    kept = [_as_list(document, i) for i, document in enumerate(documents)]
    offsets = np.zeros(len(kept) + 1, np.int64)
    np.cumsum([len(document) for document in kept], out=offsets[1:])
    tokens = list(chain.from_iterable(kept))
    try:
        batch = KeyBatch.of(tokens)
    except TypeError:
        for i, token in enumerate(tokens):
            if not isinstance(token, str | bytes) and token is not None and token == token:
                raise TypeError(f"{_place(i, offsets)}: expected str, found {type(token).__name__}") from None
        raise
    return _checked(batch, offsets)


def _as_list(document: Any, i: int) -> Sequence[Any]:
    if isinstance(document, list | tuple):
        return document
    if document is None or (isinstance(document, float) and document != document):
        return ()
    if isinstance(document, str | bytes) or not isinstance(document, Iterable):
        found = type(document).__name__
        raise TypeError(f"document {i}: expected a list of tokens, found {found}; Tokenizer.tokenize takes texts")
    return document.tolist() if isinstance(document, np.ndarray) else list(document)


def _from_arrow(documents: Any) -> Tokens:
    # Imported here, as it takes 40 ms: lists do without.
    import pyarrow as pa

    try:
        if not isinstance(documents, pa.Array | pa.ChunkedArray):
            single = hasattr(documents, "__arrow_c_array__")
            documents = pa.array(documents) if single else pa.chunked_array(documents)
    except (UnicodeError, pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return _from_lists(documents)  # a column of objects
    kind = documents.type
    chunks = documents.chunks if isinstance(documents, pa.ChunkedArray) else [documents]
    if pa.types.is_null(kind):
        return _from_lists([None] * len(documents))
    if not hasattr(kind, "value_field"):
        raise TypeError(f"expected an Arrow array of lists of strings, found {kind}; Tokenizer.tokenize takes texts")
    offsets = np.zeros(len(documents) + 1, np.int64)
    lengths = [chunk.value_lengths().fill_null(0).to_numpy(zero_copy_only=False) for chunk in chunks]
    np.cumsum(np.concatenate([np.empty(0, np.int64), *lengths]), out=offsets[1:])
    # What lies behind a null document is no part of it, and `flatten` leaves it out.
    values = [chunk.flatten() for chunk in chunks]
    return _checked(KeyBatch.of(values[0] if len(values) == 1 else pa.chunked_array(values, kind.value_type)), offsets)


def _checked(batch: KeyBatch, offsets: NDArray[np.int64]) -> Tokens:
    """Return a batch as tokens, if none is null."""
    starts, stops = batch.starts, batch.stops
    if batch.codes is not None:
        if batch.codes.min(initial=0) < 0:
            place = _place(int(batch.codes.argmin()), offsets)
            raise ValueError(f"{place}: expected text, found a null or a lone surrogate")
        starts, stops = starts[batch.codes], stops[batch.codes]
    return Tokens(KeyBatch(frozen(batch.data), frozen(starts), frozen(stops)), frozen(offsets))


def _place(token: int, offsets: NDArray[np.int64]) -> str:
    document = int(np.searchsorted(offsets, token, "right")) - 1
    return f"document {document}, token {token - int(offsets[document])}"
