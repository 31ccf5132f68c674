"""Open what was prepared: everyone, on all rows and on 30,000 of them."""

import itertools
import mmap

import pytest
from contest import agree
from crew import HALVES, Worker

import vecstore
from vecstore.formats.writers import write_word2vec

SMALL = 30_000
PEERS = ["vecstore", "gensim", "spacy", "reach", "finalfusion", "snakefusion", "lmdb"]


def _map_files(folder):
    """Map the same files, and look at nothing."""
    maps = []
    for path in folder.glob("*.npy"):
        with path.open("rb") as file:
            maps.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return maps


@pytest.fixture(scope="module")
def small(store, crew, folder):
    """Return the formats of a small store, by peer."""
    folder = folder / "small"
    folder.mkdir()
    write_word2vec(folder / "small.bin", list(itertools.islice(store.keys, SMALL)), store.vectors[:SMALL])
    vecstore.convert(folder / "small.bin", folder / "store")
    crew = type(crew)(folder, folder / "small.bin", folder / "store", complete=crew.complete)
    return {name: crew.format_of(name) for name in PEERS if crew.has(name)}


@pytest.mark.parametrize("case", ["30,000 rows", "all rows"])
@pytest.mark.parametrize("peers", HALVES, ids="-".join)
def test_open(contest, crew, store, small, folder, peers, case):
    whole = case == "all rows"
    names = [name for name in peers if name in small]
    paths = {name: crew.format_of(name) if whole else small[name] for name in names}
    last = (len(store) if whole else SMALL) - 1
    key = store.keys[last]
    crew.dismiss()
    crew.warm(names)
    workers = {name: Worker(name) for name in names}
    # Closed each time, as all of them would not leave room for the page cache.
    contest(
        "open",
        case,
        {worker.title: worker.task("open", path=paths[name], key=key, close=True) for name, worker in workers.items()},
        check=lambda answer: agree(store.vectors[last])(_last(answer, last)),
        limits={"mmap of the same files": lambda _: _map_files(paths["vecstore"])},
        prepare=lambda: folder,
        headline=whole,
        targets={"gensim": 500, "finalfusion": 500, "snakefusion": 100} if whole else None,
        within=1e-3,
    )
    for worker in workers.values():
        worker.end()


def _last(answer, last):
    """Check the number of keys in an answer; return the vector."""
    vector = answer.vectors if isinstance(answer, tuple) else answer
    assert vector[0] == last + 1
    return type(answer)(vector[1:]) if isinstance(answer, tuple) else vector[1:]
