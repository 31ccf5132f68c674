"""Rows to vectors: `VectorStore.gather` into a given array against NumPy and gensim.

"touched" is a mapping whose pages the process has used before; "first use" is one that was just opened, where each
page costs a fault although it lies in the page cache. A limit that memcpy is not: the same scattered rows copied in C.
"""

import numpy as np
import pytest
from contest import agree

from vecstore.threads import num_threads

SAMPLE = 100_000
SIZES = [100, 10_000, 100_000]


@pytest.mark.parametrize("mapping", ["touched", "first use"])
@pytest.mark.parametrize("size", SIZES)
def test_gather(contest, crew, store, copy_on_threads, copy_rows_in_c, folder, mapping, size):
    calls = SAMPLE // size if mapping == "touched" else 1
    rows = np.random.default_rng(size).integers(0, len(store), (calls, size))
    expected = store.vectors[rows]
    np.save(folder / "rows.npy", rows)
    given = {"rows": folder / "rows.npy", "calls": calls}
    if mapping == "touched":
        contestants = crew.tasks(["vecstore", "numpy", "gensim"], "gather", **given)
    else:
        contestants = crew.tasks(["vecstore", "numpy"], "gather", **given, fresh=crew.format_of("vecstore"))
    copied = np.full_like(expected, np.nan)

    def memcpy(_):
        for batch, out in zip(expected, copied, strict=True):
            copy_on_threads(out, batch)

    def in_c(_):
        for batch, out in zip(rows, copied, strict=True):
            copy_rows_in_c(store.vectors, batch, out)

    limits = {f"memcpy, {num_threads()} threads": memcpy}
    if copy_rows_in_c and mapping == "touched" and size == 100_000:
        limits[f"the same rows in C, {num_threads()} threads"] = in_c
        in_c(None)
        np.testing.assert_array_equal(copied, expected)
    contest(
        f"gather, {mapping}",
        f"{size:,} rows",
        contestants,
        check=agree(expected.reshape(-1, store.dim)),
        limits=limits,
        prepare=lambda: folder,
        calls=calls,
        headline=size == 100_000,
        targets={"numpy.take": 1.5, f"memcpy, {num_threads()} threads": 1 / 0.9} if size == 100_000 else None,
    )
