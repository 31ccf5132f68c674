import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from vecstore.errors import VocabularyError
from vecstore.index import KeyIndex
from vecstore.vocabulary import Vocabulary, read_keys, read_vocabulary

TEXTS = ["nice great best", "nice lies", "größe nice great"]


def parts(vocabulary):
    return vocabulary.keys, vocabulary.rows.tolist(), vocabulary.height, vocabulary.unknown


@pytest.fixture(scope="module")
def keras():
    import keras

    return keras


@pytest.fixture(scope="module")
def tokenizer(keras):
    from tensorflow.keras.preprocessing.text import Tokenizer

    def fit(**options):
        tokenizer = Tokenizer(**options)
        tokenizer.fit_on_texts(TEXTS)
        return tokenizer

    return fit


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ({}, ([], [], 0, {})),
        ({"nice": 0}, (["nice"], [0], 1, {})),
        ({"nice": 1, "great": 2}, (["nice", "great"], [1, 2], 3, {})),
        ({"nice": 7, "great": np.int32(3), b"best": np.uint64(5)}, (["nice", "great", b"best"], [7, 3, 5], 8, {})),
    ],
)
def test_mapping_gives_each_key_its_row(mapping, expected):
    assert parts(Vocabulary.of(mapping)) == expected


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"a": 1, "b": 2, "c": 1}, "keys 'a' and 'c' share row 1"),
        ({"a": -1}, "expected a row of 0 or more for key 'a', found -1"),
        ({"a": 1.0}, "expected an integer row for key 'a', found float 1.0"),
        ({"a": "1"}, "expected an integer row for key 'a', found str '1'"),
        ({"a": True}, "expected an integer row for key 'a', found bool True"),
        ({"a": None}, "expected an integer row for key 'a', found NoneType None"),
        ({1: "a"}, "expected a mapping from key to row, found int 1 for key 0"),
        ({"a": 0, None: 1}, "expected a mapping from key to row, found NoneType None for key 1"),
        ({"a": 2**62}, f"expected a row below 2\\*\\*62 for key 'a', found {2**62}"),
    ],
)
def test_mapping_that_is_no_vocabulary_is_refused(mapping, message):
    with pytest.raises(VocabularyError, match=message):
        Vocabulary.of(mapping)


@pytest.mark.parametrize(
    "make",
    [
        list,
        tuple,
        iter,
        np.array,
        lambda keys: np.array(keys, object),
        lambda keys: np.array(keys, np.dtypes.StringDType()),
        pa.array,
        lambda keys: pa.chunked_array([keys[:1], keys[1:]]),
        lambda keys: pa.array(keys).dictionary_encode(),
        pd.Series,
        pd.Index,
        lambda keys: pd.Series(keys, dtype="category"),
        pl.Series,
        lambda keys: pl.Series(keys, dtype=pl.Categorical),
        KeyIndex.build,
        lambda keys: dict.fromkeys(keys).keys(),
    ],
)
def test_sequence_gives_keys_rows_in_its_order(make):
    keys, rows, height, unknown = parts(Vocabulary.of(make(["nice", "größe", "great"])))
    assert (keys, rows, height, unknown) == (["nice", "größe", "great"], [0, 1, 2], 3, {})
    assert {type(key) for key in keys} == {str}


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ([], ([], [], 0, {})),
        (["", "nice"], (["nice"], [1], 2, {})),
        (["", "[UNK]", "nice"], (["nice"], [2], 3, {"[UNK]": [1]})),
        (["[UNK]", "nice"], (["nice"], [1], 2, {"[UNK]": [0]})),
        (["", "[UNK]", "[UNK]", "nice"], (["nice"], [3], 4, {"[UNK]": [1, 2]})),
        ([""], ([], [], 1, {})),
        (["[UNK]"], ([], [], 1, {"[UNK]": [0]})),
        (["nice", "", "[UNK]"], (["nice", "", "[UNK]"], [0, 1, 2], 3, {})),
        (["", "", "nice"], (["", "nice"], [1, 2], 3, {})),
    ],
)
def test_sequence_may_start_with_padding_and_unknown(keys, expected):
    assert parts(Vocabulary.of(keys)) == expected


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["a", None], "expected keys in row order, found NoneType None for key 1"),
        ([1], "expected keys in row order, found int 1 for key 0"),
        (pa.array(["a", None]), "expected keys in row order, found NoneType None for key 1"),
        (np.array([["a"]]), r"expected keys in row order, found list \['a'\] for key 0"),
        (pd.Series([1]), "expected keys in row order, found int 1 for key 0"),
    ],
)
def test_sequence_that_is_no_vocabulary_is_refused(keys, message):
    with pytest.raises(VocabularyError, match=message):
        Vocabulary.of(keys)


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        ("nice", "expected a vocabulary, found one str: 'nice'"),
        (b"nice", "expected a vocabulary, found one bytes: b'nice'"),
        (3, "expected a mapping key -> row, keys in row order or a Keras object, found int"),
        (None, "expected a mapping key -> row, keys in row order or a Keras object, found NoneType"),
        ({"nice", "great"}, "expected a mapping key -> row, keys in row order or a Keras object, found set"),
        (np.array("nice"), "expected a mapping key -> row, keys in row order or a Keras object, found ndarray"),
    ],
)
def test_other_objects_are_refused(vocabulary, message):
    with pytest.raises(TypeError, match=message):
        Vocabulary.of(vocabulary)


def test_vocabulary_of_a_vocabulary_is_itself():
    vocabulary = Vocabulary.of(["nice"])
    assert Vocabulary.of(vocabulary) is vocabulary


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (["nice", "great", "best", "lies", "größe"], [1, 2, 3, 4, 5], 6, {})),
        ({"num_words": 3}, (["nice", "great"], [1, 2], 3, {})),
        ({"num_words": 100}, (["nice", "great", "best", "lies", "größe"], [1, 2, 3, 4, 5], 6, {})),
        ({"oov_token": "?"}, (["nice", "great", "best", "lies", "größe"], [2, 3, 4, 5, 6], 7, {"?": [1]})),
        ({"oov_token": "?", "num_words": 3}, (["nice"], [2], 3, {"?": [1]})),
        ({"num_words": 0}, (["nice", "great", "best", "lies", "größe"], [1, 2, 3, 4, 5], 6, {})),
    ],
)
def test_tokenizer_gives_the_rows_that_its_texts_get(tokenizer, options, expected, tmp_path):
    fitted = tokenizer(**options)
    assert parts(Vocabulary.of(fitted)) == expected
    (tmp_path / "tokenizer.json").write_text(fitted.to_json())
    assert parts(read_vocabulary(tmp_path / "tokenizer.json")) == expected
    ids = {row for sequence in fitted.texts_to_sequences(TEXTS) for row in sequence}
    assert ids == {*expected[1], *(row for rows in expected[3].values() if options.get("num_words") for row in rows)}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (["nice", "great"], [1, 2], 3, {"[UNK]": [0]})),
        ({"mask_token": ""}, (["nice", "great"], [2, 3], 4, {"[UNK]": [1]})),
        ({"num_oov_indices": 0}, (["nice", "great"], [0, 1], 2, {})),
        ({"num_oov_indices": 0, "mask_token": ""}, (["nice", "great"], [1, 2], 3, {})),
        ({"num_oov_indices": 2}, (["nice", "great"], [2, 3], 4, {"[UNK]": [0, 1]})),
        ({"num_oov_indices": 2, "mask_token": "<pad>"}, (["nice", "great"], [3, 4], 5, {"[UNK]": [1, 2]})),
        ({"oov_token": "<unk>", "mask_token": "<pad>"}, (["nice", "great"], [2, 3], 4, {"<unk>": [1]})),
    ],
)
def test_string_lookup_gives_the_rows_that_it_looks_up(keras, options, expected):
    layer = keras.layers.StringLookup(vocabulary=["nice", "great"], **options)
    assert parts(Vocabulary.of(layer)) == expected
    assert layer(["nice", "great"]).numpy().tolist() == expected[1]
    if not {"mask_token", "oov_token"} & {name for name, text in options.items() if text in ("<pad>", "<unk>")}:
        assert parts(Vocabulary.of(layer.get_vocabulary())) == expected


def test_text_vectorization_gives_the_rows_that_its_texts_get(keras):
    layer = keras.layers.TextVectorization()
    layer.adapt(TEXTS)
    vocabulary = Vocabulary.of(layer)
    assert vocabulary.unknown == {"[UNK]": [1]}
    assert dict(zip(vocabulary.keys, vocabulary.rows.tolist(), strict=True)) == {
        key: layer([key]).numpy().item() for key in ["nice", "great", "lies", "größe", "best"]
    }
    assert parts(Vocabulary.of(layer.get_vocabulary())) == parts(vocabulary)
    assert {type(key) for key in vocabulary.keys} == {str}


@pytest.mark.parametrize(("layer", "height"), [("StringLookup", 1), ("TextVectorization", 2)])
def test_layer_that_has_seen_no_text_has_no_keys(keras, layer, height):
    assert parts(Vocabulary.of(getattr(keras.layers, layer)())) == ([], [], height, {"[UNK]": [height - 1]})


def test_integer_lookup_is_refused(keras):
    with pytest.raises(VocabularyError, match="expected keys in row order, found int -1 for key 0"):
        Vocabulary.of(keras.layers.IntegerLookup(vocabulary=[1, 2]))


def test_tokenizer_is_recognised_without_keras():
    tokenizer = SimpleNamespace(word_index={"?": 1, "nice": 2}, oov_token="?", num_words=None)
    assert parts(Vocabulary.of(tokenizer)) == (["nice"], [2], 3, {"?": [1]})


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("v.json", b'{"nice": 1, "gr\xc3\xb6\xc3\x9fe": 5}', (["nice", "größe"], [1, 5], 6, {})),
        ("v.json", b'["", "[UNK]", "nice"]', (["nice"], [2], 3, {"[UNK]": [1]})),
        ("v.json", b"\xef\xbb\xbf[]", ([], [], 0, {})),
        ("v.json", b'{"config": 1}', (["config"], [1], 2, {})),
        ("v.txt", b"", ([], [], 0, {})),
        ("v.txt", b"nice", (["nice"], [0], 1, {})),
        ("v.txt", b"nice\ngr\xc3\xb6\xc3\x9fe\n", (["nice", "größe"], [0, 1], 2, {})),
        ("v.txt", b"nice\r\ngreat\r\n", (["nice", "great"], [0, 1], 2, {})),
        ("v.txt", b"\xef\xbb\xbfnice\n", (["nice"], [0], 1, {})),
        ("v.txt", b"\n[UNK]\nnice\n", (["nice"], [2], 3, {"[UNK]": [1]})),
        ("v.txt", b"nice\n\ngreat\n", (["nice", "", "great"], [0, 1, 2], 3, {})),
        ("v.txt", "a\x85b\n\u2028\nc\td e\n".encode(), (["a\x85b", "\u2028", "c\td e"], [0, 1, 2], 3, {})),
        ("v", b'{"nice": 1}', (['{"nice": 1}'], [0], 1, {})),
    ],
)
def test_read_vocabulary_reads_json_and_text(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    assert parts(read_vocabulary(tmp_path / name)) == expected


def saved_tokenizer(**config):
    return json.dumps({"class_name": "Tokenizer", "config": {"word_index": '{"a": 1}', **config}}).encode()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("v.json", b"", "expected JSON: "),
        ("v.json", b"{", "expected JSON: "),
        ("v.json", b"[" * 100_000, "expected JSON: "),
        ("v.json", b"3", "expected an object or an array, found int"),
        ("v.json", b"null", "expected an object or an array, found NoneType"),
        ("v.json", b'{"a": 1.5}', "expected an integer row for key 'a', found float 1.5"),
        ("v.json", b'{"a": NaN}', "expected an integer row for key 'a', found float nan"),
        ("v.json", b'{"a": 1, "b": 1}', "keys 'a' and 'b' share row 1"),
        ("v.json", b"[1]", "expected keys in row order, found int 1 for key 0"),
        ("v.json", b"\xff", "expected UTF-8 text: "),
        ("v.txt", b"\xff", "expected UTF-8 text: "),
        ("v.json", saved_tokenizer(word_index="{"), "expected JSON: "),
        ("v.json", saved_tokenizer(word_index="[]"), "expected a mapping from key to row, found list"),
        ("v.json", saved_tokenizer(word_index="3"), "expected a mapping from key to row, found int"),
        ("v.json", saved_tokenizer(num_words="3"), "expected num_words to be a number, found '3'"),
        ("v.json", saved_tokenizer(oov_token=[1]), r"expected oov_token to be text, found \[1\]"),
    ],
)
def test_read_vocabulary_says_what_is_wrong_with_a_file(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(VocabularyError, match=rf"{name}: {message}"):
        read_vocabulary(tmp_path / name)


def test_read_vocabulary_of_no_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"v\.txt"):
        read_vocabulary(tmp_path / "v.txt")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("k.txt", b"", []),
        ("k.txt", b"\n", [""]),
        ("k.txt", b"nice", ["nice"]),
        ("k.txt", b"\n[UNK]\nnice\n", ["", "[UNK]", "nice"]),
        ("k.txt", b"nice\nnice\n\n", ["nice", "nice", ""]),
        ("k.txt", b"\xef\xbb\xbfnice\r\ngr\xc3\xb6\xc3\x9fe\r\n", ["nice", "größe"]),
        ("k.txt", "a\x85b\rc\n\u2028\n d\te \n".encode(), ["a\x85b\rc", "\u2028", " d\te "]),
        ("k.keys", b'["a"]', ['["a"]']),
        ("k.json", b"[]", []),
        ("k.json", b"{}", []),
        ("k.json", b'\xef\xbb\xbf["", "[UNK]", "a\\n", "a\\n"]', ["", "[UNK]", "a\n", "a\n"]),
        ("k.json", b'{"b": 1, "": 2, "[UNK]": 3, "a": 0}', ["a", "b", "", "[UNK]"]),
        ("k.json", b'{"config": 1, "model": 0}', ["model", "config"]),
    ],
)
def test_read_keys_takes_every_key_as_it_stands(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    assert read_keys(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("k.txt", b"nice\n\xff", "expected UTF-8 text: "),
        ("k.json", b"\xff", "expected UTF-8 text: "),
        ("k.json", b"", "expected JSON: "),
        ("k.json", b"[" * 100_000, "expected JSON: "),
        ("k.json", b'"nice"', "expected an object or an array, found str"),
        ("k.json", b'["a", 1]', "expected keys in row order, found int 1 for key 1"),
        ("k.json", b'["a", null]', "expected keys in row order, found NoneType None for key 1"),
        ("k.json", b'[["a"]]', r"expected keys in row order, found list \['a'\] for key 0"),
        ("k.json", b'{"a": 1, "b": 2}', "expected rows 0 to 1 for 2 keys, found 2 for 'b'"),
        (
            "k.json",
            b'{"a": 0, "b": 1000000000000000000}',
            "expected rows 0 to 1 for 2 keys, found 1000000000000000000 for",
        ),
        ("k.json", b'{"a": 0, "b": 0}', "keys 'a' and 'b' share row 0"),
        ("k.json", b'{"a": -1, "b": 0}', "expected a row of 0 or more for key 'a', found -1"),
        ("k.json", b'{"a": 0, "b": true}', "expected an integer row for key 'b', found bool True"),
        ("k.json", b'{"a": 0, "a": 1, "b": 0}', "expected each key once, found 'a' twice"),
    ],
)
def test_read_keys_says_what_is_wrong_with_a_file(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(VocabularyError, match=rf"{name}: {message}"):
        read_keys(tmp_path / name)


def test_read_keys_of_no_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"k\.txt"):
        read_keys(tmp_path / "k.txt")
