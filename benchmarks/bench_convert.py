"""Source to store: `vecstore.convert` against gensim and `cp`, and of gzip against isal's decompression alone.

vecstore returns when the store is on disk (fsync); gensim and a plain `cp` when it is in the page cache. Before each of
them the results of the one before are removed and all that is dirty is written out.
"""

import os
import shutil
import subprocess

import numpy as np
import pytest
from isal import igzip, igzip_threaded

import vecstore

ROUNDS = 5
_BLOCK = 1 << 22


@pytest.fixture
def check(store):
    """Return a function that compares a result with the session's store, on some rows."""
    rows = np.random.default_rng(0).integers(0, len(store), 1000)

    def check(path):
        if path.suffix == ".kv":
            from gensim.models import KeyedVectors

            kv = KeyedVectors.load(str(path), mmap="r")
            keys, vectors = kv.index_to_key, kv.vectors
        else:
            made = vecstore.open(path)
            keys, vectors = made.keys, made.vectors
        assert vectors.shape == store.shape
        assert [keys[row] for row in rows] == [store.keys[row] for row in rows]
        np.testing.assert_array_equal(vectors[rows], store.vectors[rows])

    return check


def test_convert(contest, prepare, check, source, run_python):
    from gensim.models import KeyedVectors

    def by_vecstore(out):
        return vecstore.convert(source, out / "made.vecstore").path

    def by_gensim(out):
        KeyedVectors.load_word2vec_format(str(source), binary=True).save(str(out / "made.kv"))
        return out / "made.kv"

    def cp(out):
        subprocess.run(["cp", source, out / "copy"], check=True)

    def cp_and_sync(out):
        cp(out)
        with open(out / "copy", "rb") as file:
            os.fsync(file.fileno())

    info = contest(
        "convert",
        ".bin",
        {"vecstore": by_vecstore, "gensim load, save": by_gensim},
        check=check,
        limits={"cp": cp, "cp, fsync": cp_and_sync},
        prepare=prepare,
        rounds=ROUNDS,
        headline=True,
    )
    script = "import sys, vecstore; vecstore.convert(sys.argv[1], sys.argv[2])"
    info["memory"] = {"vecstore, at its peak": run_python("-c", script, source, prepare() / "made.vecstore", peak=True)}


def test_convert_gzip(contest, prepare, check, source, folder):
    path = folder / "source.bin.gz"
    with source.open("rb") as plain, igzip.open(path, "wb", compresslevel=1) as packed:
        shutil.copyfileobj(plain, packed, _BLOCK)

    def decompress(_):
        buffer = bytearray(_BLOCK)
        with igzip_threaded.open(path, "rb") as file:
            while file.readinto(buffer):
                pass

    contest(
        "convert",
        ".bin.gz",
        {"vecstore": lambda out: vecstore.convert(path, out / "made.vecstore").path},
        check=check,
        limits={"decompress alone": decompress},
        prepare=prepare,
        rounds=ROUNDS,
        headline=True,
    )
    path.unlink()
