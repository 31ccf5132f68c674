"""The formulas of docs/scaling.md; what goes into them was measured or is said to be assumed."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vecstore.index import slots_for
from vecstore.layout import MAX_ROWS
from vecstore.storage import STORAGE_TYPES

SLOT_BYTES = 8
OFFSET_BYTES = 8


class StoreBytes(NamedTuple):
    """Bytes of the arrays of a store that grow with its keys, without the 128 of each file's header."""

    vectors: int
    keys: int
    offsets: int
    index: int

    @property
    def total(self) -> int:
        """Return all of them."""
        return sum(self)


def store_bytes(rows: int, dim: int, dtype: str, key_bytes: float) -> StoreBytes:
    """Return the size of a store of `rows` keys of `key_bytes` bytes on average, as `vecstore.layout` specifies it."""
    vectors = rows * STORAGE_TYPES[dtype].row_bytes(dim)
    return StoreBytes(vectors, round(rows * key_bytes), OFFSET_BYTES * (rows + 1), SLOT_BYTES * slots_for(rows))


def rows_in(memory: float, dim: int, dtype: str, key_bytes: float) -> int:
    """Return how many rows a store may have whose arrays are to fit into `memory` bytes; at most what a store holds."""
    low, high = 0, MAX_ROWS
    while low < high:
        rows = (low + high + 1) // 2
        low, high = (rows, high) if store_bytes(rows, dim, dtype, key_bytes).total <= memory else (low, rows - 1)
    return low


def zipf_shares(keys: int) -> NDArray[np.float64]:
    """Return how probable each of so many keys is as the next token: 1 / (rank + 2.7), rank 0 first."""
    weights = 1 / (np.arange(keys) + 2.7)
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def distinct_expected(shares: NDArray[np.float64], tokens: float) -> float:
    """Return how many keys so many tokens are expected to name: the sum of 1 - (1 - p)^k."""
    return float(-np.expm1(tokens * np.log1p(-shares)).sum())


def misses_of_lru(shares: NDArray[np.float64], kept: float) -> float:
    """Return the share of accesses that miss a cache of the `kept` pages used last (Che, Tung and Wang, 2002).

    A page is there if it was used within the last t accesses, where t is such that `kept` pages are expected to be.
    """
    if kept >= len(shares):
        return 0.0
    low, high = 0.0, 1.0
    while -np.expm1(-shares * high).sum() < kept:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if -np.expm1(-shares * middle).sum() < kept else (low, middle)
    return float((shares * np.exp(-shares * high)).sum())


class Heaps(NamedTuple):
    """Heaps' law: so many tokens hold ``factor * tokens ** power`` distinct ones."""

    factor: float
    power: float

    def distinct(self, tokens: float) -> float:
        """Return the expected number of distinct tokens."""
        return float(self.factor * tokens**self.power)


def fit_heaps(tokens: Sequence[float], distinct: Sequence[float]) -> Heaps:
    """Fit the law to measured points, by least squares on logarithms."""
    power, constant = np.polyfit(np.log(tokens), np.log(distinct), 1)
    return Heaps(math.exp(constant), float(power))


class Merge(NamedTuple):
    """What adding up the counts of many workers takes.

    `seconds` is from the first merge to the last; `largest` the most keys that go into one merge; `sent` the keys that
    all merges read, which is what goes over the network at most.
    """

    seconds: float
    largest: float
    sent: float


def merge_counts(
    workers: int, fan_in: int, tokens: float, distinct: Callable[[float], float], seconds_per_key: float
) -> Merge:
    """Return the cost of a tree in which each merge takes the counts of `fan_in` workers, or of earlier merges.

    `tokens` are spread evenly, and a part of them holds ``distinct(part)`` keys. Merges of one level run at once.
    `fan_in` = `workers` is one merge of all.
    """
    seconds = largest = sent = 0.0
    left = workers
    while left > 1:
        keys = distinct(tokens / left)
        into = min(fan_in, left)
        seconds += into * keys * seconds_per_key
        largest = max(largest, into * keys)
        sent += left * keys
        left = math.ceil(left / fan_in)
    return Merge(seconds, largest, sent)


def copy_seconds(size: float, machines: int, bandwidth: float) -> tuple[float, float]:
    """Return how long `size` bytes take to `machines` machines, each line `bandwidth` bytes a second.

    First from one source that sends to one after the other; then where whoever has it sends it on, so that those who
    have it double each time.
    """
    once = size / bandwidth
    return machines * once, math.ceil(math.log2(machines + 1)) * once


def probes(load: float) -> tuple[float, float]:
    """Return how many slots a search looks at where a key is there, and where not (Knuth, volume 3, 6.4)."""
    return (1 + 1 / (1 - load)) / 2, (1 + 1 / (1 - load) ** 2) / 2


def longest_run(slots: int, load: float) -> float:
    """Return how long the longest run of taken slots gets at most, about.

    Runs of k are as rare as exp(-k (load - 1 - ln load)). This is the leading term of Pittel (Linear probing: the
    probable largest search time grows logarithmically with the number of records, 1987); the next makes it shorter.
    """
    return math.log(slots) / (load - 1 - math.log(load))


def misses_of_tag(load: float, tag_bits: int) -> float:
    """Return how many keys a search compares in vain: slots it looks at, times the chance that a tag is alike."""
    return probes(load)[1] / 2**tag_bits


def rows_or_sums(tokens: float, shards: int, dim: int) -> tuple[float, float]:
    """Return bytes over the network for a document whose keys lie in shards on other machines.

    First where its rows are sent as float32; then where each shard sends the sum of the rows that it has, in float64.
    The number of shards that hold one of `tokens` keys is that of a random hash.
    """
    touched = shards * (1 - (1 - 1 / shards) ** tokens)
    return 4.0 * dim * tokens, 8.0 * dim * touched
