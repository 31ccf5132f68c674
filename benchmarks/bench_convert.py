"""Source to store: `vecstore.convert` against the peers that read the same file, `cp`, and isal's decompression alone.

vecstore returns when the store is on disk (fsync); the peers and a plain `cp` when it is in the page cache. Before each
of them the results of the one before are removed and all that is dirty is written out. Each converts in a new process,
where its package is imported before the clock starts.
"""

import os
import shutil
import subprocess

import numpy as np
import pytest
from contest import Measured, UnitVectors, agree
from crew import Worker
from isal import igzip, igzip_threaded

import vecstore

TITLES = {"vecstore": "vecstore", "gensim": "gensim load, save", "finalfusion": None, "snakefusion": None}
_BLOCK = 1 << 22


@pytest.fixture
def check(store, folder):
    """Return a function that compares a result with the session's store, on some rows."""
    rows = np.random.default_rng(0).integers(0, len(store), 1000)

    def check(made):
        name, path = made
        if name == "vecstore":
            converted = vecstore.open(path)
            assert converted.shape == store.shape
            assert [converted.keys[row] for row in rows] == [store.keys[row] for row in rows]
            np.testing.assert_array_equal(converted.vectors[rows], store.vectors[rows])
            return
        worker = Worker(name)
        worker.ask("open", path=path, key=store.keys[-1], answer=folder / "answer.npy")
        worker.end()
        count, *vector = np.load(folder / "answer.npy")
        assert count == len(store)
        answer = np.array(vector, np.float32)
        agree(store.vectors[-1])(UnitVectors(answer) if worker.unit else answer)

    return check


def by(name, source):
    """Return a contestant: a peer that makes its own format of the source, in a process of its own."""

    def run(out):
        worker = Worker(name)
        seconds = worker.ask("prepare", source=source, target=out / "made")["seconds"]
        worker.end()
        return Measured(seconds, (name, out / "made"))

    return run


def test_convert(contest, crew, prepare, check, source, run_python):
    crew.dismiss()

    def cp(out):
        subprocess.run(["cp", source, out / "copy"], check=True)

    def cp_and_sync(out):
        cp(out)
        with open(out / "copy", "rb") as file:
            os.fsync(file.fileno())

    info = contest(
        "convert",
        ".bin",
        {title or name: by(name, source) for name, title in TITLES.items() if crew.has(name)},
        check=check,
        limits={"cp": cp, "cp, fsync": cp_and_sync},
        prepare=prepare,
        rounds=5,
        patience=30,
        least=1,
        rehearse=False,
        headline=True,
        targets={"gensim load, save": 8, "cp, fsync": 1.3},
    )
    script = "import sys, vecstore; vecstore.convert(sys.argv[1], sys.argv[2])"
    info["memory"] = {"vecstore, at its peak": run_python("-c", script, source, prepare() / "made.vecstore", peak=True)}
    info["memory_targets"] = {"vecstore, at its peak": 250e6}


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
        {"vecstore": by("vecstore", path)},
        check=check,
        limits={"decompress alone": decompress},
        prepare=prepare,
        rounds=5,
        patience=60,
        least=2,
        rehearse=False,
        headline=True,
        targets={"decompress alone": 1.2},
    )
    path.unlink()
