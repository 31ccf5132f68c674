"""A thousand million keys: one store, or shards by the hash of the key."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import vecstore
from benchmarks.datasets import numbered_keys
from benchmarks.scaling import arithmetic
from benchmarks.scaling.nodes import DIM
from benchmarks.scaling.shards import Route, Shards, shard_of
from benchmarks.scaling.tables import duration, scaled, size, table
from benchmarks.scaling.timing import on, times
from vecstore.index import KeyIndex, fill_slots, slots_for
from vecstore.keys import KeyBatch
from vecstore.layout import MAX_ROWS

KEYS = 10**9
WIDTH = 4
SHARDS = 8
OOV = 0.05
TAGS = ((32, 32), (36, 28), (40, 24), (48, 16))


def measure(folder: Path, store: Path, sizes: list[int], batch: int, turns: int) -> dict[str, Any]:
    """Measure stores of some sizes, and a store in shards against itself."""
    return {
        "sizes": {keys: _measure_size(keys, batch, turns) for keys in sizes},
        "shards": _measure_shards(folder, store, batch, turns),
    }


def _measure_size(keys: int, batch: int, turns: int) -> dict[str, Any]:
    data, offsets = KeyBatch.of(numbered_keys(np.arange(keys))).packed()
    slots = np.zeros(slots_for(keys), np.uint64)
    used = time.process_time()
    seed, _ = fill_slots(data, offsets, slots)
    build = time.process_time() - used
    index = KeyIndex(data, offsets, slots, seed)
    rows = np.random.default_rng(0).integers(0, keys, batch)
    asked = KeyBatch.of(numbered_keys(rows))
    np.testing.assert_array_equal(index.find_batch(asked), rows)
    seconds = times({"find": on(1, lambda: index.find_batch(asked))}, turns)["find"].processor
    taken = slots != 0
    runs = runs_of(taken)
    return {
        "build": build / keys,
        "find": seconds / batch,
        "slots": len(taken),
        "probes": probes_of(runs, len(taken)),
        "longest": int(runs.max(initial=0)),
    }


def runs_of(taken: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the lengths of the runs of taken slots, the end of the table going on at its beginning."""
    free = np.flatnonzero(~taken)
    return np.diff(np.append(free, free[0] + len(taken))) - 1


def probes_of(runs: NDArray[np.int64], slots: int) -> float:
    """Return how many slots a search for an absent key looks at, over all slots where it may begin."""
    return float(1 + (runs * (runs + 1) // 2).sum() / slots)


def _measure_shards(folder: Path, store: Path, batch: int, turns: int) -> dict[str, Any]:
    with vecstore.open(store) as one:
        shards = Shards.build(one, SHARDS, folder)
        rng = np.random.default_rng(0)
        rows = rng.integers(0, len(one), batch)
        absent = rng.random(batch) < OOV
        chosen = [one.keys[row] + "~" * lost for row, lost in zip(rows.tolist(), absent.tolist(), strict=True)]
        keys = KeyBatch.of(chosen)
        found, expected = shards.find(keys), one.keys.find_batch(keys)
        np.testing.assert_array_equal(found >= 0, expected >= 0)
        np.testing.assert_array_equal(shards.gather(found), one.gather(expected))
        route = Route(keys, SHARDS)
        works = {
            "find, one store": lambda: one.keys.find_batch(keys),
            "find, shards": lambda: shards.find(keys),
            "hash": lambda: shard_of(keys, SHARDS),
            "hash and sort": lambda: Route(keys, SHARDS),
            "find, routed": lambda: shards.find_routed(keys, route),
            "gather, one store": lambda: one.gather(expected),
            "gather, shards": lambda: shards.gather(found),
        }
        return {
            "rows": len(one),
            "batch": batch,
            "spread": [len(shard) for shard in shards.stores],
            "seconds": {
                name: timed.processor
                for name, timed in times({name: on(1, work) for name, work in works.items()}, turns).items()
            },
            "key_bytes": float(one.keys.batch.stops[-1] / len(one)),
        }


def render(found: dict[str, Any]) -> dict[str, str]:
    """Return the tables."""
    return {
        "sizes": _render_sizes(found),
        "slots": _render_slots(),
        "shards": _render_shards(found["shards"]),
        "cuts": _render_cuts(found),
        "network": _render_network(),
    }


def _render_sizes(found: dict[str, Any]) -> str:
    rows = []
    for keys, one in found["sizes"].items():
        load = keys / one["slots"]
        probes = f"{one['probes']:.2f} ({arithmetic.probes(load)[1]:.2f})"
        longest = f"{one['longest']} ({arithmetic.longest_run(one['slots'], load):.0f})"
        built = f"{duration(one['build'] * keys)}, {duration(one['build'])} a key"
        stored = arithmetic.store_bytes(keys, WIDTH, "float32", 10)
        sizes = [size(stored.offsets), size(stored.index)]
        rows.append([scaled(keys, digits=3), *sizes, built, duration(one["find"]), f"{load:.2f}", probes, longest])
    last = found["sizes"][max(found["sizes"])]
    for keys in (KEYS, MAX_ROWS):
        stored, load = arithmetic.store_bytes(keys, WIDTH, "float32", 10), keys / slots_for(keys)
        longest = f"({arithmetic.longest_run(slots_for(keys), load):.0f})"
        sizes = [size(stored.offsets), size(stored.index)]
        built = f"({duration(last['build'] * keys)})"
        rows.append(
            [scaled(keys, digits=3), *sizes, built, "", f"{load:.2f}", f"({arithmetic.probes(load)[1]:.2f})", longest]
        )
    head = [
        "keys",
        "offsets",
        "index",
        "index built in",
        "find a key",
        "load",
        "slots for an absent key",
        "longest run",
    ]
    return table(head, rows)


def _render_slots() -> str:
    rows = []
    for row_bits, tag_bits in TAGS:
        keys = 2**row_bits - 2
        vain = arithmetic.misses_of_tag(0.5, tag_bits)
        rows.append([f"{row_bits} + {tag_bits}", scaled(keys, digits=3), f"{vain:.0e}"])
    return table(["bits of row and tag", "rows", "keys compared in vain a search"], rows)


def _render_shards(found: dict[str, Any]) -> str:
    seconds, batch = found["seconds"], found["batch"]
    each = {name: value / batch for name, value in seconds.items()}
    ratios = {
        "find, one store": "",
        "find, shards": f"{each['find, shards'] / each['find, one store']:.2f}x",
        "hash": "",
        "hash and sort": "",
        "find, routed": f"{each['find, routed'] / each['find, one store']:.2f}x",
        "gather, one store": "",
        "gather, shards": f"{each['gather, shards'] / each['gather, one store']:.2f}x",
    }
    return table(
        ["one thread", "a key", "against one store"], [[name, duration(each[name]), ratios[name]] for name in each]
    )


def _render_cuts(found: dict[str, Any]) -> str:
    seconds, batch = found["shards"]["seconds"], found["shards"]["batch"]
    build = found["sizes"][max(found["sizes"])]["build"]
    rows = []
    for shards in (1, SHARDS, 64):
        keys = KEYS // shards
        stored = arithmetic.store_bytes(keys, DIM, "int8", found["shards"]["key_bytes"])
        of_key = seconds["find, one store" if shards == 1 else "find, shards"] / batch
        served = stored.keys + stored.offsets + stored.index
        rows.append(
            [str(shards), scaled(keys), size(stored.total), size(served), duration(build * keys), duration(of_key)]
        )
    head = [
        "shards",
        "keys of each",
        "each, int8",
        "of it keys, offsets, index",
        "index of each built in",
        "find a key",
    ]
    return table(head, rows)


def _render_network() -> str:
    rows = []
    for tokens in (5, 20, 50, 200):
        for shards in (SHARDS, 64):
            sent, sums = arithmetic.rows_or_sums(tokens, shards, DIM)
            rows.append([str(tokens), str(shards), size(sent), size(sums), f"{sent / sums:.1f}x"])
    return table(["tokens a document", "shards", "rows sent", "sums sent", "less"], rows)
