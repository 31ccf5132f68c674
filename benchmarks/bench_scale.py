"""Stores of 30 thousand to 30 million keys: what finding a key takes, and what making the store takes, per key."""

import time

import numpy as np
import pytest
from contest import Measured
from datasets import numbered_keys

import vecstore

SIZES = [30_000, 300_000, 3_000_000, 30_000_000]
UNTIMED_SIZES = SIZES[:2]
DIM = 4
SAMPLE = 100_000


def convert(size, path):
    """Make a store; return seconds per key."""
    vectors = np.zeros((size, DIM), np.float32)
    vectors[:, 0] = np.arange(size) % 1000
    source = numbered_keys(np.arange(size)), vectors
    start = time.perf_counter()
    vecstore.convert(source, path)
    return (time.perf_counter() - start) / size


@pytest.fixture(scope="module")
def sizes(request):
    """Return the sizes of the stores: all of them where time is taken."""
    return UNTIMED_SIZES if request.config.getoption("benchmark_disable") else SIZES


@pytest.fixture(scope="module")
def stores(crew, sizes, folder):
    """Make a store of each size."""
    crew.dismiss()
    for size in sizes:
        convert(size, folder / f"{size}.vecstore")
    return {size: vecstore.open(folder / f"{size}.vecstore") for size in sizes}


def test_find_by_size(contest, stores):
    rng = np.random.default_rng(0)
    rows = {size: rng.integers(0, size, SAMPLE) for size in stores}
    batches = {size: numbered_keys(rows[size]) for size in stores}
    found = {}

    def find(size):
        def run(_):
            start = time.perf_counter()
            found[size] = stores[size].find(batches[size])
            return Measured((time.perf_counter() - start) / SAMPLE, size)

        return run

    contest(
        "find a key, by size of the store",
        f"{SAMPLE:,} random keys, Arrow large_string, per key",
        {f"{size:,} keys": find(size) for size in stores},
        check=lambda size: np.testing.assert_array_equal(found[size], rows[size]),
        calls=SAMPLE,
        growth={f"{SIZES[-1]:,} keys": 3},
    )


def test_convert_by_size(contest, sizes, prepare):
    def make(size):
        return lambda out: Measured(convert(size, out / "made.vecstore"), (size, out / "made.vecstore"))

    def check(answer):
        size, path = answer
        rows = np.random.default_rng(0).integers(0, size, 1000)
        np.testing.assert_array_equal(vecstore.open(path).find(numbered_keys(rows)), rows)

    contest(
        "make a store, by its size",
        f"vectors of width {DIM} in memory, per key",
        {f"{size:,} keys": make(size) for size in sizes[1:]},
        check=check,
        prepare=prepare,
        rounds=3,
        rehearse=False,
        growth={f"{SIZES[-1]:,} keys": 1.5},
    )
