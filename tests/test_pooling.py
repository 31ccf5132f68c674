import os
import re
import shutil
import tracemalloc
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
import reference
from gensim.models import KeyedVectors

import vecstore
from vecstore import pooling, tokenizer
from vecstore.index import new_memo
from vecstore.kernels.paging import ask_for_rows
from vecstore.keys import KeyBatch
from vecstore.threads import split

NAMES = ["mean", "sum", "max", "first"]
TYPES = ["float32", "float16", "bfloat16", "int8"]


def tokens_of(texts):
    """Return lists of keys as tokens."""
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)
    return vecstore.Tokens(KeyBatch.of([key for text in texts for key in text]), offsets)


def random_texts(keys, n, seed=0, longest=40):
    """Draw lists of keys, a tenth of which no store has; some are empty, and some have no known key."""
    rng = np.random.default_rng(seed)
    texts = [[keys[row] for row in rng.integers(0, len(keys), rng.integers(0, longest))] for _ in range(n)]
    return [["qwertzuiop"] * 3 if i % 13 == 5 else [k if rng.random() > 0.1 else "~oov" for k in text]
            for i, text in enumerate(texts)]  # fmt: skip


def expected_of(store, texts, name, **given):
    rows = store.find([key for text in texts for key in text])
    return reference.pool(np.asarray(store.stored_vectors), rows, tokens_of(texts).offsets, name, **given)


@pytest.fixture(scope="module", params=TYPES)
def typed(request, small_keys, small_vectors, tmp_path_factory):
    """Open the small vectors stored as each type."""
    path = tmp_path_factory.mktemp("typed") / "store"
    vecstore.convert((small_keys, small_vectors), path, dtype=request.param)
    with vecstore.open(path) as store:
        yield store


@pytest.fixture(scope="module")
def glove_texts(glove_keys):
    return random_texts(glove_keys[:30_000], 500)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("normalize", [False, True])
def test_embed_agrees_with_a_loop_on_every_storage_type(typed, small_keys, name, normalize):
    texts = random_texts(small_keys, 60)
    vectors, counts = typed.embed(tokens_of(texts), pooling=name, normalize=normalize, return_counts=True)
    expected, known = expected_of(typed, texts, name, normalize=normalize)
    np.testing.assert_array_equal(vectors, expected)
    assert counts.tolist() == known
    assert vectors.dtype == np.float32
    assert counts.dtype == np.int64


def test_weights_multiply_and_known_tokens_divide(typed, small_keys):
    texts = random_texts(small_keys, 60)
    weights = np.random.default_rng(3).random(len(typed)).astype(np.float32)
    expected, _ = expected_of(typed, texts, "mean", weights=weights)
    np.testing.assert_array_equal(typed.embed(tokens_of(texts), pooling=weights), expected)
    np.testing.assert_array_equal(
        typed.embed(tokens_of(texts), pooling=np.full(len(typed), 2)), 2 * typed.embed(tokens_of(texts))
    )


def test_embed_agrees_with_gensim(glove, glove_keys, glove_vectors, glove_texts):
    model = KeyedVectors(50)
    model.add_vectors(glove_keys[:30_000], glove_vectors[:30_000])
    vectors, counts = glove.embed(tokens_of(glove_texts), return_counts=True)
    for text, vector, count in zip(glove_texts, vectors, counts.tolist(), strict=True):
        assert count == sum(key in model for key in text)
        if count:
            np.testing.assert_allclose(vector, model.get_mean_vector(text, pre_normalize=False), rtol=0, atol=1e-6)
        else:
            assert not vector.any()


def test_text_without_known_tokens_is_zeros_and_counted(store):
    vectors, counts = store.embed(tokens_of([["nice", "nice"], [], ["~"]]), normalize=True, return_counts=True)
    assert counts.tolist() == [2, 0, 0]
    assert not vectors[1:].any()
    np.testing.assert_allclose(np.linalg.norm(vectors[0]), 1, rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_embed_of_nothing(store, name):
    assert store.embed(tokens_of([]), pooling=name).shape == (0, 3)
    vectors, counts = store.embed(tokens_of([[], [], []]), pooling=name, return_counts=True)
    assert vectors.tolist() == [[0, 0, 0]] * 3
    assert counts.tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("piece", [1, 7, 4096])
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("cut", [False, True])
def test_bits_depend_on_neither_threads_nor_pieces(glove, glove_texts, monkeypatch, name, piece, threads, cut):
    texts = [[], [], *glove_texts[:40], ["nice", "great"] * 500, [], *glove_texts[40:50], []]
    expected, known = expected_of(glove, texts, name)
    taken = []
    monkeypatch.setenv("VECSTORE_NUM_THREADS", str(threads))
    monkeypatch.setattr(tokenizer, "_PIECE_TOKENS", piece)
    monkeypatch.setattr(tokenizer, "_PIECE_BYTES", piece)
    monkeypatch.setattr(tokenizer, "_TAKEN", 20)
    monkeypatch.setattr(pooling, "_MEMORABLE", 5)
    monkeypatch.setattr(tokenizer, "split", lambda work, n, grain: split(
        lambda start, stop: (taken.append(start), work(start, stop)), n, grain))  # fmt: skip
    given = {"texts": tokens_of(texts)} if cut else {
        "texts": ["\0".join(text) for text in texts],
        "tokenizer": vecstore.Tokenizer(filters="", lower=False, split="\0"),
    }  # fmt: skip
    vectors, counts = glove.embed(**given, pooling=name, return_counts=True)
    np.testing.assert_array_equal(vectors, expected)
    assert counts.tolist() == known
    assert len(taken) == threads


def test_bits_of_a_text_do_not_depend_on_its_neighbours(glove, glove_texts):
    together = glove.embed(tokens_of(glove_texts))
    alone = np.concatenate([glove.embed(tokens_of([text])) for text in glove_texts])
    assert together.tobytes() == alone.tobytes()


def test_tokens_may_be_a_part_of_others(store):
    tokens = tokens_of([["a"], ["nice"], ["größe"], ["a"]]).part(1, 3)
    np.testing.assert_array_equal(store.embed(tokens), store[["nice", "größe"]])


def test_embed_writes_into_out(store):
    out = np.full((1, 3), np.nan, np.float32)
    assert store.embed(tokens_of([["nice"]]), out=out) is out
    np.testing.assert_array_equal(out[0], store["nice"])


def test_embed_asks_a_tokenizer(store):
    found = store.embed(["nice a", "größe"], tokenizer=vecstore.Tokenizer(analyzer=str.split))
    np.testing.assert_array_equal(found, store.embed(tokens_of([["nice", "a"], ["größe"]])))


@pytest.mark.parametrize("make", [iter, tuple, np.array, pa.array, lambda texts: {text: None for text in texts}])
def test_embed_takes_texts_of_any_kind(store, make):
    texts = ["nice a", "größe", ""]
    np.testing.assert_array_equal(store.embed(make(texts)), store.embed(texts))


def test_texts_that_are_added_meanwhile_are_not_embedded(store, monkeypatch):
    texts = ["nice", "a"]
    ask = pooling.ask_ahead
    monkeypatch.setattr(pooling, "ask_ahead", lambda *args, **given: (texts.extend(["a"] * 10), ask(*args, **given)))
    monkeypatch.setattr(tokenizer, "_TAKEN", 1)
    np.testing.assert_array_equal(store.embed(texts), store[["nice", "a"]])


def test_embed_never_follows_a_damaged_row(small_path, tmp_path, small_keys):
    path = shutil.copytree(small_path, tmp_path / "damaged")
    slots = np.load(path / "index.npy")
    slots[slots != 0] |= np.uint64(0x7FFFFFFF)
    np.save(path / "index.npy", slots)
    with vecstore.open(path) as damaged:
        vectors, counts = damaged.embed(tokens_of([small_keys]), return_counts=True)
    assert not vectors.any()
    assert not counts.any()


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"pooling": "median"}, ValueError, "pooling: expected 'mean', 'sum', 'max', 'first' or an array of weights, "
                                            "found 'median'"),
        ({"pooling": None}, TypeError, "pooling: expected a name or an array of weights, found NoneType: None"),
        ({"pooling": np.array(["a"])}, TypeError, "pooling: expected a name or an array of weights, found ndarray"),
        ({"pooling": np.ones(3)}, ValueError, "pooling: expected a weight for each of 10 rows, found shape (3,)"),
        ({"out": np.zeros((2, 3), np.float32)}, ValueError, "out: expected float32 of shape (1, 3)"),
        ({"out": []}, TypeError, "out: expected a NumPy array, found list"),
    ],
)  # fmt: skip
def test_what_embed_does_not_take(store, given, error, text):
    with pytest.raises(error, match=re.escape(text)):
        store.embed(tokens_of([["nice"]]), **given)


def test_texts_are_cut_as_keras_cuts_them(store):
    np.testing.assert_array_equal(store.embed(["Nice, a!", None]), store.embed(tokens_of([["nice", "a"], []])))
    found = store.embed(pa.array(["Nice|a"]), tokenizer=vecstore.Tokenizer(lower=False, split="|"))
    np.testing.assert_array_equal(found, store.embed(tokens_of([["Nice", "a"]])))


def test_texts_that_are_cut_already_are_an_error(store):
    with pytest.raises(TypeError, match=r"text 0: expected str, found list; Tokens\.of takes tokens"):
        store.embed([["nice"]])


@pytest.mark.parametrize("pair", [False, True])
def test_sif_weights_follow_the_paper(store, small_keys, pair):
    counts = Counter({"nice": 30, "a": 9, "~oov": 61, "größe": 0})
    given = (np.array(list(counts), object), np.array(list(counts.values()))) if pair else counts
    expected = [0.01 / (0.01 + counts[key] / 100) for key in small_keys]
    found = store.sif_weights(given, a=0.01)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array(expected, np.float32))


def test_sif_weights_of_a_key_given_twice_add_up(store):
    found = store.sif_weights((["a", "nice", "a"], [1, 2, 1]))
    np.testing.assert_array_equal(found, store.sif_weights({"a": 2, "nice": 2}))


@pytest.mark.parametrize("counts", [{}, {"nice": 0}, ([], [])])
def test_sif_weights_without_counts_are_one(store, counts):
    assert store.sif_weights(counts).tolist() == [1] * len(store)


@pytest.mark.parametrize(
    ("counts", "a", "error", "text"),
    [
        ({"nice": -1}, 1e-3, ValueError, "counts: expected numbers that are not negative, nor infinite, nor NaN"),
        ({"nice": np.nan}, 1e-3, ValueError, "counts: expected numbers that are not negative, nor infinite, nor NaN"),
        ({"nice": "1"}, 1e-3, TypeError, "counts: expected a number for each key, found <U1 of shape (1,)"),
        ((["nice"], [1, 2]), 1e-3, ValueError, "counts: expected as many counts as keys, found 2 for 1"),
        ({"nice": 1}, 0, ValueError, "a: expected a positive number, found 0"),
        ({"nice": 1}, np.nan, ValueError, "a: expected a positive number, found nan"),
    ],
)
def test_what_sif_weights_do_not_take(store, counts, a, error, text):
    with pytest.raises(error, match=re.escape(text)):
        store.sif_weights(counts, a=a)


@pytest.mark.parametrize("cut", [False, True])
def test_memory_beside_the_result_does_not_grow_with_the_texts(glove, glove_keys, monkeypatch, cut):
    monkeypatch.setenv("VECSTORE_NUM_THREADS", "2")
    text = " ".join(key for key in glove_keys if key.isalpha() and key.isascii())[:6_000]
    texts = [text] * 10_000
    given = vecstore.Tokenizer().tokenize(texts) if cut else texts
    glove.embed(given)
    tracemalloc.start()
    try:
        glove.embed(given)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    result, list_of_texts = 4 * 50 * len(texts), 8 * len(texts)
    block = 0 if cut else tokenizer._TAKEN * len(text)
    # Two blocks may be in work while the next one is made. Each thread has a memo, and of a piece rows, tokens, bytes.
    piece = new_memo().nbytes + (8 << 16) + (0 if cut else 9 * 2 * (1 << 18))
    assert peak < result + list_of_texts + 3 * block + 2 * piece + (1 << 18) < len(text) * len(texts)


def test_embed_asks_for_rows_that_are_not_in_memory(tmp_path, monkeypatch):
    vectors = np.random.default_rng(0).standard_normal((40_000, 25), dtype=np.float32)
    vecstore.convert((map(str, range(len(vectors))), vectors), tmp_path / "store")
    texts = [[str(row) for row in text] for text in np.random.default_rng(1).integers(0, 45_000, (30, 100))]
    asked = []
    monkeypatch.setattr(
        "vecstore.gather.ask_for_rows", lambda *args: asked.append(args[2][slice(*args[-2:])]) or ask_for_rows(*args)
    )
    with (tmp_path / "store" / "vectors.npy").open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    with vecstore.open(tmp_path / "store") as store:
        np.testing.assert_array_equal(store.embed(tokens_of(texts)), expected_of(store, texts, "mean")[0])
        rows = store.find([key for text in texts for key in text])
    np.testing.assert_array_equal(np.concatenate(asked), np.unique(rows[rows >= 0]))
