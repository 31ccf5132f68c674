"""Open a store: `vecstore.open` against gensim's mapped load, on all rows and on a hundredth of them."""

import mmap

import numpy as np
import pytest

import vecstore


@pytest.fixture(scope="module", params=["1/100 of the rows", "all rows"])
def opened(request, store, kv_path, kv, source, folder):
    if request.param == "all rows":
        return request.param, store, kv_path
    from gensim.models import KeyedVectors

    limit = len(store) // 100
    vecstore.convert(source, folder / "small.vecstore", limit=limit)
    small = KeyedVectors(store.dim)
    small.add_vectors(kv.index_to_key[:limit], kv.vectors[:limit])
    small.save(str(folder / "small.kv"), sep_limit=0)
    return request.param, vecstore.open(folder / "small.vecstore"), folder / "small.kv"


def _map_files(folder):
    """Map the same files, and look at nothing."""
    maps = []
    for path in folder.glob("*.npy"):
        with path.open("rb") as file:
            maps.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return maps


def test_open(contest, opened):
    from gensim.models import KeyedVectors

    case, store, kv_path = opened

    def check(answer):
        assert len(answer) == len(store)
        np.testing.assert_array_equal(answer[store.keys[-1]], store.vectors[-1])

    contest(
        "open",
        case,
        {
            "vecstore": lambda _: vecstore.open(store.path),
            "gensim, mapped .kv": lambda _: KeyedVectors.load(str(kv_path), mmap="r"),
        },
        check=check,
        limits={"mmap of the same files": lambda _: _map_files(store.path)},
        headline=case == "all rows",
    )
