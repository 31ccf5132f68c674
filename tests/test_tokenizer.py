import pickle
import unicodedata
import warnings

import numpy as np
import pyarrow as pa
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from vecstore import tokenizer as module
from vecstore.texts import Texts
from vecstore.tokenizer import FILTERS, Tokenizer, each_piece
from vecstore.tokens import Tokens

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of TensorFlow's own imports
    from keras.src.legacy.preprocessing.text import Tokenizer as KerasTokenizer
    from keras.src.legacy.preprocessing.text import text_to_word_sequence

ODD = "Σ\u03c3ςİ\u0131ßẞÄéǅȺȾ\u2126\u212a\u212b\u0301\u0307\u00ad\u00a0\u200b\u2028\x00\x1c\x85\ufeff日\U0001d4b3🙂𐐀𐐨𞤀"
characters = st.sampled_from(ODD + "aAzZ iI'" + FILTERS) | st.characters(exclude_categories=["Cs"])
unicode = st.text(characters, max_size=20)
filters = st.just(FILTERS) | st.text(characters, max_size=5)
splits = st.just(" ") | st.text(characters, min_size=1, max_size=1) | st.text(st.sampled_from("a! "), min_size=2)


@given(st.lists(unicode), filters, st.booleans(), splits)
def test_tokens_are_those_of_keras(texts, filters, lower, split):
    tokens = Tokenizer(filters=filters, lower=lower, split=split).tokenize(texts).lists()
    assert tokens == [text_to_word_sequence(text, filters, lower, split) for text in texts]
    assert tokens == [reference.cut(text, filters, lower, split) for text in texts]


def test_every_character_is_cut_as_by_keras():
    texts = [f"a{chr(code)}B {chr(code)}" for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    assert Tokenizer().tokenize(texts).lists() == [text_to_word_sequence(text) for text in texts]


def test_no_character_but_sigma_is_lower_cased_by_its_neighbours():
    for code in range(0x110000):
        character = chr(code)
        if unicodedata.category(character) in ("Lu", "Lt") and character != "Σ":
            assert f"a{character} {character}a".lower() == f"a{character.lower()} {character.lower()}a"


def test_defaults_are_those_of_keras():
    keras, ours = KerasTokenizer(), Tokenizer()
    assert (ours.filters, ours.lower, ours.split) == (keras.filters, keras.lower, keras.split)


@pytest.mark.parametrize("threads", ["1", "3"])
@pytest.mark.parametrize("bytes_", [1, 50, 10_000])
def test_pieces_make_no_difference(threads, bytes_, monkeypatch):
    monkeypatch.setenv("VECSTORE_NUM_THREADS", threads)
    monkeypatch.setattr(module, "_PIECE_BYTES", bytes_)
    monkeypatch.setattr(module, "_BLOC\u004b_BYTES", 10 * bytes_)
    texts = [f"Text {i} {'Σας, İ' if i % 7 == 0 else ''} é" * (i % 5) for i in range(300)]
    expected = [text_to_word_sequence(text) for text in texts]
    for given_texts in texts, iter(texts), pa.array(texts), pa.chunked_array([texts[:99], texts[99:]]):
        assert Tokenizer().tokenize(given_texts).lists() == expected


@pytest.mark.parametrize("texts", [[], [""], ["", None, "!!"], pa.array([], pa.string())])
def test_texts_without_tokens_have_none(texts):
    tokens = Tokenizer().tokenize(texts)
    assert tokens.lists() == [[]] * len(texts)
    assert len(tokens.batch) == 0


def test_one_huge_text_is_cut():
    text = "Größe nice " * 200_000
    tokens = Tokenizer().tokenize([text])
    assert len(tokens.batch) == 400_000
    assert tokens.lists() == [text.lower().split()]


def test_analyzer_is_called_with_each_text_and_its_tokens_stay_as_they_are():
    def analyzer(text):
        return iter([text, "", "A b"])

    assert Tokenizer(analyzer=analyzer).tokenize(["X y", None]).lists() == [["X y", "", "A b"], ["", "", "A b"]]


def test_a_token_of_an_analyzer_that_is_none_is_an_error():
    with pytest.raises(TypeError, match="document 0, token 0: expected str, found int"):
        Tokenizer(analyzer=lambda text: [1]).tokenize(["a"])


@pytest.mark.parametrize(
    "bad", [b"\xff", b"a \xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80"]
)
def test_bytes_that_are_no_utf8_are_an_error(bad):
    with pytest.raises(ValueError, match="text 1: expected UTF-8, found byte 0x"):
        Tokenizer().tokenize(["a", bad])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"split": ""}, ValueError, "split: expected at least one character"),
        ({"split": None}, TypeError, "split: expected str, found NoneType"),
        ({"split": "\ud800"}, ValueError, "split: expected Unicode text, found a lone surrogate"),
        ({"filters": None}, TypeError, "filters: expected str, found NoneType"),
        ({"analyzer": "word"}, TypeError, "analyzer: expected a function, found str"),
    ],
)
def test_options_that_mean_nothing_are_errors(options, error, message):
    with pytest.raises(error, match=message):
        Tokenizer(**options)


def test_filters_that_no_text_holds_filter_nothing():
    assert Tokenizer(filters="\ud800").tokenize(["a!b c"]).lists() == [["a!b", "c"]]


def test_tokenizers_compare_hash_and_pickle():
    one = Tokenizer(filters="é", lower=False, split="|", analyzer=str.split)
    assert pickle.loads(pickle.dumps(one)) == one == Tokenizer(filters="é", lower=False, split="|", analyzer=str.split)
    assert len({one, Tokenizer(), Tokenizer(lower=True)}) == 2


def test_each_piece_gives_tokens_as_they_are(monkeypatch):
    monkeypatch.setattr(module, "_PIECE_TO\u004bENS", 3)
    documents = [["A!", "b"], [], ["c"] * 5, ["d"]]
    found = {}
    assert each_piece(Tokens.of(documents), Tokenizer(), found.__setitem__) == 4
    assert [document for first in sorted(found) for document in found[first].lists()] == documents
    assert len(found) > 1


def test_texts_that_share_bytes_are_cut_alone():
    data = np.frombuffer(b"abcdef gh", np.uint8)
    texts = Texts(data, np.array([1, 0, 4]), np.array([3, 9, 4]))
    assert Tokenizer().tokenize(texts).lists() == [["bc"], ["abcdef", "gh"], []]
