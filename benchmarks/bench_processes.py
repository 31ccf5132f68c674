"""Eight processes at once: each opens the same files and gathers 100,000 rows; the time until the last is done.

Memory is what a process has to itself, beyond its result and beyond a bare interpreter's.
"""

import numpy as np
import pytest
from contest import Measured
from crew import Worker

PROCESSES = 8
UNTIMED_PROCESSES = 2
ROWS = 100_000


class Batch:
    """A contestant: all processes of one peer, which have imported its package when they start."""

    def __init__(self, name, path, rows, processes):
        self.name, self.path, self.rows, self.processes = name, path, rows, processes
        self.memory = []

    def __call__(self, _):
        """Start them, set them going, and wait for the last."""
        workers = [Worker(self.name) for _ in range(self.processes)]
        for worker in workers:
            worker.tell("hold", path=self.path, rows=self.rows)
        answers = [worker.answer() for worker in workers]
        for worker in workers:
            worker.end()
        self.memory = [max(answer["anonymous"], answer["private dirty"]) - answer["result"] for answer in answers]
        return Measured(max(answer["seconds"] for answer in answers))


@pytest.fixture
def batches(crew, store, folder, benchmark):
    """Return the contestants; nobody else is at work."""
    np.save(folder / "rows.npy", np.random.default_rng(0).integers(0, len(store), ROWS))
    crew.dismiss()
    processes = PROCESSES if benchmark.enabled else UNTIMED_PROCESSES
    return {
        title: Batch(name, crew.format_of(name), folder / "rows.npy", processes)
        for title, name in {"vecstore": "vecstore", "gensim, mapped .kv": "gensim"}.items()
    }


def test_processes(contest, batches, run_python):
    info = contest(
        f"{PROCESSES} processes at once",
        f"open, gather {ROWS:,} rows each",
        batches,
        check=lambda _: None,  # the tables of gather check it
        rounds=3,
        least=2,
        headline=True,
        targets={"gensim, mapped .kv": 5},
    )
    bare = run_python("-c", "")
    info["memory"] = {}
    for title, batch in batches.items():
        own = [memory - bare for memory in batch.memory]
        info["memory"][f"{title}, most of any process"] = max(own)
        info["memory"][f"{title}, all {PROCESSES} together"] = sum(own)
    info["memory_note"] = "Private memory beyond the result and a bare interpreter's"
    info["memory_targets"] = {"vecstore, most of any process": 20e6}
