"""A vocabulary's matrix: `VectorStore.matrix` against the loop of the usual tutorial, and against a dict and NumPy."""

import numpy as np
import pytest

from vecstore.threads import num_threads

SIZES = [20_000, 100_000]


@pytest.mark.parametrize("size", SIZES)
def test_matrix(contest, store, kv, row_of, fresh, copy_on_threads, size):
    word_index = {key: row for row, key in enumerate(fresh()[:size], start=1)}
    v, d = size + 1, store.dim
    expected = store.matrix(word_index).vectors

    def by_gensim(_):
        matrix = np.zeros((v, d), np.float32)
        for word, i in word_index.items():
            if word in kv:
                matrix[i] = kv[word]
        return matrix

    def by_dict(_):
        get = row_of.get
        rows = np.full(v, -1)
        rows[np.fromiter(word_index.values(), np.int64, size)] = [get(word, -1) for word in word_index]
        matrix = np.take(store.vectors, rows, axis=0, mode="clip")
        matrix[rows < 0] = 0
        return matrix

    def check(answer):
        np.testing.assert_array_equal(answer, expected)

    contest(
        "matrix",
        f"{size:,} keys",
        {
            "vecstore": lambda _: store.matrix(word_index).vectors,
            "gensim loop": by_gensim,
            "dict and numpy.take": by_dict,
        },
        check=check,
        limits={
            f"allocate and memcpy, {num_threads()} threads": lambda _: copy_on_threads(
                np.empty((v, d), np.float32), expected
            )
        },
        headline=size == 100_000,
    )
