"""A vocabulary's matrix: `VectorStore.matrix` against the loop of the usual tutorial, and everyone else's way.

A limit that memcpy is not: the same scattered rows, known beforehand, copied in C to new memory.
"""

import numpy as np
import pytest
from contest import agree
from crew import HALVES

from vecstore.threads import num_threads

SIZES = [20_000, 100_000]
BEST = ["dict", "spaCy Vectors", "reach", "finalfusion", "snakefusion", "lmdb-embeddings"]  # by their titles


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("peers", HALVES, ids="-".join)
def test_matrix(contest, crew, store, fresh, sample_path, copy_on_threads, copy_rows_in_c, folder, peers, size):
    rows = store.find(fresh()[:size])
    expected = np.zeros((size + 1, store.dim), np.float32)
    expected[1:] = store.vectors[rows]
    expected[1:][rows < 0] = 0
    limit = f"allocate and memcpy, {num_threads()} threads"
    limits = {limit: lambda _: copy_on_threads(np.empty_like(expected), expected)}
    if copy_rows_in_c and size == 100_000:
        known = np.maximum(rows, 0)
        limits[f"allocate and copy the rows in C, {num_threads()} threads"] = lambda _: copy_rows_in_c(
            store.vectors, known, np.empty((size, store.dim), np.float32)
        )
    contest(
        "matrix",
        f"{size:,} keys",
        crew.tasks(peers, "matrix", keys=sample_path, size=size),
        check=agree(expected),
        limits=limits,
        prepare=lambda: folder,
        headline=size == 100_000,
        targets={"gensim": 7, **dict.fromkeys(BEST, 3), limit: 1.6} if size == 100_000 else None,
    )
