"""Rows to vectors: `VectorStore.gather` into a given array against NumPy and gensim.

"touched" is a mapping whose pages this process has used before; "first use" is one that was just opened, where each
page costs a fault although it lies in the page cache.
"""

import numpy as np
import pytest

import vecstore
from vecstore.threads import num_threads

SAMPLE = 100_000
SIZES = [100, 10_000, 100_000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mapping", ["touched", "first use"])
def test_gather(contest, store, kv, copy_on_threads, mapping, size):
    calls = SAMPLE // size if mapping == "touched" else 1
    rows = np.random.default_rng(size).integers(0, len(store), (calls, size))
    expected = store.vectors[rows]
    one, other, third = (np.full(expected.shape, np.nan, np.float32) for _ in range(3))

    def by_vecstore(store):
        for batch, out in zip(rows, one, strict=True):
            store.gather(batch, out=out)
        return one

    def by_numpy(store):
        # The default mode="raise" copies through a buffer; "clip" is the fastest that take offers.
        for batch, out in zip(rows, other, strict=True):
            np.take(store.vectors, batch, axis=0, out=out, mode="clip")
        return other

    def by_gensim(_):
        return [kv.vectors[batch] for batch in rows]  # into an array of its own

    def memcpy(_):
        for source, out in zip(expected, third, strict=True):
            copy_on_threads(out, source)

    contestants = {"vecstore": by_vecstore, "numpy.take": by_numpy}
    if mapping == "touched":
        contestants["gensim kv.vectors[rows]"] = by_gensim
    contest(
        f"gather, {mapping}",
        f"{size:,} rows",
        contestants,
        check=lambda answer: np.testing.assert_array_equal(answer, expected),
        limits={f"memcpy, {num_threads()} threads": memcpy},
        prepare=(lambda: store) if mapping == "touched" else (lambda: vecstore.open(store.path)),
        calls=calls,
        headline=size == 100_000,
    )
