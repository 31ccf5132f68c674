"""Keys to rows: `VectorStore.find` against everyone who can, for batches of 1 to 100,000 keys of three kinds."""

import numpy as np
import pytest
from contest import agree

SIZES = [1, 100, 10_000, 100_000]
MOST_CALLS = 1000
ANY_KIND = ["vecstore", "dict", "pandas", "tensorflow"]
PEERS = {
    "list of str": [*ANY_KIND, "spacy", "finalfusion", "snakefusion"],
    "Arrow large_string": ANY_KIND,
    "NumPy U": ANY_KIND,
}


TARGETS = {
    "list of str": {"dict": 8, "TensorFlow StaticHashTable": 1.5},
    "Arrow large_string": {"TensorFlow, tensor given": 2},
    "NumPy U": {},
}


@pytest.mark.parametrize("kind", PEERS)
@pytest.mark.parametrize("size", SIZES)
def test_find(contest, crew, store, fresh, sample_path, folder, kind, size):
    keys = fresh()
    calls = min(MOST_CALLS, len(keys) // size)
    row_of = {key: row for row, key in zip(store.find(keys).tolist(), keys, strict=True)}
    assert all(store.keys[row] == key for key, row in list(row_of.items())[:1000] if row >= 0)
    arguments = {"keys": sample_path, "kind": kind, "size": size, "calls": calls}
    workers = crew.hire(*PEERS[kind])
    contestants = {worker.title: worker.task("find", **arguments) for worker in workers.values()}
    contestants["TensorFlow, tensor given"] = workers["tensorflow"].task("find", **arguments, ready=True)
    contest(
        f"find, {kind}",
        f"{size:,} keys" if size > 1 else "1 key",
        contestants,
        check=agree(np.array([row_of[key] for key in keys[: calls * size]])),
        prepare=lambda: folder,
        calls=calls,
        headline=size == 100_000 and kind != "NumPy U",
        targets=TARGETS[kind] if size == 100_000 else None,
    )
