"""A fresh process: from the start of python to its end, for a matrix of 20,000 keys and for the vector of one key.

Memory is what a process has to itself at its end (RssAnon): the matrix is part of it, mapped files are not.
"""

import subprocess

import numpy as np
import pytest
from contest import UnitVectors, agree
from crew import HALVES, environment_of, python_of

KEYS = 20_000
MAPPED, READ = "gensim, mapped .kv", "gensim load_word2vec_format"


class Start:
    """A contestant that starts a process; the first one saves its answer."""

    def __init__(self, worker, path, keys, count):
        self.name, self.unit = worker.name, worker.unit
        self.arguments = [worker.name, path, keys, count]
        self.memory, self.answered = None, False

    def __call__(self, folder):
        """Run it, and return an answer the first time."""
        saved = folder / "answer.npy"
        command = [python_of(self.name), "-m", "peers.once", *self.arguments, *([] if self.answered else [saved])]
        command = [str(word) for word in command]
        run = subprocess.run(command, env=environment_of(self.name), stdout=subprocess.PIPE, check=True)
        self.memory = int(run.stdout)
        if self.answered:
            return None
        self.answered = True
        answer = np.load(saved)
        return UnitVectors(answer) if self.unit else answer


@pytest.mark.parametrize("count", [KEYS, 1])
@pytest.mark.parametrize("peers", HALVES, ids="-".join)
def test_start(contest, crew, store, known, known_path, source, folder, run_python, peers, count):
    workers = crew.hire(*peers)
    starts = {
        MAPPED if name == "gensim" else worker.title: Start(worker, crew.format_of(name), known_path, count)
        for name, worker in workers.items()
    }
    if count > 1 and "gensim" in workers:
        starts[READ] = Start(workers["gensim"], source, known_path, count)
    crew.dismiss()  # they would leave no room for the page cache
    rows = store.find(known[:count])
    expected = store.vectors[rows[0]]
    if count > 1:
        expected = np.concatenate([np.zeros((1, store.dim), np.float32), store.vectors[rows]])
    info = contest(
        "start of python",
        f"to the matrix of {count:,} keys" if count > 1 else "to the vector of one key",
        starts,
        check=agree(expected),
        limits={"import numpy": lambda _: run_python("-c", "import numpy")},
        prepare=lambda: folder,
        rounds=5,
        patience=20,
        least=1,
        headline=True,
        targets={MAPPED: 6, READ: 50} if count > 1 else {MAPPED: 6},
        within=0.4,
    )
    info["memory"] = {name: start.memory for name, start in starts.items()}
