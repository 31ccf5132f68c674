"""What every reader gives: the width of the vectors, and blocks of keys with their vectors."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vecstore.layout import Source

__all__ = ["Block", "SpareArrays", "VectorSource"]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Consecutive records of a source. The arrays are the receiver's to keep; nothing else refers to them.

    Attributes
    ----------
    data : (b,) uint8 array
        The keys as the source spells them, end to end; not yet known to be UTF-8.
    offsets : (n + 1,) int64 array
        Key i is ``data[offsets[i]:offsets[i + 1]]``.
    vectors : (n, d) float32 array
    positions : (n,) int64 array
        The byte of the (decompressed) source at which each record starts.
    first : int
        The number of records before this block.
    """

    data: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    vectors: NDArray[np.float32]
    positions: NDArray[np.int64]
    first: int

    def __len__(self) -> int:
        return len(self.vectors)


class SpareArrays:
    """Arrays of one shape and dtype for blocks, used again once nobody else refers to them.

    Memory fresh from the system costs a page fault for every 4 KiB: a third of the time of copying a file into blocks.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self._shape = shape
        self._dtype = dtype
        # How many references CPython counts here depends on its version; of the first array there is no other.
        self._arrays = [np.empty(0)]

    def take(self) -> NDArray[Any]:
        """Return an array that nobody refers to, a view of it included; its numbers are left over from another use."""
        counts = [sys.getrefcount(array) for array in self._arrays]
        for i, count in enumerate(counts[1:], 1):
            if count == counts[0]:
                return self._arrays[i]
        self._arrays.append(np.empty(self._shape, self._dtype))
        return self._arrays[-1]


class VectorSource(Protocol):
    """Word vectors, open for reading once, from start to end, in memory that does not grow with them."""

    @property
    def dim(self) -> int:
        """Width of the vectors, known before the first block."""

    @property
    def expected(self) -> int:
        """How many records the source announces; a claim, good for a guess and no more. 0 if it says nothing."""

    @property
    def description(self) -> Source:
        """What the source is, for a store's metadata."""

    @property
    def done(self) -> int:
        """Bytes of the source that were read, out of ``description.size``."""

    @property
    def departures(self) -> list[str]:
        """Where the source was found to break its format in ways that the caller chose to accept."""

    def blocks(self) -> Iterator[Block]:
        """Read the records; raises FormatError where the file breaks its grammar."""

    def locate(self, record: int, position: int) -> str:
        """Say for a person where a record is, of which a block gives number (from 0) and position."""

    def close(self) -> None:
        """Let go of the file."""
