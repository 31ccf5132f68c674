"""Keys to rows: `VectorStore.find` against a dict and pandas, for batches of 1 to 100,000 keys of three kinds."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

SIZES = [1, 100, 10_000, 100_000]
MOST_CALLS = 1000

# How each kind is made of a list of str, and how a dict's user gets the str back.
KINDS = {
    "list of str": (list, list),
    "Arrow large_string": (lambda keys: pa.array(keys, pa.large_string()), lambda keys: keys.to_pylist()),
    "NumPy U": (np.array, lambda keys: keys.tolist()),
}


@pytest.fixture(scope="module")
def index(row_of):
    """Make a pandas Index; one of objects is faster than pandas's own strings, whatever the kind of the keys."""
    return pd.Index(list(row_of), dtype=object)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_find(contest, store, row_of, index, fresh, kind, size):
    make, to_list = KINDS[kind]
    calls = min(MOST_CALLS, len(fresh()) // size)
    get = row_of.get
    expected = [get(key, -1) for key in fresh()[: calls * size]]

    def prepare():
        keys = fresh()
        return [make(keys[i * size : (i + 1) * size]) for i in range(calls)]

    def by_dict(batches):
        return [[get(key, -1) for key in to_list(keys)] for keys in batches]

    def by_pandas(batches):
        return [index.get_indexer(np.array(to_list(keys), object)) for keys in batches]

    contest(
        f"find, {kind}",
        f"{size:,} keys" if size > 1 else "1 key",
        {
            "vecstore": lambda batches: [store.find(keys) for keys in batches],
            "dict": by_dict,
            "pandas Index": by_pandas,
        },
        check=lambda answer: np.testing.assert_array_equal(np.concatenate(answer), expected),
        prepare=prepare,
        calls=calls,
        headline=size == 100_000 and kind != "NumPy U",
    )
