"""A store cut into several by the hash of the key: routing on top of what vecstore offers, to see what it costs.

A batch is cut into one batch a shard, each shard finds its keys, and the answers go back to their places. The row of a
key is its row in its shard, after all rows of the shards before.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import vecstore
from vecstore.keys import KeyBatch

_MULTIPLIERS = np.random.default_rng(0).integers(0, 2**64, 1024, np.uint64)
_BLOCK = 1 << 16


def shard_of(batch: KeyBatch, shards: int) -> NDArray[np.uint8]:
    """Return the shard of each key (n,), at most 256: the multilinear hash of its bytes, in NumPy.

    Lemire and Kaser, Strongly universal string hashing is fast, 2014: a random number for each place of the key, each
    multiplied by the byte there, added up. Another hash than the index's, so that a shard's index stays even.
    """
    data, offsets = batch.packed()
    starts, lengths = offsets[:-1], np.diff(offsets)
    places = np.arange(len(data)) - np.repeat(starts, lengths)
    products = _MULTIPLIERS[places & 1023] * (data.astype(np.uint64) + np.uint64(1))
    sums = np.append(np.uint64(0), np.cumsum(products, dtype=np.uint64))
    hashes = sums[offsets[1:]] - sums[starts]
    return ((hashes >> np.uint64(32)) * np.uint64(shards) >> np.uint64(32)).astype(np.uint8)


class Route:
    """Where each key of a batch goes: the batch's places in the order of shards, and where each shard begins."""

    def __init__(self, batch: KeyBatch, shards: int) -> None:
        parts = shard_of(batch, shards)
        self.places = np.argsort(parts, kind="stable")
        self.bounds = np.append(0, np.cumsum(np.bincount(parts, minlength=shards)))

    def parts(self) -> Iterator[NDArray[np.int64]]:
        """Yield the places of each shard's keys."""
        return (self.places[start:stop] for start, stop in zip(self.bounds, self.bounds[1:], strict=False))


class Shards:
    """Stores that are one.

    Parameters
    ----------
    stores : list of VectorStore
        Shard i holds the keys for which `shard_of` says i.
    """

    def __init__(self, stores: list[vecstore.VectorStore]) -> None:
        self.stores = stores
        self.bases = np.append(0, np.cumsum([len(store) for store in stores]))

    @classmethod
    def build(cls, store: vecstore.VectorStore, shards: int, folder: Path) -> "Shards":
        """Cut a store up; its shards are written into `folder`."""
        paths = [folder / f"shard{shard}.vecstore" for shard in range(shards)]
        route = Route(store.keys.batch, shards)
        for path, rows in zip(paths, route.parts(), strict=True):
            vecstore.convert(_blocks(store, rows), path)
        return cls([vecstore.open(path) for path in paths])

    def find(self, keys: KeyBatch) -> NDArray[np.int64]:
        """Return the rows of `keys` (n,), -1 where out of vocabulary."""
        return self.find_routed(keys, Route(keys, len(self.stores)))

    def find_routed(self, keys: KeyBatch, route: Route) -> NDArray[np.int64]:
        """Return the rows of keys whose shards are known."""
        found = np.empty(len(keys), np.int64)
        for store, base, places in zip(self.stores, self.bases, route.parts(), strict=False):
            rows = store.keys.find_batch(keys.take(places))
            found[places] = np.where(rows >= 0, rows + base, -1)
        return found

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the vectors at `rows` (n, d); zeros for -1."""
        parts = (np.searchsorted(self.bases, rows, "right") - 1).clip(0)
        places = np.argsort(parts.astype(np.uint8), kind="stable")
        bounds = np.append(0, np.cumsum(np.bincount(parts, minlength=len(self.stores))))
        ordered = np.empty((len(rows), self.stores[0].dim), np.float32)
        for store, base, start, stop in zip(self.stores, self.bases, bounds, bounds[1:], strict=False):
            chosen = rows[places[start:stop]]
            store.gather(np.where(chosen >= 0, chosen - base, -1), out=ordered[start:stop])
        out = np.empty_like(ordered)
        out[places] = ordered
        return out


def _blocks(store: vecstore.VectorStore, rows: NDArray[np.int64]) -> Iterator[tuple[KeyBatch, NDArray[np.float32]]]:
    for start in range(0, len(rows), _BLOCK):
        chosen = rows[start : start + _BLOCK]
        yield store.keys.batch.take(chosen), store.gather(chosen)
