"""Texts: documents as UTF-8 bytes, whole or in blocks, from whatever people keep them in."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecstore.keys import KeyBatch, Keys, frozen

__all__ = ["Texts"]

_TAKEN = 1 << 14  # texts of a list or an iterable that are taken over at a time


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """n documents as UTF-8 bytes.

    Attributes
    ----------
    data : (b,) uint8 array
        The bytes, in any order, with or without gaps; texts may share them.
    starts, stops : (n,) int64 arrays
        Text i is ``data[starts[i]:stops[i]]``.

    Examples
    --------
    >>> texts = Texts.of(["Nice, nice!", None, "Größe"])
    >>> len(texts), [texts[i] for i in range(3)]
    (3, ['Nice, nice!', '', 'Größe'])
    """

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, i: int) -> str:
        return str(self.data[self.starts[i] : self.stops[i]].tobytes(), "utf-8")

    @classmethod
    def of(cls, texts: Keys) -> "Texts":
        """Return `texts` as one block.

        Parameters
        ----------
        texts : iterable of str
            What `KeyBatch.of` takes: a list or tuple, a NumPy array, an Arrow array or a column of pandas or polars,
            any other iterable. Arrow's bytes are used as they are, all others are copied. Null texts (`None`, NaN,
            nulls of Arrow, pandas and polars) are empty. Bytes are taken as UTF-8.

        Raises
        ------
        ValueError
            A text holds a lone surrogate, which has no UTF-8.
        TypeError
            `texts` is one str, or holds something that is no text.
        """
        return texts if isinstance(texts, cls) else _convert(texts, 0)

    @classmethod
    def stream(cls, texts: Keys, most_bytes: int, most_texts: int | None = None) -> Iterator["Texts"]:
        """Yield `texts` in blocks, so that a list, an iterable or a chunked array is never converted as a whole.

        Takes and raises what `of` does. Blocks are those of `blocks`; of a list or an iterable at most `most_texts` are
        converted at a time.
        """
        parts: Iterator[Any]
        if isinstance(texts, cls | np.ndarray):
            parts = iter([texts])
        elif hasattr(texts, "iterchunks"):  # pyarrow's; one at a time, they need not be joined
            parts = texts.iterchunks()
        elif isinstance(texts, str | bytes) or not isinstance(texts, Iterable) or _speaks_arrow(texts):
            parts = iter([texts])  # one array, or an error
        else:
            kept = iter(texts)
            parts = iter(lambda: list(islice(kept, most_texts or _TAKEN)), [])
        first = 0
        for part in parts:
            converted = part if isinstance(part, cls) else _convert(part, first)
            yield from converted.blocks(most_bytes)
            first += len(converted)

    def part(self, start: int, stop: int) -> "Texts":
        """Return texts start <= i < stop; a view."""
        return Texts(self.data, self.starts[start:stop], self.stops[start:stop])

    def cuts(self, most_bytes: int) -> list[tuple[int, int]]:
        """Return the ranges of texts, in order, of at most `most_bytes` bytes each or of one longer text; O(n)."""
        ends = np.cumsum(self.stops - self.starts)
        ranges, start, before = [], 0, 0
        while start < len(ends):
            stop = max(int(np.searchsorted(ends, before + most_bytes, "right")), start + 1)
            ranges.append((start, stop))
            start, before = stop, int(ends[stop - 1])
        return ranges

    def blocks(self, most_bytes: int) -> Iterator["Texts"]:
        """Yield all texts, in order, in blocks of at most `most_bytes` bytes or of one longer text; views."""
        return (self.part(*cut) for cut in self.cuts(most_bytes))


def _speaks_arrow(texts: Any) -> bool:
    return hasattr(texts, "__arrow_c_array__") or hasattr(texts, "__arrow_c_stream__")


def _convert(texts: Any, first: int) -> Texts:
    """Return texts, of which errors are to name the first one by the number `first`."""
    plain = isinstance(texts, str | bytes) or not isinstance(texts, Iterable)
    if not (plain or isinstance(texts, KeyBatch | list | tuple | np.ndarray) or _speaks_arrow(texts)):
        texts = list(texts)
    try:
        batch = KeyBatch.of(texts)
    except TypeError as error:
        _check_items(texts, first)
        message = str(error).replace("a batch of keys", "texts")
        raise TypeError(re.sub(r"^key (\d+)", lambda place: f"text {first + int(place[1])}", message)) from None
    if batch.codes is None:
        return Texts(frozen(batch.data), frozen(batch.starts), frozen(batch.stops))
    nulls = np.flatnonzero(batch.codes < 0)
    # A text is null also if it has no UTF-8. Arrow's arrays hold none such, and would make an object of each null.
    if len(nulls) and not isinstance(texts, KeyBatch) and not hasattr(texts, "to_pylist"):
        items = texts if isinstance(texts, list | tuple | np.ndarray) else list(texts)
        for i in nulls.tolist():
            if isinstance(items[i], str):
                raise ValueError(f"text {first + i}: expected Unicode text, found a lone surrogate: {items[i]!r:.80}")
    # Code -1 reads the empty range at the end.
    starts, stops = np.append(batch.starts, 0)[batch.codes], np.append(batch.stops, 0)[batch.codes]
    return Texts(frozen(batch.data), frozen(starts), frozen(stops))


def _check_items(texts: Any, first: int) -> None:
    """Name the text that is a list: documents that are tokenised already."""
    for i, text in enumerate(texts if isinstance(texts, list | tuple) else ()):
        if isinstance(text, list | tuple | np.ndarray):
            raise TypeError(f"text {first + i}: expected str, found {type(text).__name__}; Tokens.of takes tokens")
