"""20,000 random rows with a cold page cache: a store opened and gathered from, against a mapped `vectors.npy`.

Nobody else has the store mapped, its files are synced and dropped from the cache before each contestant, and
the system is asked whether they are gone.
"""

import ctypes
import mmap
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from contest import agree

import vecstore

ROWS = 20_000
READERS = 8


@pytest.fixture
def cold(store, crew, folder):
    """Return a copy of the store and a function that drops it from the page cache."""
    crew.dismiss()
    path = folder / "cold.vecstore"
    shutil.copytree(store.path, path)

    def evict():
        for file in path.iterdir():
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            assert _resident(descriptor) < 0.01, f"{file} is still in the page cache"
            os.close(descriptor)

    yield path, evict
    shutil.rmtree(path)


def _resident(descriptor):
    """Return the share of a file's pages that lie in the page cache."""
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as mapped:
        array = np.frombuffer(mapped, np.uint8)
        states = np.empty(-(-len(array) // mmap.PAGESIZE), np.uint8)
        arguments = [ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(len(array))]
        assert ctypes.CDLL(None).mincore(*arguments, ctypes.c_void_p(states.ctypes.data)) == 0
        del array
    return (states & 1).mean()


def test_cold(contest, cold, store):
    path, evict = cold
    rows = np.random.default_rng(0).integers(0, len(store), ROWS)
    expected = store.vectors[rows]
    width = store.vectors[:1].nbytes
    start = np.load(path / "vectors.npy", mmap_mode="r").offset
    out = np.zeros_like(expected)

    def by_pread(_):
        descriptor = os.open(path / "vectors.npy", os.O_RDONLY)

        def read(part):
            for i in part:
                os.preadv(descriptor, [memoryview(out[i])], start + width * int(rows[i]))

        with ThreadPoolExecutor(READERS) as pool:
            list(pool.map(read, np.array_split(np.argsort(rows), READERS)))
        os.close(descriptor)

    contest(
        "gather, cold page cache",
        f"{ROWS:,} rows, from open",
        {
            "vecstore": lambda _: vecstore.open(path).gather(rows),
            'np.load(mmap_mode="r")[rows]': lambda _: np.load(path / "vectors.npy", mmap_mode="r")[rows],
        },
        check=agree(expected),
        limits={f"pread in row order, {READERS} threads": by_pread},
        prepare=evict,
        rounds=7,
        headline=True,
        targets={'np.load(mmap_mode="r")[rows]': 5},
    )
