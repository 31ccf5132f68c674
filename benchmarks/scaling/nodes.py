"""What a machine's memory holds: stores, workers, and the share of a store that a job touches."""

import os
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import vecstore
from benchmarks.scaling import arithmetic
from benchmarks.scaling.cores import ask_worker
from benchmarks.scaling.corpora import zipf_rows
from benchmarks.scaling.tables import duration, number, percent, rate, scaled, size, table
from vecstore.storage import STORAGE_TYPES

GIB = 2**30
NODES = ((64, 16), (256, 64))
SYSTEM = 0.1
DIM = 300
PAGE = 4096
CACHED = (0.5, 0.25, 0.1, 0.05)
DTYPES = ("float32", "bfloat16", "int8")


def measure(store: Path, glove: int, draws: int, cold_rows: int) -> dict[str, Any]:
    """Measure a worker's own memory, rows from the disk, and what a cache of some pages misses.

    `glove` is the number of GloVe's keys, in their order of frequency, and `draws` the tokens of the simulation.
    """
    with vecstore.open(store) as opened:
        arrays = opened.metadata.files.values()
        expected = arithmetic.store_bytes(len(opened), opened.dim, opened.metadata.dtype, _key_bytes(opened))
        found = {
            "rows": len(opened),
            "dim": opened.dim,
            "key_bytes": _key_bytes(opened),
            "files": sum(file["size"] for file in arrays),
            "expected": expected.total,
        }
    misses = {share: _simulate(glove, draws, share) for share in CACHED}
    return found | {
        "idle": ask_worker("idle", store)["anonymous"],
        "cold": _cold(store, cold_rows),
        "cold_rows": cold_rows,
        "glove": glove,
        "draws": draws,
        "misses": misses,
        "drawn": {10**k: _distinct(glove, 10**k) for k in range(3, len(str(draws)))},
    }


def _key_bytes(store: vecstore.VectorStore) -> float:
    return float((store.keys.batch.stops[-1] - store.keys.batch.starts[0]) / len(store))


def _cold(store: Path, rows: int) -> float:
    def evict() -> None:
        os.sync()
        for path in store.iterdir():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)

    seconds: float = ask_worker("cold", store, rows, before=evict)["seconds"] / rows
    return seconds


def _distinct(keys: int, tokens: int) -> int:
    return len(np.unique(zipf_rows(keys, tokens)))


def pages_of(rows: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Return the page in which each row of `width` bytes begins."""
    return rows * width // PAGE


def page_shares(shares: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Return how probable each page is, being that of the rows that begin in it."""
    return np.bincount(pages_of(np.arange(len(shares)), width), shares)


def lru_misses(pages: NDArray[np.int64], kept: int) -> float:
    """Return the share of misses in the second half of accesses to `pages`, of which the `kept` last used ones stay."""
    cache: OrderedDict[int, None] = OrderedDict()
    misses = 0
    for i, page in enumerate(pages.tolist()):
        if page in cache:
            cache.move_to_end(page)
        else:
            misses += 2 * i >= len(pages)
            cache[page] = None
            if len(cache) > kept:
                cache.popitem(last=False)
    return misses / (len(pages) - len(pages) // 2)


def _simulate(keys: int, draws: int, share: float) -> dict[str, float]:
    rows, width = zipf_rows(keys, draws), 4 * DIM
    shuffled = np.random.default_rng(1).permutation(keys)[rows]
    shares = page_shares(arithmetic.zipf_shares(keys), width)
    kept = int(share * len(shares))
    return {
        "in order": lru_misses(pages_of(rows, width), kept),
        "computed": arithmetic.misses_of_lru(shares, kept),
        "shuffled": lru_misses(pages_of(shuffled, width), kept),
    }


def render(found: dict[str, Any], cores: dict[str, Any]) -> dict[str, str]:
    """Return the tables."""
    private = max(chain["anonymous"] for chains in cores["chains"].values() for chain in chains)
    return {
        "stores": _render_stores(found),
        "nodes": _render_nodes(found, private),
        "touched": _render_touched(found),
        "misses": _render_misses(found, cores),
    }


def _render_stores(found: dict[str, Any]) -> str:
    rows = []
    for keys in (found["rows"], 10**8, 10**9):
        for dtype in STORAGE_TYPES:
            stored = arithmetic.store_bytes(keys, DIM, dtype, found["key_bytes"])
            rows.append([scaled(keys), dtype, *map(size, stored), size(stored.total), number(stored.total / keys, 4)])
    return table(["keys", "stored as", "vectors", "keys", "offsets", "index", "all", "bytes a key"], rows)


def _render_nodes(found: dict[str, Any], private: int) -> str:
    rows = []
    for memory, cores in NODES:
        left = memory * GIB * (1 - SYSTEM) - cores * private
        rows_of = [scaled(arithmetic.rows_in(left, DIM, dtype, found["key_bytes"])) for dtype in DTYPES]
        rows.append([f"{memory} GiB", str(cores), size(found["idle"]), size(private), size(left), *rows_of])
    head = ["memory", "workers", "a worker, store open", "at its most", "left for the store", *DTYPES]
    return table(head, rows)


def _render_touched(found: dict[str, Any]) -> str:
    small, large = (arithmetic.zipf_shares(found[name]) for name in ("glove", "rows"))
    rows = []
    for exponent in range(3, 10):
        tokens = 10**exponent
        drawn = found["drawn"].get(tokens)
        expected = [arithmetic.distinct_expected(shares, tokens) for shares in (small, large)]
        rows.append(
            [
                scaled(tokens),
                f"{drawn:,}" if drawn else "",
                f"{expected[0]:,.0f}",
                f"{expected[1]:,.0f}",
                percent(expected[1] / len(large)),
                size(expected[1] * 4 * DIM),
            ]
        )
    names = [f"{scaled(found['glove'])} keys, drawn", "computed", f"{scaled(found['rows'])} keys, computed"]
    return table(["tokens", *names, "of all", "their vectors"], rows)


def _render_misses(found: dict[str, Any], cores: dict[str, Any]) -> str:
    shares = page_shares(arithmetic.zipf_shares(found["rows"]), 4 * DIM)
    part = cores["parts"][200]
    warm = part["seconds"]["embed, mean"]["processor"] / part["tokens"]
    rows = []
    for share, misses in found["misses"].items():
        computed = arithmetic.misses_of_lru(shares, share * len(shares))
        simulated = [percent(misses[name]) for name in ("in order", "computed", "shuffled")]
        speed = rate(1 / (warm + computed * found["cold"]))
        rows.append([percent(share), *simulated, percent(computed), speed])
    names = [f"{scaled(found['glove'])} keys, simulated", "computed", "shuffled rows, simulated"]
    note = f"tokens, one core ({rate(1 / warm)} warm, {duration(found['cold'])} a miss)"
    return table(["pages in memory", *names, f"{scaled(found['rows'])} keys, computed", note], rows)
