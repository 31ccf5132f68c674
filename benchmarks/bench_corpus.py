"""From raw text to ids: count the tokens of a corpus, rank them, and encode the corpus; with Keras's ways to do it.

The text is drawn from GloVe's words as Zipf's law has it, and each text's first word is capitalised. Where words are of
ASCII letters alone, Keras's two ways agree on what a token is; `TextVectorization` does not lower-case others, so that
those stand where nothing is capitalised.
"""

import os
import warnings

import numpy as np
import pytest

import vecstore
from vecstore.demo import glove_6b_50d

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of TensorFlow's own imports
    import keras
    from keras.src.legacy.preprocessing.text import Tokenizer
    from keras.utils import pad_sequences

DATA = {"name": "Text of GloVe's words"}
TEXTS = 20_000
TOKENS = 200
LENGTH = 100
WORDS = 50_000
UNTIMED_TEXTS = 200
OTHERS = 3  # words that are not ASCII in a text that has such


def by_vecstore(texts):
    index = vecstore.count(texts).word_index()
    return index, vecstore.encode(texts, index, length=LENGTH, padding="post", truncating="post")


def by_tokenizer(texts):
    tokenizer = Tokenizer()
    tokenizer.fit_on_texts(texts)
    sequences = tokenizer.texts_to_sequences(texts)
    return tokenizer.word_index, pad_sequences(sequences, LENGTH, padding="post", truncating="post")


def by_layer(texts):
    layer = keras.layers.TextVectorization(output_sequence_length=LENGTH)
    layer.adapt(texts)
    ids = np.asarray(layer(texts))
    return {key: row for row, key in enumerate(layer.get_vocabulary())}, ids


def same_words(expected):
    """Return a check: ids stand for the expected words, whatever number each has, and 0 for none."""

    def check(answer):
        index, ids = answer
        words = np.zeros(max(index.values()) + 1, object)
        words[list(index.values())] = list(index)
        words[0] = ""
        np.testing.assert_array_equal(words[ids], expected)

    return check


@pytest.fixture(scope="module")
def documents(pytestconfig):
    """Return a function that makes texts, of which a share has words that are not ASCII, and their words."""
    count = UNTIMED_TEXTS if pytestconfig.getoption("benchmark_disable") else TEXTS
    keys = [key for key in glove_6b_50d()[0] if key.isalpha() and key == key.lower()]
    ascii_keys = np.array([key for key in keys if key.isascii()][:WORDS], object)
    other_keys = np.array([key for key in keys if not key.isascii()], object)
    chances = 1 / np.arange(1, len(ascii_keys) + 1)

    def make(share):
        rng = np.random.default_rng(0)
        words = ascii_keys[rng.choice(len(ascii_keys), (count, TOKENS), p=chances / chances.sum())]
        mixed = rng.random(count) < share
        words[mixed, 1 : 1 + OTHERS] = rng.choice(other_keys, (int(mixed.sum()), OTHERS))
        texts = [f"{first.capitalize()} {', '.join(rest)}." for first, *rest in words.tolist()]
        return texts, words[:, :LENGTH]

    return make


@pytest.mark.parametrize(("share", "factor"), [(0, 20), (0.1, 10)], ids=["ascii", "mixed"])
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
def test_corpus(contest, documents, share, factor):
    texts, words = documents(share)
    contest(
        "corpus to ids",
        f"{TEXTS:,} texts of {TOKENS} of GloVe's words, {share:.0%} not ASCII",
        {
            "vecstore": lambda _: by_vecstore(texts),
            "Keras Tokenizer, pad_sequences": lambda _: by_tokenizer(texts),
            "Keras TextVectorization": lambda _: by_layer(texts),
        },
        check=same_words(words),
        headline=True,
        tokens=len(texts) * TOKENS,
        targets={"Keras Tokenizer, pad_sequences": factor, "Keras TextVectorization": 8},
    )
