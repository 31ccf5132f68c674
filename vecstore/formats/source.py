"""What every reader gives: the width of the vectors, and blocks of keys with their vectors."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vecstore.layout import Source

__all__ = ["Block", "VectorSource"]


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
