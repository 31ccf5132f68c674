"""The command: measure, print the tables, write them into docs/scaling.md."""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import vecstore
from benchmarks.scaling import cores, corpora, documents, keyspace, nodes, tables
from vecstore.threads import num_threads

DOCS = Path(__file__).parents[2] / "docs" / "scaling.md"
_BLOCK = 20_000


@dataclass(frozen=True)
class Sizes:
    """How much is measured on."""

    rows: int
    tokens: int
    turns: int
    glove: int
    draws: int
    cold_rows: int
    heaps: int
    real_bytes: int
    distinct: int
    stores: tuple[int, ...]
    batch: int


FULL = Sizes(
    rows=3_000_000,
    tokens=1_000_000,
    turns=5,
    glove=400_000,
    draws=4_000_000,
    cold_rows=20_000,
    heaps=30_000_000,
    real_bytes=300_000_000,
    distinct=2_000_000,
    stores=(1_000_000, 16_000_000),
    batch=400_000,
)
QUICK = Sizes(
    rows=20_000,
    tokens=20_000,
    turns=1,
    glove=20_000,
    draws=20_000,
    cold_rows=1_000,
    heaps=100_000,
    real_bytes=1_000_000,
    distinct=20_000,
    stores=(3_000, 30_000),
    batch=5_000,
)


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="measure on little data; changes no file unless --docs is given"
    )
    parser.add_argument("--docs", type=Path, help="the file whose tables are written, by default docs/scaling.md")
    parser.add_argument("--json", type=Path, help="write what was measured to this file")
    parser.add_argument("--folder", type=Path, help="make the temporary folder here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vecstore-scaling-", dir=options.folder) as folder:
        found = measure(Path(folder), QUICK if options.quick else FULL)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    rendered = render(found)
    for name, content in rendered.items():
        print(f"{name}\n{content}\n")
    docs = options.docs or (None if options.quick else DOCS)
    if docs:
        tables.write_between(docs, rendered)


def measure(folder: Path, sizes: Sizes) -> dict[str, Any]:
    """Measure everything; each section is timed alone."""
    keys = corpora.words(sizes.rows)
    store = folder / "words.vecstore"
    vecstore.convert(_blocks(keys), store)
    found: dict[str, Any] = {"machine": name_machine()}
    sections = {
        "nodes": lambda: nodes.measure(store, sizes.glove, sizes.draws, sizes.cold_rows),
        "cores": lambda: cores.measure(folder, store, keys, sizes.tokens, sizes.turns),
        "documents": lambda: documents.measure(sizes.rows, sizes.heaps, sizes.real_bytes, sizes.distinct),
        "keys": lambda: keyspace.measure(folder, store, list(sizes.stores), sizes.batch, sizes.turns),
    }
    for name, section in sections.items():
        start = time.perf_counter()
        found[name] = section()
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    return found


def _blocks(keys: list[str]) -> Iterator[tuple[list[str], NDArray[np.float32]]]:
    """Yield keys with vectors; the numbers do not matter, so each block has those of the first, turned round."""
    vectors = np.random.default_rng(0).standard_normal((min(_BLOCK, len(keys)), nodes.DIM), np.float32)
    for i, start in enumerate(range(0, len(keys), _BLOCK)):
        chosen = keys[start : start + _BLOCK]
        yield chosen, np.roll(vectors, i, axis=1)[: len(chosen)]


def render(found: dict[str, Any]) -> dict[str, str]:
    """Return the tables of all sections."""
    return {
        "machine": found["machine"],
        **cores.render(found["cores"]),
        **nodes.render(found["nodes"], found["cores"]),
        **documents.render(found["documents"], found["cores"], found["nodes"]),
        **keyspace.render(found["keys"]),
    }


def name_machine() -> str:
    """Return the machine, how busy it is, the versions and the day."""
    import pyarrow as pa

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    versions = f"python {platform.python_version()}, vecstore {vecstore.__version__}, numpy {np.__version__}"
    load = f"load {os.getloadavg()[0]:.1f} at the start"
    return f"{model}, {num_threads()} cores, {load}; {versions}, pyarrow {pa.__version__}; {time.strftime('%Y-%m-%d')}."


if __name__ == "__main__":
    main()
