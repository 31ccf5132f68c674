"""The command that embeds files: two workers against one, and a hundred times the texts in the same memory.

Texts of GloVe's words, as Zipf's law has it, from Parquet to a folder of Parquet. Time counts from the start of the
command to its end. A worker has one thread, alone or not.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from contest import Measured

import vecstore
from vecstore.demo import glove_6b_50d

DATA = {"name": "Text of GloVe's words"}
TEXTS = 5_000_000
TOKENS = 50
SIZES = [100_000, 1_000_000, 10_000_000]
SHORT = 10  # tokens of the texts that there are so many of
UNTIMED_TEXTS, UNTIMED_SIZES = 2_000, [1_000, 2_000]
WORDS = 50_000
REPEATED = 100_000  # texts that are different; longer files repeat them
WORKERS = 2


@pytest.fixture(scope="module")
def words():
    return np.array([key for key in glove_6b_50d()[0][:WORDS] if key.isalpha()], object)


@pytest.fixture(scope="module")
def glove(folder):
    """Convert GloVe: these tables have their own store, whatever the others have."""
    keys, vectors = glove_6b_50d()
    vecstore.convert((keys, vectors), folder / "jobs.vecstore")
    return vecstore.open(folder / "jobs.vecstore")


def write_texts(path, words, count, tokens):
    """Write a Parquet file of texts; return the distinct ones."""
    chances = 1 / np.arange(1, len(words) + 1)
    drawn = np.random.default_rng(0).choice(len(words), (min(count, REPEATED), tokens), p=chances / chances.sum())
    texts = pa.array([" ".join(text) for text in words[drawn].tolist()])
    with pq.ParquetWriter(path, pa.schema([("text", pa.string())])) as writer:
        for start in range(0, count, REPEATED):
            writer.write_table(pa.table({"text": texts[: count - start]}))
    return texts


class Command:
    """A contestant: ``vecstore embed`` with so many workers of one thread each."""

    def __init__(self, store, source, workers, share=1):
        self.arguments = ["embed", store.path, source, "--workers", str(workers), "--out"]
        self.environment = {**os.environ, "VECSTORE_NUM_THREADS": str(workers)}
        self.share = share
        self.memory = {}

    def __call__(self, target):
        """Embed into `target`, and note the most anonymous memory of the command and of any worker."""
        start = time.perf_counter()
        command = [sys.executable, "-m", "vecstore", *map(str, self.arguments), str(target)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=self.environment) as process:
            while process.poll() is None:
                for name, size in anonymous(process.pid).items():
                    self.memory[name] = max(self.memory.get(name, 0), size)
                time.sleep(0.01)
        assert process.returncode == 0
        return Measured((time.perf_counter() - start) / self.share, target)


def anonymous(process):
    """Return the anonymous memory of a process, and the most of any process that it has started."""
    children = Path(f"/proc/{process}/task/{process}/children")
    try:
        started = children.read_text().split() if children.exists() else []
    except OSError:
        started = []
    return {"command": _anonymous(process), "worker": max(map(_anonymous, started), default=0)}


def _anonymous(process):
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


def check(expected, count):
    """Return the check that a folder has the expected vectors, again and again."""

    def compare(target):
        vectors = pq.read_table(target, columns=["vector"])["vector"]
        assert len(vectors) == count
        for start in range(0, count, REPEATED):
            part = vectors.slice(start, REPEATED).combine_chunks().flatten().to_numpy().reshape(-1, expected.shape[1])
            np.testing.assert_array_equal(part, expected[: len(part)])

    return compare


@pytest.fixture
def empty(folder):
    """Return a function that gives the name of a folder that is not there."""

    def prepare():
        shutil.rmtree(folder / "embedded", ignore_errors=True)
        return folder / "embedded"

    yield prepare
    prepare()


def test_workers(contest, glove, words, folder, empty, benchmark):
    count = TEXTS if benchmark.enabled else UNTIMED_TEXTS
    texts = write_texts(folder / "texts.parquet", words, count, TOKENS)
    both, one = (Command(glove, folder / "texts.parquet", workers) for workers in (WORKERS, 1))
    info = contest(
        "embed files",
        f"{TEXTS:,} texts of {TOKENS} tokens, Parquet to Parquet, from the start of the command",
        {f"{WORKERS} workers": both, "1 worker": one},
        check=check(glove.embed(texts), count),
        prepare=empty,
        rounds=3,
        least=3,
        tokens=count * TOKENS,
        targets={"1 worker": 1.8},
    )
    info["memory"] = {f"{WORKERS} workers, most of either": both.memory["worker"], "command": both.memory["command"]}
    info["memory_note"] = "Anonymous memory"
    info["memory_targets"] = {f"{WORKERS} workers, most of either": 150e6}


def test_memory_by_size(contest, glove, words, folder, empty, benchmark):
    sizes = SIZES if benchmark.enabled else UNTIMED_SIZES
    commands = {}
    for size in sizes:
        path = folder / f"{size}.parquet"
        texts = write_texts(path, words, size, SHORT)
        commands[f"{size:,} texts"] = Command(glove, path, WORKERS, share=size)
    expected = glove.embed(texts)

    def compare(target):
        check(expected, pq.ParquetDataset(target).read(columns=["text"]).num_rows)(target)

    info = contest(
        "embed files, by their size",
        f"texts of {SHORT} tokens, Parquet to Parquet, {WORKERS} workers, per text",
        commands,
        check=compare,
        prepare=empty,
        rounds=2,
        least=2,
        rehearse=False,
        growth={f"{SIZES[-1]:,} texts": 1.1},
    )
    info["memory"] = {f"{name}, most of a worker": command.memory["worker"] for name, command in commands.items()}
    info["memory"] |= {f"{name}, the command": command.memory["command"] for name, command in commands.items()}
    info["memory_note"] = "Anonymous memory"
    info["memory_targets"] = {f"{SIZES[-1]:,} texts, most of a worker": 150e6}
    for size in sizes:
        (folder / f"{size}.parquet").unlink()
