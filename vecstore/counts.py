"""Counts: how often each token occurs, which is what a vocabulary is made from.

Counting runs over an open-addressing table a thread; no token becomes a str before a vocabulary is asked for.
"""

import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecstore.errors import FormatError
from vecstore.index import fill_slots, new_memo, slots_for
from vecstore.kernels.counting import COUNT, DOCUMENTS, FIRST, count_keys
from vecstore.keys import KeyBatch, Keys, frozen
from vecstore.tokenizer import Tokenizer, each_piece
from vecstore.tokens import Tokens

__all__ = ["Counts", "count"]

_KEYS = 1 << 14  # that a table has room for at first
_KEY_BYTES = 1 << 18
_GROWTH = 3  # times the room that there is, each time when there is none: keys are seldom hashed again
_WAITING = 1 << 16  # keys of operands that are merged at once
_COLUMNS = ("key", "count", "documents")
_DOCUMENTS = b"vecstore.documents"


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """k distinct tokens in order of first appearance, and how often each occurs.

    Attributes
    ----------
    batch : KeyBatch
        The distinct tokens.
    counts : (k,) int64 array
        How often each occurs.
    document_counts : (k,) int64 array
        In how many documents each occurs; 0 where nobody has counted them (`from_word_counts`).
    documents : int
        Number of documents.

    Examples
    --------
    >>> counts = count(["nice nice work", "great work"])
    >>> counts.word_counts(), counts.documents, counts.tokens
    ({'nice': 2, 'work': 2, 'great': 1}, 2, 5)
    >>> (counts + count(["Great, great!"])).word_index(oov_token="[UNK]")
    {'[UNK]': 1, 'great': 2, 'nice': 3, 'work': 4}
    """

    batch: KeyBatch
    counts: NDArray[np.int64]
    document_counts: NDArray[np.int64]
    documents: int

    @classmethod
    def from_word_counts(
        cls, word_counts: Mapping[str, int], *, document_counts: Mapping[str, int] | None = None, documents: int = 0
    ) -> "Counts":
        """Return the counts of mappings: a Keras ``Tokenizer``'s `word_counts`, `word_docs` and `document_count`.

        Raises
        ------
        ValueError
            A count is negative or no integer, or a key has no UTF-8.
        """
        keys = list(word_counts)
        batch = KeyBatch.of(keys)
        if batch.codes is not None:
            raise ValueError(f"key {int(batch.codes.argmin())}: expected text, found {keys[batch.codes.argmin()]!r}")
        numbers = [list(word_counts.values()), [(document_counts or {}).get(key, 0) for key in keys], [documents]]
        for number in (number for column in numbers for number in column):
            if not isinstance(number, int | np.integer) or number < 0:
                raise ValueError(f"expected counts, 0 or more, found {number!r}")
        counts, in_documents, _ = (frozen(column, np.int64) for column in numbers)
        return cls(batch, counts, in_documents, int(documents))

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return int(self.counts.sum())

    def __len__(self) -> int:
        return len(self.batch)

    def __repr__(self) -> str:
        return f"<{self.tokens:,} tokens in {self.documents:,} documents, {len(self):,} distinct>"

    def merge(self, others: Iterable["Counts"]) -> "Counts":
        """Return the counts of this and all `others` together, such as those of many workers.

        Tokens appear in the order in which they first do in the operands, one operand after the other. Of an iterable,
        about as much is in memory at a time as there are distinct tokens in all.
        """
        total, waiting, keys = self, list[Counts](), 0
        for other in others:
            waiting.append(other)
            keys += len(other)
            # Not before there are as many as in the total: each then costs the same, however many operands there are.
            if keys > max(len(total), _WAITING):
                total, waiting, keys = _merged([total, *waiting]), [], 0
        return _merged([total, *waiting])

    def __add__(self, other: object) -> "Counts":
        return _merged([self, other]) if isinstance(other, Counts) else NotImplemented

    def top(self, size: int | None = None) -> list[tuple[str, int]]:
        """Return the `size` most frequent tokens with their counts, or all; equally frequent ones as they appeared."""
        order = self._order(1, size)
        return list(zip(self.batch.take(order).strings(), self.counts[order].tolist(), strict=True))

    def vocabulary(self, min_count: int = 1, max_size: int | None = None) -> list[str]:
        """Return tokens, the most frequent first, equally frequent ones in order of first appearance.

        Parameters
        ----------
        min_count : int, default 1
            Occurrences that a token needs.
        max_size : int, optional
            At most so many tokens.
        """
        return self.batch.take(self._order(min_count, max_size)).strings()

    def word_index(self, oov_token: str | None = None) -> dict[str, int]:
        """Return what Keras's ``Tokenizer.word_index`` is: rows from 1 on, `oov_token` before all tokens."""
        keys = self.vocabulary() if oov_token is None else [oov_token, *self.vocabulary()]
        return dict(zip(keys, range(1, len(keys) + 1), strict=True))  # an oov_token that is a token: Keras's last row

    def word_counts(self) -> dict[str, int]:
        """Return the count of each token, in order of first appearance."""
        return dict(zip(self.batch.strings(), self.counts.tolist(), strict=True))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a Parquet file, which appears whole or not at all: columns `key`, `count` and `documents`.

        The number of documents is the schema's metadata ``vecstore.documents``. A file that is there is replaced.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        target = Path(path)
        data, offsets = self.batch.packed()
        keys = pa.LargeStringArray.from_buffers(len(self), pa.py_buffer(offsets), pa.py_buffer(data))
        keys.validate(full=True)
        table = pa.table([keys, pa.array(self.counts), pa.array(self.document_counts)], _COLUMNS)
        table = table.replace_schema_metadata({_DOCUMENTS: str(self.documents)})
        partial = target.with_name(f".{target.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            with partial.open("wb") as file:
                pq.write_table(table, file, compression="zstd")
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Counts":
        """Read what `save` wrote.

        Raises
        ------
        FormatError
            The file is something else.
        OSError
            It cannot be read.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with Path(path).open("rb") as file:
                table = pq.read_table(file)
            documents = int((table.schema.metadata or {})[_DOCUMENTS])
            kinds = pa.large_string(), pa.int64(), pa.int64()
            keys, *numbers = (table[name].cast(kind) for name, kind in zip(_COLUMNS, kinds, strict=True))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, KeyError, ValueError) as error:
            raise FormatError(f"{path}: expected the counts of tokens that Counts.save writes: {error}") from None
        batch = KeyBatch.of(keys)
        counts, in_documents = (frozen(column.fill_null(-1).to_numpy()) for column in numbers)
        if batch.codes is not None or min(counts.min(initial=0), in_documents.min(initial=0), documents) < 0:
            raise FormatError(f"{path}: expected keys and counts of 0 or more, found nulls or negative numbers")
        return cls(batch, counts, in_documents, documents)

    def _order(self, min_count: int, max_size: int | None) -> NDArray[np.int64]:
        if max_size is not None and max_size < 0:
            raise ValueError(f"expected a size of 0 or more, found {max_size}")
        order = np.argsort(-self.counts, kind="stable")
        return order[self.counts[order] >= min_count][:max_size]

    def __reduce__(self) -> tuple[Any, ...]:
        # Packed: a view would be pickled with all the bytes that it is a view of.
        return _unpickled, (*self.batch.packed(), self.counts, self.document_counts, self.documents)


def _unpickled(data: Any, offsets: Any, counts: Any, document_counts: Any, documents: int) -> Counts:
    return Counts(KeyBatch.from_offsets(data, offsets), frozen(counts), frozen(document_counts), documents)


def count(texts: Keys | Tokens, tokenizer: Tokenizer | None = None) -> Counts:
    """Count the tokens of texts.

    Parameters
    ----------
    texts : iterable of str, or Tokens
        Whatever `Texts.of` takes, each a text to be cut; `Tokens` (``Tokens.of(documents)``) are taken as they are. An
        iterable is read in blocks, so that it may be longer than memory.
    tokenizer : Tokenizer, optional
        How texts are cut; the default is ``Tokenizer()``, which does as Keras's does.

    Returns
    -------
    Counts
        Equal to those of Keras's ``fit_on_texts``, in the same order.

    Raises
    ------
    ValueError
        A text has no UTF-8.
    TypeError
        `texts` is one str, or holds something that is no text.
    """
    tables: dict[int, _Table] = {}

    def add(first: int, tokens: Tokens) -> None:
        thread = threading.get_ident()
        if thread not in tables:
            tables[thread] = _Table()
        tables[thread].add(first, tokens)

    documents = each_piece(texts, tokenizer or Tokenizer(), add)
    batches = [table.batch for table in tables.values()]
    tallies = np.concatenate([np.empty((0, 4), np.int64), *(table.tallies[: len(table)] for table in tables.values())])
    # Each thread counts whole documents in ascending order, so within one its keys stand as they appeared.
    order = np.argsort(tallies[:, FIRST], kind="stable")
    batch = Tokens.joined([Tokens(batch, frozen([0, len(batch)], np.int64)) for batch in batches]).batch.take(order)
    return _summed(batch, tallies[order, COUNT], tallies[order, DOCUMENTS], documents)


class _Table:
    """The tokens that one thread has seen, and their tallies (c, 4) with room for more."""

    def __init__(self) -> None:
        self.used = np.zeros(1, np.int64)
        self.data = np.empty(_KEY_BYTES, np.uint8)
        self.offsets = np.zeros(_KEYS + 1, np.int64)
        self.tallies = np.empty((_KEYS, 4), np.int64)
        self.slots = np.zeros(slots_for(_KEYS), np.uint64)
        self.seed = 0
        self.memo = new_memo()

    def __len__(self) -> int:
        return int(self.used[0])

    @property
    def batch(self) -> KeyBatch:
        return KeyBatch.from_offsets(self.data, self.offsets[: len(self) + 1])

    def add(self, first: int, tokens: Tokens) -> None:
        """Count tokens, of documents that are numbered from `first`."""
        batch, done = tokens.batch, 0
        arrays = (batch.data, batch.starts, batch.stops, tokens.offsets, first)
        while True:
            table = (self.seed, self.slots, self.data, self.offsets, self.tallies, self.memo)
            done = count_keys(*arrays, done, *table, self.used)
            if done == len(batch):
                return
            document = first + int(np.searchsorted(tokens.offsets, done, "right")) - 1
            self._enter(batch.data[batch.starts[done] : batch.stops[done]], document)

    def _enter(self, key: NDArray[np.uint8], document: int) -> None:
        """Enter a key for which there was no room, or which lay too far from its slot; it is not counted yet."""
        row, start = len(self), int(self.offsets[len(self)])
        stop = start + len(key)
        if stop > len(self.data):
            self.data = np.concatenate([self.data[:start], np.empty(start + 2 * len(key), np.uint8)])
        if row == len(self.tallies):
            self.tallies = np.concatenate([self.tallies, np.empty((_GROWTH * row, 4), np.int64)])
            self.offsets = np.concatenate([self.offsets, np.empty(_GROWTH * row, np.int64)])
        self.data[start:stop] = key
        self.offsets[row + 1] = stop
        self.tallies[row] = 0, 0, -1, document
        self.used[0] = row + 1
        self.slots = np.zeros(slots_for(len(self.tallies)), np.uint64)
        self.seed, _ = fill_slots(self.data[:stop], self.offsets[: row + 2], self.slots)


def _merged(parts: list[Counts]) -> Counts:
    batch = Tokens.joined([Tokens(part.batch, frozen([0, len(part)], np.int64)) for part in parts]).batch
    counts = np.concatenate([part.counts for part in parts])
    document_counts = np.concatenate([part.document_counts for part in parts])
    return _summed(batch, counts, document_counts, sum(part.documents for part in parts))


def _summed(batch: KeyBatch, counts: NDArray[np.int64], document_counts: NDArray[np.int64], documents: int) -> Counts:
    """Return counts in which each key of a batch stands once, at its first place, with the sum of its numbers."""
    data, offsets = batch.packed()
    slots = np.zeros(slots_for(len(batch)), np.uint64)
    _, repeats = fill_slots(data, offsets, slots)
    batch = KeyBatch.from_offsets(data, offsets)
    counts, document_counts = counts.copy(), document_counts.copy()
    if len(repeats):
        again, first = repeats.T
        np.add.at(counts, first, counts[again])
        np.add.at(document_counts, first, document_counts[again])
        kept = np.delete(np.arange(len(batch)), again)
        batch, counts, document_counts = batch.take(kept), counts[kept], document_counts[kept]
    return Counts(batch, frozen(counts), frozen(document_counts), documents)
