"""Vectors in memory: keys with a matrix, an iterable of such blocks, gensim's KeyedVectors, or a store.

gensim's objects are recognised by their attributes, so nothing here imports it.
"""

from collections.abc import Iterable, Iterator, KeysView, Mapping, Set
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vecstore.errors import FormatError
from vecstore.formats.rows import BLOCK_BYTES, as_float32, check_numbers, pack_keys
from vecstore.formats.source import Block
from vecstore.keys import KeyBatch
from vecstore.layout import Source

__all__ = ["MemorySource"]


class MemorySource:
    """Read vectors that a program holds or makes.

    Parameters
    ----------
    source
        A tuple ``(keys, vectors)``: what `KeyBatch.of` takes, and (n, d) real numbers, which are read a few megabytes
        at a time, so that they may be mapped. Or an iterable of such pairs, all of one width. Or an object with
        ``vectors`` and ``index_to_key`` (gensim's `KeyedVectors`) or ``keys`` (`VectorStore`).

    Raises
    ------
    FormatError
        The vectors are no matrix of real numbers, there are none, or not as many as keys.
    TypeError
        `source` is none of these, or holds something that is no key.
    """

    def __init__(self, source: Any) -> None:
        self._name, self._format = "memory", "memory"
        pairs, whole = _pairs(source)
        if whole and not isinstance(source, tuple):
            self._name = type(source).__name__
            self._format = "gensim" if hasattr(source, "index_to_key") else "memory"
        self._parts = _parts(pairs, self._name, whole)
        self._first = next(self._parts, None)
        if self._first is None:
            raise FormatError(f"{self._name}: expected at least one key with its vector, found none")
        self.dim = self._first.dim
        self.expected = len(self._first.keys) if whole else 0
        self._size = self._first.size if whole else None
        self._done = 0
        self.departures: list[str] = []

    @property
    def description(self) -> Source:
        """What the source is, and the bytes of its vectors; of an iterable, those that were read."""
        return Source(self._name, self.done if self._size is None else self._size, self._format)

    @property
    def done(self) -> int:
        """Bytes of the vectors that were read."""
        return self._done

    def close(self) -> None:
        """Let go of the vectors."""
        self._first, self._parts = None, iter(())

    def locate(self, record: int, position: int) -> str:
        """Say which row a record is."""
        return f"{self._name}: row {record:,}"

    def _locate(self, row: int) -> str:
        return self.locate(row, row)

    def blocks(self) -> Iterator[Block]:
        """Read the vectors, a few megabytes at a time.

        Raises
        ------
        FormatError
            A key is null, a number is beyond float32, or a later pair does not fit the first.
        """
        part, rows = self._first, 0
        while part is not None:
            if part.dim != self.dim:
                raise FormatError(f"{part.where}: expected vectors of {self.dim:,} numbers, found {part.dim:,}")
            step = max(1, BLOCK_BYTES // (4 * self.dim))
            for start in range(0, len(part.keys), step):
                stop = min(start + step, len(part.keys))
                first = rows + start
                data, offsets = pack_keys(part.keys, start, stop, first, self._locate)
                numbers = part.read(start, stop)
                vectors = as_float32(numbers, first, self._locate)
                self._done += numbers.nbytes
                yield Block(data, offsets, vectors, np.arange(first, first + len(vectors)), first)
            rows += len(part.keys)
            part = next(self._parts, None)


class _Part(NamedTuple):
    """Keys with as many vectors; `where` names them for messages."""

    keys: KeyBatch
    vectors: Any
    dim: int
    itemsize: int
    where: str

    @property
    def size(self) -> int:
        """Bytes of the vectors."""
        return len(self.keys) * self.dim * self.itemsize

    def read(self, start: int, stop: int) -> NDArray[Any]:
        numbers = _as_array(self.vectors[start:stop], f"{self.where}: rows {start:,} to {stop - 1:,}")
        check_numbers(self.where, numbers.shape, numbers.dtype)
        if numbers.shape != (stop - start, self.dim):
            raise FormatError(
                f"{self.where}: expected rows {start:,} to {stop - 1:,} to be vectors of {self.dim:,} numbers, "
                f"found shape {numbers.shape}"
            )
        return numbers


def _pairs(source: Any) -> tuple[Iterator[Any], bool]:
    """Return pairs of keys and vectors, and whether it is one pair that is the whole source."""
    vectors = getattr(source, "vectors", None)
    for name in ("index_to_key", "keys"):
        keys = getattr(source, name, None)
        if vectors is not None and keys is not None and not callable(keys):
            return iter([(keys, vectors)]), True
    if isinstance(source, tuple) and len(source) == 2:
        return iter([source]), True
    if not isinstance(source, Iterable) or isinstance(source, str | bytes | bytearray | Mapping | Set):
        raise TypeError(
            "expected a path, a tuple (keys, vectors), an iterable of such tuples, gensim's KeyedVectors (the .wv of a "
            f"model), or a store, found {type(source).__name__}"
        )
    return iter(source), False


def _parts(pairs: Iterator[Any], name: str, whole: bool) -> Iterator[_Part]:
    for number, pair in enumerate(pairs):
        where = name if whole else f"{name}: block {number:,}"
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"{where}: expected a tuple (keys, vectors), found {type(pair).__name__}")
        keys, vectors = pair
        part = _part(keys, vectors, where)
        if part is not None:
            yield part


def _part(keys: Any, vectors: Any, where: str) -> _Part | None:
    """Check a pair as far as its first row; None if it has no rows."""
    if isinstance(keys, Mapping | Set) and not isinstance(keys, KeysView):
        raise TypeError(f"{where}: expected keys in the order of the vectors, found {type(keys).__name__}")
    try:
        batch = KeyBatch.of(keys)
    except TypeError as error:
        raise TypeError(f"{where}: {error}") from None
    if not isinstance(vectors, list | tuple) and not (hasattr(vectors, "shape") and hasattr(vectors, "dtype")):
        vectors = _as_array(vectors, where)
    shape = (len(vectors),) if isinstance(vectors, list | tuple) else tuple(vectors.shape)
    if not shape:
        raise FormatError(f"{where}: expected a matrix (rows, dim), found one {type(vectors).__name__}")
    if shape[0] != len(batch):
        raise FormatError(
            f"{where}: expected a key for each vector, found {len(batch):,} keys and {shape[0]:,} vectors"
        )
    if not len(batch):
        return None
    first = _as_array(vectors[:1], where)
    check_numbers(where, (len(batch), *first.shape[1:]), first.dtype)
    return _Part(batch, vectors, first.shape[1], first.dtype.itemsize, where)


def _as_array(vectors: Any, where: str) -> NDArray[Any]:
    if isinstance(vectors, np.ma.MaskedArray):
        raise TypeError(f"{where}: expected vectors without a mask; fill it first: vectors.filled(0)")
    try:
        return np.asarray(vectors)
    except ValueError as error:
        raise FormatError(f"{where}: expected vectors of one width: {error}") from None
