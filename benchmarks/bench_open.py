"""Open what was prepared: everyone, on all rows and on 30,000 of them."""

import itertools
import mmap

import pytest
from contest import agree

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
def test_open(contest, crew, store, small, folder, case):
    whole = case == "all rows"
    workers = crew.hire(*PEERS)
    paths = {name: crew.format_of(name) if whole else small[name] for name in workers}
    last = (len(store) if whole else SMALL) - 1
    contest(
        "open",
        case,
        {worker.title: worker.task("open", path=paths[name], key=store.keys[last]) for name, worker in workers.items()},
        check=lambda answer: agree(store.vectors[last])(_last(answer, last)),
        limits={"mmap of the same files": lambda _: _map_files(paths["vecstore"])},
        prepare=lambda: folder,
        headline=whole,
        targets={"gensim": 500, "finalfusion": 500, "snakefusion": 100} if whole else None,
        within=1e-3,
    )
    if not whole:
        for name, worker in workers.items():
            worker.ask("open", path=crew.format_of(name))


def _last(answer, last):
    """Check the number of keys in an answer; return the vector."""
    vector = answer.vectors if isinstance(answer, tuple) else answer
    assert vector[0] == last + 1
    return type(answer)(vector[1:]) if isinstance(answer, tuple) else vector[1:]
