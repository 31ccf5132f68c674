"""One key at a time: `store[key]` and `key in store` in a loop over 10,000 random keys, in time per key.

gensim, reach, spaCy and NumPy give a view of their matrix, vecstore and finalfusion's libraries a copy.
"""

import numpy as np
import pytest
from contest import agree
from crew import HALVES

KEYS = 10_000


@pytest.mark.parametrize("peers", HALVES, ids="-".join)
def test_get(contest, crew, store, known, known_path, folder, peers):
    contest(
        "one key at a time",
        "store[key]",
        crew.tasks(peers, "get_each", keys=known_path, size=KEYS),
        check=agree(store.vectors[store.find(known[:KEYS])]),
        prepare=lambda: folder,
        calls=KEYS,
        headline=True,
        targets={"gensim": 1, "lmdb-embeddings": 2},
    )


@pytest.mark.parametrize("peers", HALVES, ids="-".join)
def test_contains(contest, crew, store, fresh, sample_path, folder, peers):
    contest(
        "one key at a time",
        "key in store",
        crew.tasks(peers, "contains_each", keys=sample_path, size=KEYS),
        check=agree(np.array([key in store for key in fresh()[:KEYS]])),
        prepare=lambda: folder,
        calls=KEYS,
        headline=True,
        targets={"gensim": 1},
    )
