import re

import numpy as np
import pyarrow as pa
import pytest
from test_pooling import random_texts, tokens_of

from vecstore import sequences

TEXTS = [["nice", "a", "~oov", "größe", "nice"], [], ["~oov"], ["a", "nice"], ["größe"] * 3]


def padded(store, texts, length, padding, truncating):
    """Place the vectors of texts one by one."""
    out = np.zeros((len(texts), length, store.dim), np.float32)
    for i, text in enumerate(texts):
        kept = text[:length] if truncating == "post" else text[-length:]
        for j, key in enumerate(kept, start=0 if padding == "post" else length - len(kept)):
            out[i, j] = store.get(key, 0)
    return out


@pytest.mark.parametrize("length", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("padding", ["pre", "post"])
@pytest.mark.parametrize("truncating", ["pre", "post"])
@pytest.mark.parametrize("block", [1, 4, 1 << 16])
def test_sequences_agree_with_a_loop(store, small_keys, monkeypatch, length, padding, truncating, block):
    monkeypatch.setattr(sequences, "_BLOCK", block)
    texts = TEXTS + random_texts(small_keys, 30, longest=12)
    found = store.embed_sequence(tokens_of(texts), length, padding=padding, truncating=truncating)
    np.testing.assert_array_equal(found, padded(store, texts, length, padding, truncating))


def test_sequences_are_padded_as_keras_pads(glove):
    from keras.utils import pad_sequences

    texts = [["nice", "great"], ["bad"], ["stop", "lies", "nerd", "work"]]
    rows = pad_sequences([glove.find(text) for text in texts], 3, dtype="int64", value=-1)
    found = glove.embed_sequence(tokens_of(texts), 3)
    np.testing.assert_array_equal(found, glove.gather(rows.ravel()).reshape(3, 3, 50))


def test_sequences_of_nothing(store):
    assert store.embed_sequence(tokens_of([]), 4).shape == (0, 4, 3)
    assert not store.embed_sequence(tokens_of([[], []]), 4).any()


def test_sequences_are_written_into_out(store):
    out = np.full((5, 2, 3), np.nan, np.float32)
    assert store.embed_sequence(tokens_of(TEXTS), 2, out=out) is out
    np.testing.assert_array_equal(out, padded(store, TEXTS, 2, "pre", "pre"))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"length": 0}, "length: expected at least 1, found 0"),
        ({"length": 2, "padding": "left"}, "padding: expected 'pre' or 'post', found 'left'"),
        ({"length": 2, "truncating": None}, "truncating: expected 'pre' or 'post', found None"),
        ({"length": 2, "out": np.zeros((5, 3, 3), np.float32)}, "out: expected float32 of shape (5, 2, 3)"),
    ],
)
def test_what_sequences_do_not_take(store, given, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        store.embed_sequence(tokens_of(TEXTS), **given)


@pytest.mark.parametrize("texts", [TEXTS, [], [[], []]])
def test_ragged_lists_hold_the_vectors_of_each_text(store, texts):
    ragged = store.embed_ragged(tokens_of(texts))
    ragged.validate(full=True)
    assert ragged.type == pa.large_list(pa.list_(pa.float32(), 3))
    assert ragged.to_pylist() == [store.lookup(text).tolist() for text in texts]


def test_ragged_lists_may_be_of_a_part(store):
    tokens = tokens_of(TEXTS)
    part = tokens.part(1, 3)
    assert store.embed_ragged(part).to_pylist() == store.embed_ragged(tokens).to_pylist()[1:3]
    np.testing.assert_array_equal(store.embed_sequence(part, 2), padded(store, TEXTS[1:3], 2, "pre", "pre"))
