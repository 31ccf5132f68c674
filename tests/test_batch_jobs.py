"""A store where batch jobs use it: under many threads, in every kind of process, in the loops of the frameworks."""

import multiprocessing
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from test_interruptions import NAMESPACE, may_mount

import vecstore

METHODS = multiprocessing.get_all_start_methods()
WORKERS, BATCHES, SIZE = 2, 12, 5_000


def batches(keys: list[str]) -> list[list[str]]:
    """Batches of keys, large enough for the thread pool, some out of vocabulary."""
    rng = np.random.default_rng(0)
    return [[keys[i] if i % 9 else f"{keys[i]}~" for i in rng.integers(0, len(keys), SIZE)] for _ in range(BATCHES)]


@pytest.fixture(scope="module")
def answers(glove_keys, glove_vectors) -> list[tuple[list[str], np.ndarray]]:
    return [
        (batch, reference.gather(glove_vectors, reference.find(glove_keys, batch), 0.0))
        for batch in batches(glove_keys)
    ]


def use_everything(store: vecstore.VectorStore, batch: list[str], expected: np.ndarray) -> bool:
    """Ask for the same vectors in every way there is."""
    found = expected.any(axis=1)
    word_index = {key: row for row, key in enumerate(dict.fromkeys(batch), start=1)}
    matrix = store.matrix(word_index).vectors
    return (
        np.array_equal(store.lookup(batch), expected)
        and np.array_equal(store.lookup(np.array(batch)), expected)
        and all((key in store) == there for key, there in zip(batch[:500], found[:500], strict=True))
        and all(
            np.array_equal(store.get(key, np.zeros(store.dim)), vector)
            for key, vector in zip(batch[:500], expected[:500], strict=True)
        )
        and np.array_equal(matrix[[word_index[key] for key in batch]], expected)
    )


def test_eight_threads_ask_in_every_way_at_once(glove, answers):
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use_everything, [glove] * 3 * BATCHES, *zip(*answers * 3, strict=True)))


class Worker:
    """What PyTorch's DataLoader runs in each of its processes: indices in, batches out, until there are no more."""

    def __init__(self, store: vecstore.VectorStore, keys: list[list[str]]) -> None:
        self.store, self.keys = store, keys

    def __call__(self, indices: Any, results: Any) -> None:
        while (i := indices.get()) is not None:
            results.put((i, self.store.lookup(self.keys[i])))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
def test_workers_of_a_loader_share_a_store(glove_folder, answers, method, used):
    context = multiprocessing.get_context(method)
    indices, results = context.Queue(), context.Queue()
    with vecstore.open(glove_folder / "glove.vecstore") as store:
        if used:
            store.lookup(answers[0][0])  # its pool has threads by now, which no forked worker has
        worker = Worker(store, [keys for keys, _ in answers])
        processes = [context.Process(target=worker, args=(indices, results), daemon=True) for _ in range(WORKERS)]
        for process in processes:
            process.start()
        for i in [*range(BATCHES), *[None] * WORKERS]:
            indices.put(i)
        found = dict(results.get(timeout=100) for _ in range(BATCHES))
        for process in processes:
            process.join(timeout=100)
    assert [process.exitcode for process in processes] == [0] * WORKERS
    for i, (_, expected) in enumerate(answers):
        np.testing.assert_array_equal(found[i], expected)


TF_DATA = """
import sys
import numpy as np
import tensorflow as tf
import vecstore
from test_batch_jobs import batches

store = vecstore.open(sys.argv[1])
keys = batches(list(store.keys))
texts = tf.data.Dataset.from_tensor_slices(tf.constant(keys))


def lookup(batch):
    vectors = tf.numpy_function(store.lookup, [batch], tf.float32)
    return tf.ensure_shape(vectors, (None, store.dim))


found = texts.map(lookup, num_parallel_calls=8).prefetch(2)
for _ in range(3):
    for batch, vectors in zip(keys, found, strict=True):
        assert np.array_equal(vectors, store.lookup(batch))
print(vectors.shape)
"""


def test_map_of_tf_data_looks_up_on_its_threads(glove, run_python):
    assert run_python(TF_DATA, glove.path) == f"({SIZE}, {glove.dim})\n"


LOOKUP = """
import sys
import numpy as np
import vecstore

store = vecstore.open(sys.argv[1])
keys = store.keys[:20_000]
assert store.find(keys).tolist() == list(range(20_000)) and keys[7] in store
assert np.array_equal(store.lookup(keys), store.vectors[:20_000])
assert np.array_equal(store.matrix(keys, oov="normal").vectors[7], store[keys[7]])
print("numba" in sys.modules)
"""

if may_mount():

    def test_store_answers_on_a_file_system_where_nothing_can_be_written(glove, tmp_path):
        package, home = tmp_path / "package", tmp_path / "home"
        shutil.copytree(
            Path(vecstore.__file__).parent, package / "vecstore", ignore=shutil.ignore_patterns("__pycache__")
        )
        shutil.copytree(glove.path, package / "glove.vecstore")
        home.mkdir()
        script = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && ! touch "$0/home/file" && exec "$@"'
        process = subprocess.run(
            [*NAMESPACE, "sh", "-c", script, tmp_path, sys.executable, "-c", LOOKUP, package / "glove.vecstore"],
            capture_output=True,
            text=True,
            timeout=100,
            cwd=package,
            env={**os.environ, "PYTHONPATH": str(package), "HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")},
        )
        assert process.returncode == 0, process.stderr
        assert process.stdout == "True\n"  # it compiled for itself
        assert not list(tmp_path.rglob("*.o"))


def test_processes_that_use_a_store_first_at_once_agree(glove, tmp_path, run_python):
    shutil.copytree(Path(vecstore.__file__).parent, tmp_path / "vecstore", ignore=shutil.ignore_patterns("__pycache__"))
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + LOOKUP
    with ThreadPoolExecutor(2) as pool:
        printed = list(pool.map(lambda _: run_python(script, glove.path), range(2)))
    assert printed == ["True\n"] * 2
    assert run_python(script, glove.path) == "False\n"
