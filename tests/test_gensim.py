import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest

import vecstore

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from gensim.models import KeyedVectors

    from vecstore.gensim import to_keyed_vectors


@pytest.fixture(scope="module")
def ours(glove) -> KeyedVectors:
    return glove.to_gensim()


@pytest.fixture(scope="module")
def theirs(glove_folder: Path) -> KeyedVectors:
    return KeyedVectors.load_word2vec_format(str(glove_folder / "glove.bin"), binary=True)


def test_keys_and_vectors_are_those_of_the_store(small_path, small_keys, small_vectors):
    with vecstore.open(small_path) as store:
        keyed = store.to_gensim()
    assert type(keyed) is KeyedVectors
    assert (len(keyed), keyed.vector_size) == small_vectors.shape
    assert keyed.index_to_key == small_keys
    assert keyed.key_to_index == {key: row for row, key in enumerate(small_keys)}
    for row, key in enumerate(small_keys):
        assert key in keyed
        np.testing.assert_array_equal(keyed[key], small_vectors[row], strict=True)
        np.testing.assert_array_equal(keyed[row], small_vectors[row], strict=True)
    np.testing.assert_array_equal(keyed[small_keys], small_vectors, strict=True)
    assert "absent" not in keyed
    with pytest.raises(KeyError, match="Key 'absent' not present"):
        keyed["absent"]


def test_vectors_are_shared_with_the_mapped_file(glove, ours):
    assert np.shares_memory(ours.vectors, glove.vectors)
    assert np.shares_memory(ours["nice"], glove.vectors)
    assert not ours.vectors.flags.writeable


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
def test_vectors_of_other_types_are_widened(tmp_path, glove_keys, glove_vectors, dtype):
    vecstore.convert((glove_keys[:1000], glove_vectors[:1000]), tmp_path / "store", dtype=dtype)
    store = vecstore.open(tmp_path / "store")
    keyed = store.to_gensim()
    assert keyed.vectors.dtype == np.float32
    assert keyed.vectors.tobytes() == store.gather(np.arange(1000)).tobytes()
    assert keyed["the"].tobytes() == store["the"].tobytes()
    assert keyed.most_similar("the", topn=3)


def test_calls_agree_with_gensims_own_object(ours, theirs):
    assert ours.index_to_key == theirs.index_to_key
    np.testing.assert_array_equal(ours.vectors, theirs.vectors, strict=True)
    for name, arguments in {
        "most_similar": (["king", "woman"], ["man"]),
        "similar_by_word": ("nice",),
        "similarity": ("nice", "great"),
        "n_similarity": (["nice", "great"], ["bad"]),
        "distance": ("nice", "great"),
        "distances": ("nice", ["great", "bad"]),
        "doesnt_match": (["breakfast", "cereal", "dinner", "bicycle"],),
        "rank": ("nice", "great"),
        "closer_than": ("nice", "great"),
        "most_similar_to_given": ("nice", ["great", "bicycle"]),
        "get_index": ("nice",),
        "has_index_for": ("nice",),
        "get_mean_vector": (["nice", "great"],),
        "get_vector": ("nice", True),
    }.items():
        found, expected = getattr(ours, name)(*arguments), getattr(theirs, name)(*arguments)
        np.testing.assert_equal(found, expected, err_msg=name)
    assert np.linalg.norm(ours.get_vector("nice", norm=True)) == pytest.approx(1)


@pytest.mark.parametrize("mmap", [None, "r"])
def test_saved_it_is_loaded_by_gensim(ours, tmp_path, mmap):
    ours.save(str(tmp_path / "vectors.kv"))
    loaded = KeyedVectors.load(str(tmp_path / "vectors.kv"), mmap=mmap)
    assert loaded.index_to_key == ours.index_to_key
    np.testing.assert_array_equal(loaded.vectors, ours.vectors, strict=True)
    assert loaded.most_similar("nice") == ours.most_similar("nice")


def test_a_pickle_needs_no_store(store, small_vectors):
    loaded = pickle.loads(pickle.dumps(store.to_gensim()))
    np.testing.assert_array_equal(loaded.vectors, small_vectors, strict=True)


def test_keys_can_be_added_to_a_copy(store, small_keys, small_vectors):
    keyed = store.to_gensim()
    keyed.add_vectors(["new"], np.ones((1, 3), np.float32))
    assert keyed.index_to_key == [*small_keys, "new"]
    np.testing.assert_array_equal(keyed["new"], np.ones(3, np.float32))
    np.testing.assert_array_equal(store.vectors, small_vectors)
    keyed.unit_normalize_all()
    np.testing.assert_array_equal(store.vectors, small_vectors)


def test_the_store_cannot_be_changed_through_it(store, small_vectors):
    with pytest.raises(ValueError, match="read-only"):
        store.to_gensim().unit_normalize_all()
    np.testing.assert_array_equal(store.vectors, small_vectors)


def test_it_outlives_the_store(small_path, small_vectors):
    with vecstore.open(small_path) as store:
        keyed = store.to_gensim()
    np.testing.assert_array_equal(keyed.vectors, small_vectors)
    with pytest.raises(ValueError, match="the store was closed"):
        store.to_gensim()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["a"], "expected 2 distinct keys for as many vectors, found 1 keys, 1 of them distinct"),
        (["a", "b", "c"], "expected 2 distinct keys for as many vectors, found 3 keys"),
        (["a", "a"], "found 2 keys, 1 of them distinct"),
    ],
)
def test_keys_must_be_distinct_and_fit(keys, message):
    with pytest.raises(ValueError, match=message):
        to_keyed_vectors(keys, np.zeros((2, 3), np.float32))


WITHOUT_GENSIM = """
import sys
sys.modules["gensim"] = None
import vecstore
try:
    vecstore.open(sys.argv[1]).to_gensim()
except ModuleNotFoundError as error:
    print(error.name)
"""


def test_a_missing_gensim_is_named(run_python, small_path):
    assert run_python(WITHOUT_GENSIM, small_path).split(".")[0].strip() == "gensim"
