"""Storage types: one file stored as float32, float16, bfloat16 and int8, and what that saves and costs.

Sizes, and the errors against the source, stand in ``extra_info`` as "stored".
"""

from dataclasses import asdict

import numpy as np
import pytest

import vecstore
from vecstore import RoundingErrors
from vecstore.keys import KeyBatch

SIZE = 100_000
TEXTS, TOKENS = 10_000, 200
NARROW = ["float16", "bfloat16", "int8"]
VECTORS = {"vectors.npy", "scales.npy"}


@pytest.fixture(scope="module")
def stored(folder, source, store):
    """Store the source as each type; return the open store and the errors of each."""
    found = {"float32": (store, RoundingErrors(0.0, 0.0, 1.0))}
    for dtype in NARROW:
        report = vecstore.convert(source, folder / f"{dtype}.vecstore", dtype=dtype)
        found[dtype] = vecstore.open(report.path), report.errors
    return found


@pytest.fixture(scope="module")
def word_index(store):
    """Give some random keys of the store, and some that it does not have, rows from 1 on."""
    rng = np.random.default_rng(0)
    keys = [store.keys[row] for row in rng.choice(len(store), SIZE, replace=False)]
    return {key if row % 20 else f"{key}~oov": row for row, key in enumerate(keys, start=1)}


def closeness(stored, expected):
    """Return the check that an answer is as close to that of float32 as the report of its conversion says."""

    def check(answer):
        dtype, vectors = answer
        np.testing.assert_allclose(vectors, expected, rtol=0, atol=stored[dtype][1].largest)

    return check


def test_gather_by_type(contest, store, stored):
    rows = np.random.default_rng(0).integers(0, len(store), SIZE)
    out = np.full((SIZE, store.dim), np.nan, np.float32)
    info = contest(
        "storage type, gather",
        f"{SIZE:,} rows",
        {
            f"vecstore {dtype}": lambda _, dtype=dtype, one=one: (dtype, one.gather(rows, out=out))
            for dtype, (one, _) in stored.items()
        },
        check=closeness(stored, store.gather(rows)),
    )
    info["stored"] = {
        dtype: {
            "disk": sum(file.stat().st_size for file in one.path.iterdir()),
            "vectors": sum(file["size"] for name, file in one.metadata.files.items() if name in VECTORS),
            **asdict(errors),
        }
        for dtype, (one, errors) in stored.items()
    }


def test_matrix_by_type(contest, store, stored, word_index):
    contest(
        "storage type, matrix",
        f"{SIZE:,} keys",
        {
            f"vecstore {dtype}": lambda _, dtype=dtype, one=one: (dtype, one.matrix(word_index).vectors)
            for dtype, (one, _) in stored.items()
        },
        check=closeness(stored, store.matrix(word_index).vectors),
    )


def test_embed_by_type(contest, store, stored):
    shares = np.cumsum(1 / (np.arange(len(store)) + 2.7))
    drawn = np.searchsorted(shares, np.random.default_rng(0).random(TEXTS * TOKENS) * shares[-1])
    batch = KeyBatch.from_offsets(*store.keys.batch.take(drawn).packed())
    tokens = vecstore.Tokens(batch, np.arange(0, TEXTS * TOKENS + 1, TOKENS))
    contest(
        "storage type, embed",
        f"mean, {TEXTS:,} texts of {TOKENS} tokens",
        {
            f"vecstore {dtype}": lambda _, dtype=dtype, one=one: (dtype, one.embed(tokens))
            for dtype, (one, _) in stored.items()
        },
        check=closeness(stored, store.embed(tokens)),
        tokens=len(batch),
    )
