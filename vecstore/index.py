"""KeyIndex: from keys to rows and back, over arrays in memory or mapped from a store."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from vecstore.errors import StoreError, VecstoreError
from vecstore.kernels.lookup import find_row, find_rows, insert_rows
from vecstore.kernels.machine import NO_KEY, view
from vecstore.kernels.recalling import find_tokens
from vecstore.keys import KeyBatch, Keys, frozen
from vecstore.threads import split

__all__ = ["KeyIndex", "fill_slots", "new_memo", "slots_for"]

_GRAIN = 4096  # keys that are worth a thread: about 0.5 ms of cache misses
_FEW = 256  # keys that are found one by one before a batch of them is made
_BLOCK = 1 << 12  # keys that are made str at a time
_CHUNK = 1 << 18  # keys between two looks at Ctrl-C
_SEEDS = range(8)
_MEMO = 1 << 16  # 50,000 words of a Zipf text: 13 ns a token; of 1 << 14, 16 ns


class KeyIndex(Sequence[str]):
    """Distinct keys in row order, and a hashed table that finds them.

    A sequence of v str whose ``in`` and `index` take constant time. The strings are decoded on access;
    nothing is kept.

    Parameters
    ----------
    data, offsets
        Key i is ``data[offsets[i]:offsets[i + 1]]``, UTF-8.
    slots, seed
        The table and the seed of its hash, as `vecstore.layout` specifies them.

    Examples
    --------
    >>> index = KeyIndex.build(["nice", "great"])
    >>> index.find(["great", "dreadful"])
    array([ 1, -1])
    >>> "nice" in index, list(index)
    (True, ['nice', 'great'])
    """

    def __init__(
        self, data: NDArray[np.uint8], offsets: NDArray[np.int64], slots: NDArray[np.uint64], seed: int
    ) -> None:
        self._data = frozen(data, np.uint8)
        self._offsets = frozen(offsets, np.int64)
        self._slots = frozen(slots, np.uint64)
        self._seed = seed
        self._views = (view(self._slots), view(self._data), view(self._offsets))
        self._row_of: Callable[[Any], int] | None = None

    @property
    def row_of(self) -> Callable[[Any], int]:
        """A function of one key, a tenth of a microsecond: its row, -1 out of vocabulary, `NO_KEY` for no key."""
        if self._row_of is None:
            self._row_of = find_row.bind(self._slots, self._data, self._offsets, self._seed)
        return self._row_of

    @classmethod
    def build(cls, keys: Keys) -> "KeyIndex":
        """Return an index of distinct `keys`, in memory; O(v).

        Raises
        ------
        ValueError
            A key is null, or stands twice.
        """
        index, repeats = cls.build_first(KeyBatch.of(keys))
        if len(repeats):
            row, first = repeats[0]
            raise ValueError(f"key {row}: {index[row]!r} stands at {first} already")
        return index

    @classmethod
    def build_first(cls, batch: KeyBatch) -> tuple["KeyIndex", NDArray[np.int64]]:
        """Return an index that leads from each key to the first row that holds it, and the repeats of `fill_slots`.

        Raises
        ------
        ValueError
            A key is null.
        """
        data, offsets = batch.packed()
        slots = np.zeros(slots_for(len(batch)), np.uint64)
        seed, repeats = fill_slots(data, offsets, slots)
        return cls(data, offsets, slots, seed), repeats

    @property
    def batch(self) -> KeyBatch:
        """All keys in row order; a view."""
        return KeyBatch.from_offsets(self._data, self._offsets)

    def find(self, keys: Keys) -> NDArray[np.int64]:
        """Return the rows of `keys`: (n,) int64, -1 where out of vocabulary.

        Takes whatever `KeyBatch.of` takes; nulls are out of vocabulary. Large batches run on several threads.

        Raises
        ------
        TypeError
            `keys` is a single str, or holds something that is not a key.
        """
        if isinstance(keys, list | tuple) and len(keys) <= _FEW:
            rows = list(map(self.row_of, keys))
            if NO_KEY not in rows:
                return np.array(rows, np.int64)
        return self.find_batch(KeyBatch.of(keys))

    def find_batch(self, batch: KeyBatch) -> NDArray[np.int64]:
        """Return the rows of a batch: (n,) int64, -1 where out of vocabulary."""
        entries = len(batch.starts)
        rows = np.empty(entries + 1, np.int64)
        rows[entries] = -1  # what code -1 reads

        def find(start: int, stop: int) -> None:
            find_rows(batch.data, batch.starts, batch.stops, *self._views, self._seed, start, stop, rows)

        split(find, entries, _GRAIN)
        return rows[:entries] if batch.codes is None else rows[batch.codes]

    def find_part(self, batch: KeyBatch, start: int, stop: int, rows: NDArray[np.int64]) -> None:
        """Write the rows of entries start <= i < stop of a batch to `rows` (stop - start,), on the caller's thread."""
        starts, stops = batch.starts[start:stop], batch.stops[start:stop]
        find_rows(batch.data, starts, stops, *self._views, self._seed, 0, stop - start, rows)

    def find_tokens(self, batch: KeyBatch, memo: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the rows of tokens of running text, on this thread alone; `batch.codes` is None.

        `memo` is a `new_memo`, which no other index and no other thread may use.
        """
        rows = np.empty(len(batch), np.int64)
        find_tokens(batch.data, batch.starts, batch.stops, *self._views, self._seed, memo, rows)
        return rows

    def find_one(self, key: str | bytes) -> int:
        """Return the row of one key, -1 where out of vocabulary."""
        row = self.row_of(key)
        if row == NO_KEY and not isinstance(key, str):  # a lone surrogate has no UTF-8
            raise TypeError(f"expected str or bytes, found {type(key).__name__}: {key!r}")
        return max(row, -1)

    def __reduce__(self) -> tuple[Any, ...]:
        # The views hold addresses, which mean nothing in another process or once the arrays are gone.
        return KeyIndex, (self._data, self._offsets, self._slots, self._seed)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __contains__(self, key: object) -> bool:
        return self.row_of(key) >= 0

    def index(self, key: Any, start: int = 0, stop: int | None = None) -> int:
        """Return the row of `key`; ValueError if it is not there."""
        row = self.row_of(key)
        if row not in range(len(self))[start:stop]:
            raise ValueError(f"{key!r} is not in the vocabulary")
        return row

    def count(self, key: Any) -> int:
        """Return 1 if `key` is there, 0 if not: keys are distinct."""
        return int(key in self)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        rows = range(len(self))[row]
        return self._decode(rows) if isinstance(rows, int) else list(self._strings(rows))

    def __iter__(self) -> Iterator[str]:
        rows = range(len(self))
        return chain.from_iterable(self._strings(rows[start : start + _BLOCK]) for start in rows[::_BLOCK])

    def _strings(self, rows: range) -> Iterable[str]:
        if rows.step == 1:
            with suppress(ValueError):  # damaged, and a look at one key after the other tells where
                return KeyBatch.from_offsets(self._data, self._offsets[rows.start : rows.stop + 1]).strings()
        return map(self._decode, rows)

    def _decode(self, row: int) -> str:
        low, high = int(self._offsets[row]), int(self._offsets[row + 1])
        if not 0 <= low <= high <= len(self._data):
            raise StoreError(f"offsets of key {row} are damaged ({low}, {high}); `vecstore verify` tells more")
        try:
            return str(self._data[low:high].tobytes(), "utf-8")
        except UnicodeDecodeError as error:
            raise StoreError(f"key {row} is damaged ({error}); `vecstore verify` tells more") from None

    def __repr__(self) -> str:
        shown = ", ".join(repr(key) for key in self[:3])
        return f"<{len(self):,} keys: {shown}{', ...' if len(self) > 3 else ''}>"


def new_memo(tokens: int = _MEMO) -> NDArray[np.uint64]:
    """Return an empty memo for so many tokens, a power of two: 32 bytes each, touched as far as they are used."""
    return np.zeros((tokens, 4), np.uint64)


def slots_for(keys: int) -> int:
    """Return the size of a table for so many keys: a power of two, at most half of it taken.

    A table three quarters full was a quarter slower to search at 3 million keys, for 34 MB instead of 67.
    """
    return max(8, 1 << (2 * keys - 1).bit_length())


def fill_slots(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    slots: NDArray[np.uint64],
    progress: Callable[[int], None] | None = None,
) -> tuple[int, NDArray[np.int64]]:
    """Enter every key into `slots`, which holds zeros; `progress` is told the number of keys, now and then.

    Returns
    -------
    seed : int
        Of the hash: the first of a few under which no key lies too far from its slot.
    repeats : (r, 2) int64 array
        Each row whose key an earlier row holds, and that earlier row. They are not in the table.

    Raises
    ------
    VecstoreError
        The keys collide under every seed, which no keys do by accident.
    """
    for seed in _SEEDS:
        repeats = _try_seed(data, offsets, slots, seed, progress or (lambda keys: None))
        if repeats is not None:
            return seed, repeats
        slots[:] = 0
    raise VecstoreError("the keys were made to collide under XXH64; they cannot be indexed")


def _try_seed(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    slots: NDArray[np.uint64],
    seed: int,
    progress: Callable[[int], None],
) -> NDArray[np.int64] | None:
    data, offsets = frozen(data), frozen(offsets)
    repeats = []
    earlier = np.empty(_CHUNK, np.int64)
    v = len(offsets) - 1
    for start in range(0, v, _CHUNK):
        stop = min(start + _CHUNK, v)
        inserted = insert_rows(data, offsets, seed, start, stop, slots, earlier)
        if inserted < 0:
            return None
        if inserted < stop - start:
            rows = np.flatnonzero(earlier[: stop - start] >= 0)
            repeats.append(np.stack([rows + start, earlier[rows]], axis=1))
        progress(stop)
    return np.concatenate(repeats) if repeats else np.empty((0, 2), np.int64)
