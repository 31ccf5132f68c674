"""Keys to vectors: `VectorStore.lookup` against everyone, zeros where a key is out of vocabulary."""

import pytest
from contest import agree
from crew import HALVES

SIZES = [100, 10_000, 100_000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("peers", HALVES, ids="-".join)
def test_lookup(contest, crew, store, fresh, sample_path, folder, peers, size):
    calls = 100_000 // size
    keys = fresh()[: calls * size]
    rows = store.find(keys)
    expected = store.vectors[rows]
    expected[rows < 0] = 0
    contest(
        "lookup, list of str",
        f"{size:,} keys",
        crew.tasks(peers, "lookup", keys=sample_path, size=size, calls=calls),
        check=agree(expected),
        prepare=lambda: folder,
        calls=calls,
        headline=size == 100_000,
        targets={"dict": 2, "snakefusion": 2, "lmdb-embeddings": 8} if size == 100_000 else None,
    )
