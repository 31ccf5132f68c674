import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from files import left_in, numbered, word2vec_bytes
from hypothesis import given
from hypothesis import strategies as st

import vecstore

KEYS = ["the", "größe", "of", "", "the", "a\u00a0b", "New York", "日本語", "of", "🙂"]
VECTORS = numbered(len(KEYS), 3)[1]
ABSENT = "nowhere"
WANTED = ["🙂", "größe", ABSENT, "the", "🙂"]
FOUND = [0, 1, 9]  # their rows, of the first record each


def converted(source, folder: Path, **options):
    report = vecstore.convert(source, folder / "store", overwrite=True, **options)
    with vecstore.open(folder / "store") as store:
        return list(store.keys), store.vectors.copy(), report.dropped


def assert_selects(source, folder, rows, dropped, **options):
    keys, vectors, found = converted(source, folder, **options)
    assert keys == [KEYS[row] for row in rows]
    np.testing.assert_array_equal(vectors, VECTORS[rows])
    assert found == {"duplicates": 0, "undecodable": 0, "unwanted": 0, **dropped}


def as_text(folder: Path) -> Path:
    path = folder / "vectors.txt"
    lines = [" ".join([key, *map(repr, row)]) + "\n" for key, row in zip(KEYS, VECTORS.tolist(), strict=True)]
    path.write_text("".join(lines), "utf-8")
    return path


def as_binary(folder: Path) -> Path:
    path = folder / "vectors.bin"
    keys = [key.replace(" ", "_").encode() for key in KEYS]
    path.write_bytes(word2vec_bytes(keys, VECTORS))
    return path


def as_matrix(folder: Path) -> Path:
    np.save(folder / "vectors.npy", VECTORS)
    (folder / "vectors.keys.txt").write_text("".join(f"{key}\n" for key in KEYS), "utf-8")
    return folder / "vectors.npy"


def as_blocks(folder: Path):
    return ((KEYS[start : start + 3], VECTORS[start : start + 3]) for start in range(0, len(KEYS), 3))


SOURCES = {
    "text": as_text,
    "binary": as_binary,
    "npy": as_matrix,
    "blocks": as_blocks,
    "pair": lambda _: (KEYS, VECTORS),
}
sources = pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)


@sources
@pytest.mark.parametrize("limit", [1, 3, 4, 5, 9, 10, 11, 10**18])
def test_limit_is_the_number_of_records_looked_at(make, limit, tmp_path):
    rows = [row for row in range(min(limit, len(KEYS))) if KEYS[row] not in KEYS[:row]]
    keys, vectors, dropped = converted(make(tmp_path), tmp_path, limit=limit)
    assert [key.replace("_", " ") for key in keys] == [KEYS[row] for row in rows]
    np.testing.assert_array_equal(vectors, VECTORS[rows])
    assert dropped == {"duplicates": min(limit, len(KEYS)) - len(rows), "undecodable": 0, "unwanted": 0}


def test_limit_leaves_the_rest_of_an_iterable_alone(tmp_path):
    asked = []

    def pairs():
        for number in range(9):
            asked.append(number)
            yield [f"k{number}"], [[number]]

    assert converted(pairs(), tmp_path, limit=3)[0] == ["k0", "k1", "k2"]
    assert asked == [0, 1, 2]


@sources
def test_only_wanted_keys_are_stored(make, tmp_path):
    assert_selects(make(tmp_path), tmp_path, FOUND, {"unwanted": 6, "duplicates": 1}, keys=WANTED)


def file_of(folder: Path, name: str, content: str) -> Path:
    (folder / name).write_text(content, "utf-8")
    return folder / name


CONTAINERS = {
    "list": lambda _: WANTED,
    "bytes": lambda _: [key.encode() for key in WANTED],
    "tuple": lambda _: tuple(WANTED),
    "set": lambda _: set(WANTED),
    "frozenset": lambda _: frozenset(WANTED),
    "generator": lambda _: (key for key in WANTED),
    "with nulls": lambda _: [None, *WANTED, float("nan")],
    "mapping": lambda _: {key: row for row, key in enumerate(WANTED)},
    "mapping to anything": lambda _: dict.fromkeys(WANTED, "count"),
    "keys of a mapping": lambda _: dict.fromkeys(WANTED).keys(),
    "numpy": lambda _: np.array(WANTED),
    "numpy objects": lambda _: np.array(WANTED, object),
    "pandas": lambda _: pd.Series(WANTED),
    "pandas index": lambda _: pd.Index(WANTED),
    "polars": lambda _: pl.Series(WANTED),
    "arrow": lambda _: pa.array([*WANTED, None]),
    "arrow view": lambda _: pa.array(WANTED, pa.string_view()),
    "arrow chunks": lambda _: pa.chunked_array([WANTED[:2], WANTED[2:]]),
    "arrow dictionary": lambda _: pa.array(WANTED).dictionary_encode(),
    "lines": lambda folder: file_of(folder, "wanted.txt", "\n".join(WANTED) + "\n"),
    "lines in a str path": lambda folder: str(file_of(folder, "wanted.txt", "\n".join(WANTED))),
    "lines with a mark": lambda folder: file_of(folder, "wanted.txt", "\ufeff" + "\r\n".join(WANTED)),
    "json array": lambda folder: file_of(folder, "wanted.json", json.dumps(WANTED)),
    "json object": lambda folder: file_of(folder, "wanted.json", json.dumps({key: i for i, key in enumerate(WANTED)})),
    "lookup": lambda _: SimpleNamespace(get_vocabulary=lambda: ["", "[UNK]", *dict.fromkeys(WANTED)]),
    "tokenizer": lambda _: SimpleNamespace(
        word_index={"<OOV>": 1, **{key: row for row, key in enumerate(dict.fromkeys(WANTED), 2)}},
        oov_token="<OOV>",
        num_words=None,
    ),
}


@pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS)
def test_wanted_keys_come_in_whatever_holds_them(make, tmp_path):
    source = (KEYS, VECTORS)
    assert_selects(source, tmp_path, FOUND, {"unwanted": 6, "duplicates": 1}, keys=make(tmp_path))


def test_wanted_keys_come_from_keras(tmp_path):
    import keras

    lookup = keras.layers.StringLookup(vocabulary=["größe", "the", ABSENT, "🙂"])
    vectoriser = keras.layers.TextVectorization(vocabulary=["größe", "the", ABSENT, "🙂"])
    for layer in lookup, vectoriser:
        # The model's own names are no keys, so neither "" nor "[UNK]" is asked for.
        assert_selects((KEYS, VECTORS), tmp_path, FOUND, {"unwanted": 6, "duplicates": 1}, keys=layer)


def test_wanted_keys_come_from_a_tokenizer(tmp_path):
    from tensorflow.keras.preprocessing.text import Tokenizer

    tokenizer = Tokenizer(num_words=3, oov_token="<OOV>")
    tokenizer.fit_on_texts(["of of of the the größe"])
    # num_words leaves the two most frequent keys, one of which is the oov token.
    assert_selects((KEYS, VECTORS), tmp_path, [2], {"unwanted": 8, "duplicates": 1}, keys=tokenizer)


def test_wanted_keys_come_from_a_word_index_in_a_file(tmp_path):
    """As Keras numbers words: from 1, since row 0 is the padding's."""
    path = file_of(tmp_path, "word_index.json", json.dumps({"größe": 1, "the": 2, "🙂": 3}))
    assert_selects((KEYS, VECTORS), tmp_path, FOUND, {"unwanted": 6, "duplicates": 1}, keys=path)


def test_wanted_keys_come_from_another_store(tmp_path):
    vecstore.convert((["🙂", "größe", "the"], np.eye(3)), tmp_path / "other")
    with vecstore.open(tmp_path / "other") as other:
        assert_selects((KEYS, VECTORS), tmp_path, FOUND, {"unwanted": 6, "duplicates": 1}, keys=other.keys)


def test_empty_key_may_be_wanted(tmp_path):
    assert_selects((KEYS, VECTORS), tmp_path, [3, 6], {"unwanted": 8}, keys=["", "New York"])


@sources
@pytest.mark.parametrize("keys", [[], [ABSENT], ["The", "THE", "gro\u0308ße", " the", "the\n"]])
def test_nothing_that_is_wanted_gives_an_empty_store(make, keys, tmp_path):
    found, vectors, dropped = converted(make(tmp_path), tmp_path, keys=keys)
    assert (found, vectors.shape) == ([], (0, 3))
    assert dropped == {"duplicates": 0, "undecodable": 0, "unwanted": 10}


def test_limit_comes_before_the_wanted_keys(tmp_path):
    assert_selects((KEYS, VECTORS), tmp_path, [0, 1], {"unwanted": 2}, keys=WANTED, limit=4)
    assert_selects((KEYS, VECTORS), tmp_path, [0, 1], {"unwanted": 3, "duplicates": 1}, keys=WANTED, limit=6)


@pytest.mark.parametrize(("duplicates", "row"), [("first", 0), ("last", 4)])
def test_duplicates_are_judged_among_wanted_keys(duplicates, row, tmp_path):
    keys, vectors, dropped = converted((KEYS, VECTORS), tmp_path, keys=["größe", "the"], duplicates=duplicates)
    assert keys == ["the", "größe"]
    np.testing.assert_array_equal(vectors, VECTORS[[row, 1]])
    assert dropped == {"duplicates": 1, "undecodable": 0, "unwanted": 7}
    assert converted((KEYS, VECTORS), tmp_path, keys=["größe", "🙂"], duplicates="error")[0] == ["größe", "🙂"]
    with pytest.raises(vecstore.FormatError, match="'the'"):
        converted((KEYS, VECTORS), tmp_path, keys=["größe", "the"], duplicates="error")


def test_wanted_keys_are_found_in_every_block(tmp_path):
    keys, vectors = numbered(60_000, 100)
    path = tmp_path / "vectors.bin"
    path.write_bytes(word2vec_bytes(keys, vectors))
    rows = np.random.default_rng(0).permutation(len(keys))[:1000]
    wanted = [keys[row].decode() for row in rows]
    found, selected, dropped = converted(path, tmp_path, keys=wanted)
    assert found == [keys[row].decode() for row in np.sort(rows)]
    np.testing.assert_array_equal(selected, vectors[np.sort(rows)])
    assert dropped == {"duplicates": 0, "undecodable": 0, "unwanted": 59_000}
    assert converted(path, tmp_path, keys=wanted, limit=30_000)[0] == [
        f"k{row}" for row in np.sort(rows[rows < 30_000])
    ]


def test_unwanted_records_take_no_room(tmp_path):
    keys, vectors = numbered(20_000, 50)
    vecstore.convert((keys, vectors), tmp_path / "whole")
    vecstore.convert((keys, vectors), tmp_path / "part", keys=keys[:10])
    vecstore.convert((keys[:10], vectors[:10]), tmp_path / "same")
    sizes = {name: sum(file.stat().st_size for file in (tmp_path / name).iterdir()) for name in left_in(tmp_path)}
    assert sizes["part"] < sizes["whole"] / 500
    assert abs(sizes["part"] - sizes["same"]) < 10  # digits in the metadata


UNDECODABLE = [b"ok", b"a\xff", b"\xc3", "größe".encode(), b"a\xfe", b"a"]


@pytest.mark.parametrize(
    ("errors", "wanted", "rows", "keys", "dropped"),
    [
        ("replace", ["a\ufffd", "ok"], [0, 1], ["ok", "a\ufffd"], {"duplicates": 1, "undecodable": 0, "unwanted": 3}),
        ("ignore", ["a"], [1], ["a"], {"duplicates": 2, "undecodable": 0, "unwanted": 3}),
        ("ignore", [""], [2], [""], {"duplicates": 0, "undecodable": 0, "unwanted": 5}),
        ("skip", ["ok", "a\ufffd", "a"], [0, 5], ["ok", "a"], {"duplicates": 0, "undecodable": 3, "unwanted": 1}),
    ],
)
@pytest.mark.parametrize("text", [False, True], ids=["binary", "text"])
def test_keys_are_decoded_before_they_are_wanted(text, errors, wanted, rows, keys, dropped, tmp_path):
    vectors = np.arange(12, dtype=np.float32).reshape(6, 2)
    path = tmp_path / "vectors"
    lines = [b"%b %d %d\n" % (key, *row) for key, row in zip(UNDECODABLE, vectors.astype(int), strict=True)]
    path.write_bytes(b"".join(lines) if text else word2vec_bytes(UNDECODABLE, vectors))
    found, selected, counts = converted(path, tmp_path, encoding_errors=errors, keys=wanted)
    assert found == keys
    np.testing.assert_array_equal(selected, vectors[rows])
    assert counts == dropped


@pytest.mark.parametrize("keys", [None, ["ok"]])
def test_undecodable_key_is_refused_whether_wanted_or_not(keys, tmp_path):
    path = tmp_path / "vectors.bin"
    path.write_bytes(word2vec_bytes(UNDECODABLE, np.ones((6, 2))))
    with pytest.raises(vecstore.FormatError, match=r"record 2, byte 15: expected a key in UTF-8, found b'a\\xff' \("):
        vecstore.convert(path, tmp_path / "store", keys=keys)
    assert left_in(tmp_path) == {"vectors.bin"}


def test_undecodable_key_past_the_limit_is_not_looked_at(tmp_path):
    path = tmp_path / "vectors.bin"
    path.write_bytes(word2vec_bytes(UNDECODABLE, np.ones((6, 2))))
    assert converted(path, tmp_path, limit=1)[0] == ["ok"]


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        (7, TypeError, "expected .*, found int"),
        (["a", 7], TypeError, "key 1: expected str, bytes or None, found int: 7"),
        (Path("no such file"), OSError, "no such file"),
        (
            SimpleNamespace(get_vocabulary=lambda: [1, 2]),
            vecstore.VocabularyError,
            "expected keys in row order, found int",
        ),
    ],
)
def test_what_holds_no_keys_is_refused_before_anything_is_written(keys, error, message, tmp_path):
    with pytest.raises(error, match=message):
        vecstore.convert((KEYS, VECTORS), tmp_path / "store", keys=keys)
    assert left_in(tmp_path) == set()


def test_file_of_wanted_keys_that_is_no_utf8_is_named(tmp_path):
    (tmp_path / "wanted.txt").write_bytes(b"the\nof\xff\n")
    with pytest.raises(vecstore.VocabularyError, match=r"wanted\.txt: .*(UTF-8|utf-8)"):
        vecstore.convert((KEYS, VECTORS), tmp_path / "store", keys=tmp_path / "wanted.txt")
    assert left_in(tmp_path) == {"wanted.txt"}


@given(
    records=st.lists(st.tuples(st.sampled_from([b"a", b"b", b"", b"\xff", b"c\xff", "é".encode()]), st.integers(0, 9))),
    wanted=st.none() | st.lists(st.sampled_from(["a", "b", "", "é", "\ufffd", "c\ufffd", "c"])),
    limit=st.none() | st.integers(1, 12),
    errors=st.sampled_from(["replace", "ignore", "skip"]),
)
def test_selection_agrees_with_a_dict(tmp_path_factory, records, wanted, limit, errors):
    records = records or [(b"a", 1)]
    expected, counts = {}, {"duplicates": 0, "undecodable": 0, "unwanted": 0}
    for key, number in records[:limit]:
        try:
            text = key.decode("utf-8", "strict" if errors == "skip" else errors)
        except UnicodeDecodeError:
            counts["undecodable"] += 1
            continue
        if wanted is not None and text not in wanted:
            counts["unwanted"] += 1
        elif text in expected:
            counts["duplicates"] += 1
        else:
            expected[text] = number
    folder = tmp_path_factory.mktemp("selection")
    source = ([key for key, _ in records], [[number] for _, number in records])
    keys, vectors, dropped = converted(source, folder, keys=wanted, limit=limit, encoding_errors=errors)
    assert dict(zip(keys, vectors[:, 0], strict=True)) == expected
    assert keys == list(expected)
    assert dropped == counts
