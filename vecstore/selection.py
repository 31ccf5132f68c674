"""Selection: the records of a source that go into a store, with keys in UTF-8.

What the source holds and the store must not is left out here: records past a limit, keys that nobody asked for, keys
that are no UTF-8.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vecstore.choices import EncodingErrors
from vecstore.errors import FormatError
from vecstore.formats.source import Block, VectorSource
from vecstore.index import KeyIndex
from vecstore.keys import KeyBatch, is_utf8
from vecstore.progress import Progress, ProgressCallback
from vecstore.vocabulary import Vocabulary, read_keys, read_vocabulary

__all__ = ["Selection", "index_wanted"]


def index_wanted(keys: Any) -> KeyIndex:
    """Return an index of the keys that a caller asks for.

    Parameters
    ----------
    keys
        A path of a file with a key a line (or JSON), a mapping from key, a Keras tokenizer, vectoriser or lookup, or a
        batch of keys. Repeated keys count once, nulls not at all.
    """
    if isinstance(keys, str | os.PathLike):
        path = Path(keys)
        keys = read_vocabulary(path).keys if path.suffix == ".json" else read_keys(path)
    elif isinstance(keys, Mapping):
        keys = list(keys)
    elif hasattr(keys, "get_vocabulary") or hasattr(keys, "word_index"):
        keys = Vocabulary.of(keys).keys
    index, _ = KeyIndex.build_first(KeyBatch.of(keys).without_nulls())
    return index


class Selection:
    """Iterate over the blocks of a source that go into the store.

    Parameters
    ----------
    reader : VectorSource
    encoding_errors : {"strict", "replace", "ignore", "skip"}
    limit : int or None
        The number of records to look at.
    wanted : KeyIndex or None
        The keys to keep; None for all.
    progress : callable
        Told how much of the source is read.

    Attributes
    ----------
    undecodable, unwanted : int
        Records that were left out so far.
    """

    def __init__(
        self,
        reader: VectorSource,
        *,
        encoding_errors: EncodingErrors,
        limit: int | None,
        wanted: KeyIndex | None,
        progress: ProgressCallback,
    ) -> None:
        self._reader = reader
        self._errors = encoding_errors
        self._limit = limit
        self._wanted = wanted
        self._progress = progress
        self.undecodable = 0
        self.unwanted = 0

    @property
    def _caution(self) -> str:
        if self._reader.description.format != "word2vec":
            return ""
        return ", unless an earlier key holds a space, which puts a word2vec binary out of step"

    @property
    def expected(self) -> int:
        """The likely number of records, 0 if nobody knows."""
        if self._wanted is not None:
            return 0
        return self._reader.expected if self._limit is None else min(self._limit, self._reader.expected)

    def __iter__(self) -> Iterator[Block]:
        for block in self._reader.blocks():
            last = self._limit is not None and block.first + len(block) >= self._limit
            if last and self._limit is not None:
                block = _take(block, np.arange(self._limit - block.first))
            yield self._only_wanted(self._decodable(block))
            if last:
                return
            self._progress(Progress("reading", self._reader.done, self._reader.description.size))

    def _only_wanted(self, block: Block) -> Block:
        if self._wanted is None:
            return block
        rows = np.flatnonzero(self._wanted.find_batch(KeyBatch.from_offsets(block.data, block.offsets)) >= 0)
        self.unwanted += len(block) - len(rows)
        return _take(block, rows)

    def _decodable(self, block: Block) -> Block:
        if is_utf8(block.data, block.offsets):
            return block
        keys: list[bytes] = []
        kept: list[int] = []
        for i, (low, high) in enumerate(pairwise(block.offsets)):
            key = block.data[low:high].tobytes()
            try:
                key.decode()
            except UnicodeDecodeError as error:
                if self._errors == "strict":
                    raise FormatError(
                        f"{self._reader.locate(block.first + i, int(block.positions[i]))}: "
                        f"expected a key in UTF-8, found {key!r:.80} ({error.reason}); "
                        f"to accept it: encoding_errors='replace', 'ignore' or 'skip'{self._caution}"
                    ) from None
                if self._errors == "skip":
                    self.undecodable += 1
                    continue
                key = key.decode(errors=self._errors).encode()
            keys.append(key)
            kept.append(i)
        data, offsets = KeyBatch.of(keys).packed()
        return replace(block, data=data, offsets=offsets, vectors=block.vectors[kept], positions=block.positions[kept])


def _take(block: Block, rows: NDArray[np.int64]) -> Block:
    """Return some records of a block, as a block of its own."""
    starts, stops = block.offsets[:-1], block.offsets[1:]
    data, offsets = KeyBatch(block.data, starts[rows], stops[rows]).packed()
    return replace(block, data=data, offsets=offsets, vectors=block.vectors[rows], positions=block.positions[rows])
