"""A fresh process: from the start of python to its end, for a matrix of 20,000 keys and for the row of one key.

Memory is what a process has to itself at its end (RssAnon): the matrix is part of it, mapped files are not.
"""

import json

import numpy as np
import pytest

KEYS = 20_000
ROUNDS = 5

VECSTORE = """
import json, sys
import vecstore

word_index = json.load(open(sys.argv[2]))
matrix = vecstore.open(sys.argv[1]).matrix(word_index).vectors
"""
GENSIM = """
import json, sys
import numpy as np
from gensim.models import KeyedVectors

word_index = json.load(open(sys.argv[2]))
kv = KeyedVectors.{load}
matrix = np.zeros((len(word_index) + 1, kv.vector_size), np.float32)
for word, i in word_index.items():
    if word in kv:
        matrix[i] = kv[word]
"""
MAPPED = 'load(sys.argv[1], mmap="r")'
READ = "load_word2vec_format(sys.argv[1], binary=True)"
SAVE = """
if len(sys.argv) > 3:
    import numpy as np

    np.save(sys.argv[3], matrix)
"""
FIND = """
import sys
import vecstore

store = vecstore.open(sys.argv[1])
assert store.find([sys.argv[2]])[0] == int(sys.argv[3])
"""
KEY_TO_INDEX = """
import sys
from gensim.models import KeyedVectors

kv = KeyedVectors.load(sys.argv[1], mmap="r")
assert kv.key_to_index[sys.argv[2]] == int(sys.argv[3])
"""


@pytest.fixture
def vocabulary(fresh, folder):
    """Return key -> row, and the file that holds it."""
    word_index = {key: row for row, key in enumerate(fresh()[:KEYS], start=1)}
    path = folder / "word_index.json"
    path.write_text(json.dumps(word_index))
    return word_index, path


@pytest.fixture
def contestant(folder, run_python):
    """Return a function that makes a contestant of a script, and the dict that gets its memory."""
    memory = {}

    def make(name, script, *arguments):
        def run(_):
            # The first run is the one that is checked, and none of the others saves its matrix.
            saved = [] if name in memory else [folder / "matrix.npy"]
            memory[name] = run_python("-c", script, *arguments, *saved)
            return folder / "matrix.npy"

        return run

    return make, memory


def test_start_to_matrix(contest, contestant, vocabulary, store, source, kv_path, run_python):
    word_index, path = vocabulary
    expected = store.matrix(word_index).vectors
    make, memory = contestant
    mapped, read = "gensim, mapped .kv", "gensim load_word2vec_format"

    def check(saved):
        np.testing.assert_array_equal(np.load(saved), expected)
        saved.unlink()

    info = contest(
        "start of python",
        f"to the matrix of {KEYS:,} keys",
        {
            "vecstore": make("vecstore", VECSTORE + SAVE, store.path, path),
            mapped: make(mapped, GENSIM.format(load=MAPPED) + SAVE, kv_path, path),
            read: make(read, GENSIM.format(load=READ) + SAVE, source, path),
        },
        check=check,
        limits={"import numpy": lambda _: run_python("-c", "import numpy")},
        rounds=ROUNDS,
        headline=True,
    )
    info["memory"] = memory


def test_start_to_row(contest, contestant, store, kv_path, run_python):
    key = store.keys[len(store) // 2]
    make, memory = contestant
    info = contest(
        "start of python",
        "to the row of one key",
        {
            "vecstore": make("vecstore", FIND, store.path, key, len(store) // 2),
            "gensim, mapped .kv": make("gensim, mapped .kv", KEY_TO_INDEX, kv_path, key, len(store) // 2),
        },
        check=lambda _: None,  # the processes check it
        limits={"import numpy": lambda _: run_python("-c", "import numpy")},
        rounds=ROUNDS,
    )
    info["memory"] = memory
