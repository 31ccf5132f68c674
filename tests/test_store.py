import copy
import multiprocessing
import pickle
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import reference

import vecstore
from vecstore.errors import StoreError, VocabularyError

TEXT = ["the", "nice", "qwertzuiop", "größe", "nice", ""]


@pytest.fixture(scope="module")
def gensim_vectors(glove_folder):
    from gensim.models import KeyedVectors

    return KeyedVectors.load_word2vec_format(glove_folder / "glove.bin", binary=True)


def test_store_holds_what_gensim_reads_bit_for_bit(glove, gensim_vectors):
    assert len(glove) == len(gensim_vectors)
    assert list(glove.keys) == gensim_vectors.index_to_key
    assert glove.vectors.tobytes() == gensim_vectors.vectors.tobytes()


def test_lookup_and_find_agree_with_gensim(glove, gensim_vectors):
    keys = [*np.random.default_rng(0).choice(gensim_vectors.index_to_key, 1000).tolist(), "qwertzuiop", "größe"]
    rows = glove.find(keys)
    assert rows.tolist() == [gensim_vectors.get_index(key, -1) for key in keys]
    for key, row, vector in zip(keys, rows, glove.lookup(keys, oov=np.inf), strict=True):
        assert (key in glove) == (key in gensim_vectors) == (row >= 0)
        expected = gensim_vectors[key] if row >= 0 else np.full(50, np.inf, np.float32)
        assert vector.tobytes() == expected.tobytes()


def test_matrix_equals_the_usual_loop_over_gensim(glove, gensim_vectors):
    word_index = {key: row for row, key in enumerate([*gensim_vectors.index_to_key[5:20_000:7], "qwertzuiop"], 1)}
    expected = np.zeros((len(word_index) + 1, 50), np.float32)
    for key, row in word_index.items():
        if key in gensim_vectors:
            expected[row] = gensim_vectors[key]
    matrix = glove.matrix(word_index)
    assert matrix.vectors.tobytes() == expected.tobytes()
    assert matrix.missing == ["qwertzuiop"]


def test_find_agrees_with_a_dict_on_all_of_glove(glove, glove_keys):
    rows = np.random.default_rng(0).permutation(len(glove))
    keys = np.array(glove_keys, object)[rows]
    np.testing.assert_array_equal(glove.find(keys), rows)
    np.testing.assert_array_equal(glove.find([f"{key} " for key in keys[:1000]]), -1)


def test_mean_and_normal_have_the_moments_of_the_store(glove, glove_vectors):
    mean, deviation = glove_vectors.mean(axis=0, dtype=np.float64), glove_vectors.std(axis=0, dtype=np.float64)
    missing = [f"missing {i}" for i in range(20_000)]
    np.testing.assert_allclose(glove.matrix(missing[:1], oov="mean").vectors[0], mean, rtol=1e-5)
    drawn = glove.matrix(missing, oov="normal").vectors
    np.testing.assert_allclose((drawn.mean(axis=0) - mean) / deviation, 0, atol=0.04)
    np.testing.assert_allclose(drawn.std(axis=0) / deviation, 1, atol=0.04)


def test_store_describes_itself(store, small_path, small_keys, small_vectors):
    assert (len(store), store.dim, store.shape, store.dtype) == (len(small_keys), 3, (len(small_keys), 3), np.float32)
    assert store.path == small_path
    assert store.path.is_absolute()
    assert repr(store) == f"VectorStore({str(small_path)!r}: {len(small_keys)} x 3 float32)"
    assert store.metadata.source.name == "small.bin"
    assert store.metadata.rows == len(small_keys)


@pytest.fixture(params=["float16", "bfloat16", "int8"])
def narrow(request, tmp_path, small_keys, small_vectors) -> vecstore.VectorStore:
    """A store of a type that is not float32."""
    vecstore.convert((small_keys, small_vectors), tmp_path / "narrow", dtype=request.param)
    return vecstore.open(tmp_path / "narrow")


def test_every_way_to_a_vector_gives_float32(narrow, small_keys, small_vectors):
    n, d = small_vectors.shape
    whole = reference.widen(narrow.metadata.dtype, narrow.vectors, narrow.scales)
    np.testing.assert_allclose(whole, small_vectors, atol=0.02)
    assert (narrow.dtype, narrow.shape, narrow.dim, len(narrow)) == (np.float32, (n, d), d, n)
    out = np.empty((n, d), np.float32)
    ways = {
        "gather": narrow.gather(np.arange(n)),
        "out": narrow.gather(range(n), out=out),
        "lookup": narrow.lookup(small_keys),
        "batch": narrow[small_keys],
        "one": np.stack([narrow[key] for key in small_keys]),
        "get": np.stack([narrow.get(key) for key in small_keys]),
        "matrix": narrow.matrix(dict(zip(small_keys, range(n), strict=True))).vectors,
        "stored_vectors": narrow.stored_vectors[:],
        "pickled": pickle.loads(pickle.dumps(narrow)).gather(np.arange(n)),
    }
    for way, vectors in ways.items():
        assert vectors.dtype == np.float32, way
        assert vectors.tobytes() == whole.tobytes(), way
        assert vectors.flags.writeable, way
    double = narrow.matrix(small_keys[:2], dtype=np.float64).vectors
    np.testing.assert_array_equal(double, whole[:2].astype(np.float64), strict=True)


def test_stored_arrays_are_mapped_as_they_are(narrow):
    name = narrow.metadata.dtype
    assert narrow.vectors.dtype == {"float16": np.float16, "bfloat16": np.uint16, "int8": np.int8}[name]
    assert (narrow.scales is not None) == (name == "int8")
    for array in [narrow.vectors] + ([narrow.scales] if name == "int8" else []):
        assert not array.flags.writeable
    assert repr(narrow) == f"VectorStore({str(narrow.path)!r}: {len(narrow)} x 3 float32, stored as {name})"


def test_keys_that_are_missing_get_their_vectors_whatever_the_type(narrow):
    assert (narrow.lookup(["absent"], oov=7) == 7).all()
    mean = narrow.stored_vectors[:].mean(axis=0)
    np.testing.assert_allclose(narrow.matrix(["absent"], oov="mean").vectors[0], mean, rtol=1e-5)
    assert narrow.get("absent") is None
    with pytest.raises(KeyError):
        narrow["absent"]


def test_a_closed_store_has_no_scales(narrow):
    narrow.close()
    with pytest.raises(ValueError, match="the store was closed"):
        narrow.scales  # noqa: B018


def test_repr_groups_digits(glove):
    assert repr(glove).endswith("glove.vecstore': 400,000 x 50 float32)")


def test_vectors_are_a_read_only_view_of_the_file(store, small_vectors):
    np.testing.assert_array_equal(store.vectors, small_vectors)
    assert not store.vectors.flags.writeable
    assert store.vectors is store.vectors
    with pytest.raises(ValueError, match="read-only"):
        store.vectors[0] = 0
    with pytest.raises(ValueError, match="cannot set WRITEABLE"):
        store.vectors.setflags(write=True)


def test_files_are_plain_numpy_arrays(store, small_vectors):
    np.testing.assert_array_equal(np.load(store.path / "vectors.npy", mmap_mode="r"), small_vectors)


def test_keys_are_a_sequence(store, small_keys):
    assert isinstance(store.keys, Sequence)
    assert list(store.keys) == small_keys
    assert store.keys[1:3] == small_keys[1:3]
    assert store.keys[-1] == small_keys[-1]
    assert [store.keys.index(key) for key in small_keys] == list(range(len(small_keys)))


def test_store_answers_for_each_of_its_keys(store, small_keys, small_vectors):
    for key, vector in zip(small_keys, small_vectors, strict=True):
        for spelling in (key, key.encode(), np.str_(key)):
            assert spelling in store
            np.testing.assert_array_equal(store[spelling], vector)
            np.testing.assert_array_equal(store.get(spelling), vector)


@pytest.mark.parametrize("key", ["nic", "a\0", "\ud800", b"\xff", "great"], ids=repr)
def test_store_answers_for_a_key_that_it_lacks(store, key):
    assert key not in store
    assert store.get(key) is None
    assert store.get(key, 7) == 7
    with pytest.raises(KeyError) as error:
        store[key]
    assert error.value.args == (key,)


@pytest.mark.parametrize("key", [1, 5.0, None, ["nice"], ("nice",)], ids=repr)
def test_only_text_is_in_a_store(store, key):
    assert key not in store
    with pytest.raises(TypeError, match=f"expected str or bytes, found {type(key).__name__}"):
        store.get(key)


@pytest.mark.parametrize(
    "make",
    [
        list,
        tuple,
        iter,
        np.array,
        pa.array,
        pd.Series,
        lambda keys: dict.fromkeys(keys),
        lambda keys: [k.encode() for k in keys],
    ],
)
def test_item_of_a_batch_is_its_vectors(store, small_keys, small_vectors, make):
    np.testing.assert_array_equal(store[make(["größe", "nice", "a"])], small_vectors[[2, 1, 8]])


def test_item_of_an_empty_batch_is_empty(store):
    assert store[[]].shape == (0, 3)


def test_vectors_that_are_handed_out_are_copies(store):
    for vectors in (store["nice"], store.get("nice"), store[["nice"]], store.lookup(["nice"]), store.gather([1])):
        assert type(vectors) is np.ndarray
        assert vectors.flags.writeable
        assert not np.shares_memory(vectors, store.vectors)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["nice", "great"], "1 of 2 keys are out of vocabulary: 'great'"),
        (["great", None, b"best", "\ud800"], r"4 of 4 keys are out of vocabulary: 'great', None, b'best', '\ud800'"),
        ([*"bcdefghijklm"], f"12 of 12 keys are out of vocabulary: {', '.join(map(repr, 'bcdefghijk'))} and 2 more"),
        (pa.array(["nice", None, "great"]), "2 of 3 keys are out of vocabulary: None, 'great'"),
        (np.array(["great"]), "1 of 1 keys are out of vocabulary: 'great'"),
        ((key for key in ["great"]), "1 of 1 keys are out of vocabulary: 'great'"),
    ],
)
def test_item_of_a_batch_names_the_missing_keys(store, keys, message):
    with pytest.raises(KeyError) as error:
        store[keys]
    assert error.value.args == (message,)


@pytest.mark.parametrize("keys", [0, np.int64(0), slice(None), None, 1.5], ids=repr)
def test_item_refuses_what_is_no_key(store, keys):
    with pytest.raises(TypeError, match="expected a key or a batch of keys, found"):
        store[keys]


def test_find_gather_and_lookup_agree_with_reference(store, small_keys, small_vectors):
    rows = store.find(TEXT)
    np.testing.assert_array_equal(rows, reference.find(small_keys, TEXT))
    expected = reference.gather(small_vectors, rows, 0.5)
    np.testing.assert_array_equal(store.gather(rows, oov=0.5), expected)
    np.testing.assert_array_equal(store.lookup(TEXT, oov=0.5), expected)
    assert not store.lookup(TEXT)[rows < 0].any()


def test_gather_and_lookup_fill_out(store):
    out = np.empty((len(TEXT), 3), np.float32)
    assert store.lookup(TEXT, out=out) is out
    assert store.gather(store.find(TEXT), out=out) is out


@pytest.mark.parametrize("method", ["find", "lookup"])
def test_a_single_key_is_no_batch(store, method):
    with pytest.raises(TypeError, match="expected a batch of keys, found one str: 'nice'; put it into a list"):
        getattr(store, method)("nice")


@pytest.mark.parametrize("row", [-2, 10])
def test_gather_refuses_a_row_that_is_not_there(store, row):
    with pytest.raises(IndexError, match=f"expected -1 <= row < 10, found rows from {row} to {row}"):
        store.gather([row])


def test_matrix_passes_its_options_on(store, small_vectors):
    out = np.empty((3, 3), np.float64)
    matrix = store.matrix({"nice": 1, "great": 2}, oov="normal", seed=5, out=out, dtype=np.float64)
    assert matrix.vectors is out
    np.testing.assert_array_equal(out[1], small_vectors[1])
    np.testing.assert_array_equal(out, store.matrix({"nice": 1, "great": 2}, oov="normal", seed=5).vectors)
    with pytest.raises(VocabularyError, match="keys 'a' and 'b' share row 1"):
        store.matrix({"a": 1, "b": 1})


def test_matrix_of_the_tutorial(glove):
    from tensorflow.keras.preprocessing.text import Tokenizer

    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(["nice great best amazing", "stop lies", "pitiful nerd", "qwertzuiop"])
    matrix = glove.matrix(tokenizer.word_index, oov="zeros")
    assert matrix.vectors[tokenizer.word_index["nice"]].tobytes() == glove["nice"].tobytes()
    assert not matrix.vectors[0].any()
    assert repr(matrix) == "EmbeddingMatrix(10 x 50 float32: 8 of 9 keys found (88.9%); missing: 'qwertzuiop')"
    np.testing.assert_array_equal(glove.matrix(tokenizer).vectors, matrix.vectors)


def test_pickle_is_the_path_alone(glove):
    data = pickle.dumps(glove)
    assert len(data) < 1000
    np.testing.assert_array_equal(pickle.loads(data)["nice"], glove["nice"])


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_copy_is_open_when_the_store_is_closed(small_path, duplicate):
    with vecstore.open(small_path) as store:
        other = duplicate(store)
    np.testing.assert_array_equal(other.find(["nice"]), [1])


def test_pickle_of_a_store_that_is_gone_says_so(small_path, tmp_path):
    vecstore.convert(small_path.with_suffix(".bin"), tmp_path / "a.vecstore")
    data = pickle.dumps(vecstore.open(tmp_path / "a.vecstore"))
    (tmp_path / "a.vecstore").rename(tmp_path / "b.vecstore")
    with pytest.raises(FileNotFoundError, match=r"a\.vecstore: no such store"):
        pickle.loads(data)


@pytest.mark.parametrize(
    "use",
    [
        len,
        lambda store: "nice" in store,
        lambda store: store["nice"],
        lambda store: store[["nice"]],
        lambda store: store.get("nice"),
        lambda store: store.find([]),
        lambda store: store.gather([]),
        lambda store: store.lookup([]),
        lambda store: store.matrix({}),
        *(
            lambda store, name=name: getattr(store, name)
            for name in ("vectors", "keys", "metadata", "dim", "shape", "dtype")
        ),
    ],
)
def test_a_closed_store_says_so(store, use):
    store.close()
    with pytest.raises(ValueError, match=r"small\.vecstore: the store was closed"):
        use(store)


def test_closing_twice_is_fine(store):
    store.close()
    store.close()
    assert repr(store) == f"VectorStore({str(store.path)!r}, closed)"


def test_context_manager_closes(small_path, small_vectors):
    with vecstore.open(small_path) as store:
        vectors, keys = store.vectors, store.keys
    with pytest.raises(ValueError, match="the store was closed"):
        len(store)
    np.testing.assert_array_equal(vectors, small_vectors)
    np.testing.assert_array_equal(keys.find(["nice"]), [1])


def test_open_takes_str_and_relative_paths(small_path, monkeypatch):
    monkeypatch.chdir(small_path.parent)
    assert vecstore.open("small.vecstore").path == vecstore.open(str(small_path)).path == small_path


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("nothing", FileNotFoundError, "nothing: no such store"),
        ("folder", StoreError, r"folder: not a store: it holds no metadata\.json"),
        ("file", StoreError, "file: not a store but a file; make one with: vecstore convert"),
    ],
)
def test_open_refuses_what_is_no_store(tmp_path, name, error, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(error, match=message):
        vecstore.open(tmp_path / name)


def test_eight_threads_look_up_at_once(glove):
    keys = [[*glove.keys[i * 20_000 : (i + 1) * 20_000], "qwertzuiop"] for i in range(8)]

    def agrees(i):
        rows = np.append(np.arange(i * 20_000, (i + 1) * 20_000), -1)
        same = (
            np.array_equal(glove.find(keys[i]), rows)
            and glove[keys[i][5]].tobytes() == glove.vectors[rows[5]].tobytes()
        )
        return same and np.array_equal(glove.lookup(keys[i])[:-1], glove.vectors[rows[:-1]])

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(agrees, list(range(8)) * 4))


FIRST_USE = """
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import vecstore
store = vecstore.open(sys.argv[1])
with ThreadPoolExecutor(8) as pool:
    rows = list(pool.map(lambda i: store.find(["the", "nice"]).tolist() + [store.keys.find_one("nice")], range(8)))
    normal = list(pool.map(lambda i: store.matrix(["qwertzuiop"], oov="normal").vectors.tobytes(), range(8)))
print(rows == [[0, 3082, 3082]] * 8, len(set(normal)))
"""


def test_eight_threads_use_a_store_for_the_first_time(glove, run_python):
    assert run_python(FIRST_USE, glove.path) == "True 1\n"


def answers(store):
    return store.find(["the", "nice"]).tolist(), store["nice"].tobytes(), pickle.dumps(store)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_store_travels_to_another_process_and_back(glove, method):
    with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
        assert pool.submit(answers, glove).result() == answers(glove)


FORKED = """
import os, signal, sys
import vecstore
store = vecstore.open(sys.argv[1])
if {used}:
    store["nice"]
child = os.fork()
if not child:
    signal.alarm(30)
    os._exit(0 if store.find(["the", "nice"]).tolist() == [0, 3082] and store["nice"].any() else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), store.find(["nice"]))
"""


@pytest.mark.parametrize("used", [True, False])
def test_store_answers_after_fork(glove, run_python, used):
    assert run_python(FORKED.format(used=used), glove.path) == "0 [3082]\n"
