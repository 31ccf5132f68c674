import warnings

import numpy as np
import pyarrow as pa
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from vecstore import tokenizer
from vecstore.counts import count
from vecstore.encoding import encode, encode_ragged
from vecstore.errors import VocabularyError
from vecstore.tokenizer import Tokenizer
from vecstore.tokens import Tokens

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of TensorFlow's own imports
    import keras
    from keras.src.legacy.preprocessing.text import Tokenizer as KerasTokenizer
    from keras.utils import pad_sequences

TEXTS = ["the nice, nice day", "", "The day of Größe", None, "a the the the the the"]
WORDS = {"the": 1, "nice": 2, "day": 3, "größe": 4}
sides = st.sampled_from(["pre", "post"])
texts = st.lists(st.text(st.sampled_from("abcdABΣ\u03c3 é!\n"), max_size=12), min_size=1)


def fitted(given_texts, **options):
    keras_tokenizer = KerasTokenizer(**options)
    keras_tokenizer.fit_on_texts([text or "" for text in given_texts])
    return keras_tokenizer


@given(
    texts,
    texts,
    st.none() | st.integers(0, 6),
    st.sampled_from([None, "[UNK]", "a", "b"]),
    st.none() | st.integers(1, 5),
    sides,
    sides,
    st.integers(-3, 3),
)
def test_ids_are_those_of_keras(corpus, given_texts, num_words, oov_token, length, padding, truncating, value):
    oracle = fitted(corpus, num_words=num_words, oov_token=oov_token)
    sequences = oracle.texts_to_sequences(given_texts)
    rows = pad_sequences(sequences, length, padding=padding, truncating=truncating, value=value)
    options = {"length": length, "padding": padding, "truncating": truncating, "value": value}
    limits = {"num_words": num_words, "oov_token": oov_token}
    for found in (
        encode(given_texts, oracle.word_index, **options, **limits),
        encode(given_texts, oracle, **options),
        encode(Tokens.of([reference.cut(text, oracle.filters, True, " ") for text in given_texts]), oracle, **options),
    ):
        np.testing.assert_array_equal(found, rows)
        assert (found.dtype, found.shape) == (np.int32, rows.shape)
    assert encode_ragged(given_texts, oracle.word_index, **limits).to_pylist() == sequences
    width = rows.shape[1]
    np.testing.assert_array_equal(found, np.array(reference.pad(sequences, width, padding, truncating, value), int))


@pytest.mark.parametrize("threads", ["1", "2", "5"])
@pytest.mark.parametrize("length", [None, 4])
def test_threads_and_pieces_make_no_difference(threads, length, monkeypatch):
    monkeypatch.setenv("VECSTORE_NUM_THREADS", threads)
    monkeypatch.setattr(tokenizer, "_PIECE_BYTES", 100)
    monkeypatch.setattr(tokenizer, "_BLOCK_BYTES", 5000)
    rng = np.random.default_rng(0)
    documents = [" ".join(f"w{i}é" for i in rng.integers(0, 3000, size)) for size in rng.integers(0, 30, 3000)]
    oracle = fitted(documents[:1000])
    expected = pad_sequences(oracle.texts_to_sequences(documents), length)
    np.testing.assert_array_equal(encode(documents, oracle.word_index, length=length), expected)
    np.testing.assert_array_equal(encode(pa.array(documents), oracle.word_index, length=length), expected)


def test_a_word_that_is_out_of_vocabulary_is_left_out_or_has_the_row_of_the_oov_token():
    assert encode_ragged(TEXTS, WORDS).to_pylist() == [[1, 2, 2, 3], [], [1, 3, 4], [], [1] * 5]
    words = {"?": 7, **WORDS}
    assert encode_ragged(["the ? of"], words).to_pylist() == [[1]]
    assert encode_ragged(["the x of"], words, oov_token="?").to_pylist() == [[1, 7, 7]]
    assert encode_ragged(["the größe x"], words, oov_token="?", num_words=4).to_pylist() == [[1, 7, 7]]
    assert encode_ragged(["the größe x"], words, num_words=4).to_pylist() == [[1]]


def test_keys_in_row_order_have_the_row_of_what_is_unknown():
    keys = ["", "[UNK]", "the", "day"]
    assert encode_ragged(["the x day"], keys).to_pylist() == [[2, 1, 3]]
    assert encode_ragged(["the x day"], keys, oov_token="[UNK]").to_pylist() == [[2, 1, 3]]
    assert encode_ragged(["the x day"], ["the", "day"]).to_pylist() == [[0, 1]]
    assert encode_ragged(["the the"], ["the", "day", "the"]).to_pylist() == [[0, 0]]


def test_ids_of_a_layer_are_those_it_gives_itself():
    layer = keras.layers.TextVectorization()
    layer.adapt(["the nice day", "the größe"])
    given_texts = ["the x day nice", "Nice größe"]
    expected = np.asarray(layer(given_texts))
    np.testing.assert_array_equal(encode(given_texts, layer, padding="post"), expected)


def test_empty_tokens_and_special_names_are_keys_of_a_mapping():
    tokens = Tokens.of([["", "[UNK]", "a"]])
    assert encode_ragged(tokens, {"": 0, "[UNK]": 1, "a": 2}).to_pylist() == [[0, 1, 2]]


def test_ids_of_counts_are_those_of_their_word_index():
    counts = count(TEXTS)
    assert encode(TEXTS, counts.word_index()).tolist() == encode(TEXTS, ["", *counts.vocabulary()]).tolist()


@pytest.mark.parametrize("given_texts", [[], [""], [None, "!"]])
def test_texts_without_tokens_have_empty_rows(given_texts):
    assert encode(given_texts, WORDS).shape == (len(given_texts), 0)
    assert encode(given_texts, WORDS, length=3, value=9).tolist() == [[9, 9, 9]] * len(given_texts)
    assert encode_ragged(given_texts, WORDS).to_pylist() == [[]] * len(given_texts)


def test_an_empty_vocabulary_knows_nothing():
    assert encode(TEXTS, {}, length=1).tolist() == [[0]] * len(TEXTS)


def test_ragged_ids_are_lists_of_int32():
    array = encode_ragged(TEXTS, WORDS)
    assert array.type == pa.list_(pa.int32())
    array.validate(full=True)


def test_a_tokenizer_says_how_texts_are_cut():
    assert encode(["the,day"], WORDS, tokenizer=Tokenizer(filters="")).shape == (1, 0)
    assert encode(["the,day"], WORDS, tokenizer=Tokenizer(analyzer=lambda text: text.split(","))).tolist() == [[1, 3]]


def test_keys_without_utf8_are_found_nowhere():
    assert encode_ragged(["the x"], {"\ud800": 5, "the": 6}).to_pylist() == [[6]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding": "left"}, "padding: expected 'pre' or 'post', found 'left'"),
        ({"truncating": None}, "truncating: expected 'pre' or 'post', found None"),
        ({"length": 0}, "length: expected a number of 1 or more, or None, found 0"),
        ({"length": True}, "length: expected a number of 1 or more, or None, found True"),
        ({"length": 2.0}, r"length: expected a number of 1 or more, or None, found 2\.0"),
        ({"value": 2**31}, "value: expected an int32, found 2147483648"),
        ({"value": 0.5}, r"value: expected an int32, found 0\.5"),
        ({"num_words": -1}, "num_words: expected a number of 0 or more, or None, found -1"),
        ({"oov_token": 3}, "oov_token: expected str or None, found 3"),
        ({"oov_token": "?"}, r"oov_token: expected a key of the vocabulary, found '\?'"),
    ],
)
def test_a_choice_that_is_none_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        encode(TEXTS, WORDS, **options)


def test_rows_beyond_int32_are_an_error():
    with pytest.raises(VocabularyError, match=r"expected rows below 2\*\*31, found 2147483648"):
        encode(TEXTS, {"a": 2**31})


def test_documents_that_are_tokenised_are_no_texts():
    with pytest.raises(TypeError, match=r"text 0: expected str, found list; Tokens\.of takes tokens"):
        encode([["a"]], WORDS)
