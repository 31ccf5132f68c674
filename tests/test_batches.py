import multiprocessing
import os
import pickle
import re
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import vecstore
from vecstore import functions
from vecstore.functions import CountTexts, EmbedTexts, EncodeTexts
from vecstore.tokenizer import Tokenizer
from vecstore.tokens import Tokens

METHODS = multiprocessing.get_all_start_methods()
TEXTS = ["Nice größe!", None, "", "日本語, nice; A absent", "naïve 🙂 nice nice", "absent"]
VOCABULARY = {"nice": 1, "größe": 2, "日本語": 5}
TOKENS = Tokenizer().tokenize(TEXTS).lists()
LISTS = [tokens or None for tokens in TOKENS]  # a null document is empty

COLUMNS = {
    "string": pa.array(TEXTS),
    "large_string": pa.array(TEXTS, pa.large_string()),
    "string_view": pa.array(TEXTS, pa.string_view()),
    "dictionary": pa.array(TEXTS).dictionary_encode(),
    "dictionary of views": pa.DictionaryArray.from_arrays(
        pa.array([0, None, 1, 2, 3, 4], pa.int8()),
        pa.array([text for text in TEXTS if text is not None], pa.string_view()),
    ),
    "list": pa.array(LISTS),
    "large_list": pa.array(LISTS, pa.large_list(pa.large_string())),
    "list_view": pa.array(LISTS, pa.list_view(pa.string())),
    "large_list_view": pa.array(LISTS, pa.large_list_view(pa.string_view())),
    "list of dictionary": pa.array(LISTS, pa.list_(pa.dictionary(pa.int32(), pa.string()))),
}


@pytest.fixture
def embed(small_path: Path) -> EmbedTexts:
    return EmbedTexts(store=str(small_path), known_into="known")


ENCODE = EncodeTexts(vocabulary=VOCABULARY)


def table(column: pa.Array | pa.ChunkedArray) -> pa.Table:
    return pa.table({"id": range(len(column)), "text": column})


def vectors_of(result: pa.Table) -> np.ndarray:
    column = result["vector"].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), column.type.list_size)


def check_embedded(result: pa.Table, store: vecstore.VectorStore, texts: object) -> None:
    vectors, known = store.embed(texts, return_counts=True)
    assert vectors_of(result).tobytes() == vectors.tobytes()
    assert result["known"].to_pylist() == known.tolist()


def everything(counts: vecstore.Counts) -> tuple[object, ...]:
    return counts.word_counts(), counts.vocabulary(), counts.document_counts.tolist(), counts.documents


# What is in a column


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_every_kind_of_column_gives_the_same(embed, store, column):
    check_embedded(embed(table(column)), store, TEXTS)
    assert ENCODE(table(column))["ids"].to_pylist() == vecstore.encode_ragged(TEXTS, VOCABULARY).to_pylist()
    assert everything(CountTexts.reduce([CountTexts()(table(column))])) == everything(vecstore.count(TEXTS))


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
@pytest.mark.parametrize("part", [(0, 0), (1, 1), (1, 4), (3, 9)])
def test_sliced_columns_give_their_part(embed, store, column, part):
    start, length = part
    check_embedded(embed(table(column).slice(start, length)), store, TEXTS[start : start + length])
    check_embedded(embed(table(column.slice(start, length))), store, TEXTS[start : start + length])


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_chunked_columns_give_the_same(embed, store, column):
    chunked = pa.chunked_array([column[:2], column[2:2], column[2:5], column[5:]])
    check_embedded(embed(table(chunked)), store, TEXTS)
    assert ENCODE(table(chunked))["ids"].to_pylist() == vecstore.encode_ragged(TEXTS, VOCABULARY).to_pylist()
    assert everything(CountTexts.reduce([CountTexts()(table(chunked))])) == everything(vecstore.count(TEXTS))


def test_lists_of_fixed_size_are_tokens(embed, store):
    lists = [["nice", "größe"], ["a", "absent"]]
    check_embedded(embed(table(pa.array(lists, pa.list_(pa.string(), 2)))), store, Tokens.of(lists))


@pytest.mark.parametrize("kind", [pa.null(), pa.list_(pa.null())], ids=str)
@pytest.mark.parametrize("n", [0, 3])
def test_column_of_nothing_is_empty_texts(embed, kind, n):
    column = pa.nulls(n, kind)
    result = embed(table(column))
    assert result["known"].to_pylist() == [0] * n
    assert vectors_of(result).shape == (n, 3)
    assert not vectors_of(result).any()
    assert ENCODE(table(column))["ids"].to_pylist() == [[]] * n
    assert everything(CountTexts.reduce([CountTexts()(table(column))])) == ({}, [], [], n)


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_schema_is_that_of_the_result_whatever_the_batch(embed, column):
    for function in (embed, ENCODE, EncodeTexts(vocabulary=VOCABULARY, length=4), CountTexts()):
        for batch in (table(column), table(column).slice(2, 0), table(column).schema.empty_table()):
            assert function(batch).schema == function.schema(table(column).schema)


def test_other_columns_and_metadata_stay(embed):
    given = table(COLUMNS["string"]).replace_schema_metadata({"whose": "mine"})
    for function in (embed, ENCODE):
        result = function(given)
        assert result.select(given.column_names).equals(given, check_metadata=True)
        assert result["text"].chunk(0).buffers()[2].address == given["text"].chunk(0).buffers()[2].address


# In what a column is


def test_kind_of_batch_is_kept(embed, store):
    given = table(COLUMNS["string"])
    for function in (embed, ENCODE, CountTexts()):
        result, (batch,) = function(given), given.to_batches()
        assert isinstance(result, pa.Table)
        assert isinstance(function(batch), pa.RecordBatch)
        assert pa.Table.from_batches([function(batch)]).equals(result)
        assert isinstance(function(given.to_pandas()), pd.DataFrame)


def test_empty_record_batch_gives_one(embed):
    schema = table(COLUMNS["string"]).schema
    empty = pa.RecordBatch.from_pylist([], schema)
    for function in (embed, ENCODE):
        result = function(empty)
        assert (result.num_rows, result.schema) == (0, function.schema(schema))
    assert CountTexts()(empty).to_pylist() == [{"key": None, "count": 0, "documents": 0}]


def test_iterator_of_batches_is_what_spark_takes(embed):
    given = table(COLUMNS["string"])
    fixed = EncodeTexts(vocabulary=VOCABULARY, length=4)
    for function in (embed, ENCODE, fixed):
        result = pa.Table.from_batches(function(iter(given.to_batches(max_chunksize=2))))
        assert result.to_pylist() == function(given).to_pylist()
        assert not any(pa.types.is_fixed_size_list(kind) for kind in result.schema.types)
    (counted,) = CountTexts()(iter(given.to_batches(max_chunksize=2)))
    assert counted.equals(CountTexts()(given.to_batches()[0]))
    assert list(embed(iter([]))) == []
    assert [batch.to_pylist() for batch in CountTexts()(iter([]))] == [[{"key": None, "count": 0, "documents": 0}]]


@pytest.mark.parametrize("batch", [{"text": TEXTS}, TEXTS, "nice", None], ids=lambda batch: type(batch).__name__)
def test_other_batches_are_an_error_that_says_what_to_ask_the_engine_for(embed, batch):
    message = (
        f"expected a pyarrow.Table, a RecordBatch, an iterator of them or a pandas.DataFrame, found "
        f"{type(batch).__name__}; Ray Data: batch_format='pyarrow'; Hugging Face datasets: with_format('arrow')"
    )
    with pytest.raises(TypeError, match=re.escape(message)):
        embed(batch)


# pandas


FRAMES = {
    "str": pd.Series(TEXTS),
    "object": pd.Series(TEXTS, dtype=object),
    "arrow": pd.Series(pd.arrays.ArrowExtensionArray(pa.array(TEXTS, pa.large_string()))),
    "category": pd.Series(TEXTS).astype("category"),
    "lists": pd.Series(LISTS),
}


@pytest.mark.parametrize("texts", FRAMES.values(), ids=FRAMES)
def test_frame_keeps_its_index_and_other_columns(embed, texts):
    index = pd.Index([3, 3, 1, 7, 7, 0], name="place")
    others = {"when": pd.date_range("2024-01-01", periods=6, tz="CET"), 7: [object()] * 6, "what": [1, "b", None] * 2}
    frame = pd.DataFrame({"text": texts, **others}).set_axis(index, axis=0)
    before = frame.copy()
    for function in (embed, ENCODE):
        result = function(frame)
        pd.testing.assert_frame_equal(frame, before)
        pd.testing.assert_frame_equal(result[list(frame.columns)], before)
        expected = function(table(COLUMNS["string"])).drop_columns(["id", "text"])
        assert list(result.columns) == [*frame.columns, *expected.column_names]
        for name in expected.column_names:
            assert result[name].array.__arrow_array__().equals(expected[name])
    assert everything(CountTexts.reduce([CountTexts()(frame)])) == everything(vecstore.count(TEXTS))


def test_empty_frame_gives_the_columns_of_others(embed):
    frame = pd.DataFrame({"id": range(6), "text": TEXTS})
    for function in (embed, ENCODE, EncodeTexts(vocabulary=VOCABULARY, length=4), CountTexts()):
        pd.testing.assert_series_equal(function(frame.iloc[:0]).dtypes, function(frame).dtypes)


# Errors


NO_COLUMN = r"column 'text': expected one of that name, found 0 among 'id', 'body'"


def test_missing_column_is_an_error_that_names_those_there(embed):
    given = pa.table({"id": [1], "body": ["nice"]})
    for function in (embed, ENCODE, CountTexts()):
        for batch in (given, given.to_batches()[0], given.to_pandas()):
            with pytest.raises(KeyError, match=NO_COLUMN):
                function(batch)
        with pytest.raises(KeyError, match=NO_COLUMN):
            function.schema(given.schema)


def test_column_that_is_there_twice_is_an_error(embed):
    given = pa.table([pa.array(["a"]), pa.array(["b"])], ["text", "text"])
    frame = pd.DataFrame([["a", "b"]], columns=["text", "text"])
    for function in (embed, ENCODE, CountTexts()):
        for batch in (given, frame):
            with pytest.raises(
                KeyError, match="column 'text': expected one of that name, found 2 among 'text', 'text'"
            ):
                function(batch)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1], "int64"),
        ([b"nice"], "binary"),
        ([[1]], "list<item: int64>"),
        ([[["a"]]], "list<item: list<item: string>>"),
    ],
    ids=str,
)
def test_column_of_something_else_is_an_error(embed, values, kind):
    message = re.escape(f"column 'text': expected strings or lists of strings, found {kind}")
    for function in (embed, ENCODE, CountTexts()):
        with pytest.raises(TypeError, match=message):
            function(pa.table({"text": values}))
        with pytest.raises(TypeError, match=message):
            function.schema(pa.table({"text": values}).schema)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"into": "id"}, "id"),
        ({"into": "text"}, "text"),
        ({"known_into": "id"}, "id"),
        ({"known_into": "vector"}, "vector"),
    ],
    ids=str,
)
def test_name_of_a_result_that_is_there_already_is_an_error(small_path, settings, name):
    function = EmbedTexts(store=small_path, **settings)
    given = table(COLUMNS["string"])
    message = f"column '{name}' of the result is there already: give the new one another name"
    for batch in (given, given.to_batches()[0], given.to_pandas()):
        with pytest.raises(ValueError, match=message):
            function(batch)
    with pytest.raises(ValueError, match=message):
        function.schema(given.schema)


def test_null_token_is_an_error(embed):
    for function in (embed, ENCODE, CountTexts()):
        with pytest.raises(ValueError, match="document 1, token 1: expected text, found a null"):
            function(pa.table({"text": [["nice"], ["nice", None]]}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling": "median"}, "pooling: expected 'mean', 'sum', 'max', 'first', 'sif', found 'median'"),
        ({"pooling": "sif"}, "expected counts, a file that Counts.save wrote, with the pooling 'sif' and no other"),
        ({"counts": "counts.parquet"}, "expected counts, a file that .* with the pooling 'sif' and no other"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_an_error_at_once(settings, message):
    with pytest.raises(ValueError, match=message):
        EmbedTexts(store="any.vecstore", **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"padding": "left"}, "padding: expected 'pre' or 'post', found 'left'"),
        ({"truncating": "left"}, "truncating: expected 'pre' or 'post', found 'left'"),
        ({"length": 0}, "length: expected a number of 1 or more, or None, found 0"),
        ({"value": 1 << 31}, "value: expected an int32, found 2147483648"),
    ],
    ids=str,
)
def test_ids_that_cannot_be_are_an_error_at_once(settings, message):
    with pytest.raises(ValueError, match=message):
        EncodeTexts(vocabulary="any.txt", **settings)


def test_store_that_is_not_there_is_an_error_of_the_worker(tmp_path):
    function = EmbedTexts(store=tmp_path / "none.vecstore")
    with pytest.raises(FileNotFoundError, match=r"none\.vecstore"):
        function(table(COLUMNS["string"]))


@pytest.mark.parametrize("result", [pa.table({"key": ["a"]}), {"a": 1}, pd.DataFrame({"key": ["a"]}), None], ids=type)
def test_results_of_something_else_do_not_add_up(result):
    with pytest.raises(ValueError, match="expected what CountTexts gave, found "):
        CountTexts.reduce([result])


# Settings


@pytest.mark.parametrize("pooling", ["mean", "sum", "max", "first"])
@pytest.mark.parametrize("normalize", [False, True])
def test_settings_are_those_of_embed(small_path, store, pooling, normalize):
    tokenizer = Tokenizer(lower=False, filters=";")
    function = EmbedTexts(
        store=store, pooling=pooling, normalize=normalize, tokenizer=tokenizer, column="body", into="v"
    )
    result = function(pa.table({"body": TEXTS}))
    assert result.column_names == ["body", "v"]
    expected = store.embed(TEXTS, pooling=pooling, normalize=normalize, tokenizer=tokenizer)
    assert np.array_equal(np.array(result["v"].to_pylist(), np.float32), expected)


def test_sif_weighs_by_the_counts_of_a_file(store, tmp_path):
    counts = vecstore.count(TEXTS)
    counts.save(tmp_path / "counts.parquet")
    function = EmbedTexts(store=store, pooling="sif", counts=tmp_path / "counts.parquet", a=0.01)
    weights = store.sif_weights(counts.word_counts(), a=0.01)
    assert np.array_equal(vectors_of(function(table(COLUMNS["string"]))), store.embed(TEXTS, pooling=weights))


def test_settings_are_those_of_encode():
    sides = {"length": 2, "padding": "post", "truncating": "post", "value": -1}
    words = {"num_words": 5, "oov_token": "größe"}
    function = EncodeTexts(vocabulary=VOCABULARY, into="i", **sides, **words)
    expected = vecstore.encode(TEXTS, VOCABULARY, **sides, **words)
    assert function(table(COLUMNS["string"]))["i"].to_pylist() == expected.tolist()
    assert function(table(COLUMNS["list"]))["i"].to_pylist() == expected.tolist()


def test_vocabulary_may_be_a_file(tmp_path):
    path = tmp_path / "vocabulary.txt"
    path.write_text("nice\ngröße\n", encoding="utf-8")
    for vocabulary in (path, str(path), ["nice", "größe"]):
        function = EncodeTexts(vocabulary=vocabulary)
        assert function(table(COLUMNS["string"]))["ids"].to_pylist()[0] == [0, 1]
    path.write_text("größe\nnice\n", encoding="utf-8")  # of the same size
    os.utime(path, (0, 0))
    assert EncodeTexts(vocabulary=path)(table(COLUMNS["string"]))["ids"].to_pylist()[0] == [1, 0]


def test_replaced_counts_are_read_again(store, tmp_path):
    path = tmp_path / "counts.parquet"
    function = EmbedTexts(store=store, pooling="sif", counts=path)
    for texts in (["nice " * 1000 + "größe"], ["größe " * 1000 + "nice"]):
        counts = vecstore.count(texts)
        counts.save(path)
        expected = store.embed(TEXTS, pooling=store.sif_weights(counts.word_counts()))
        assert np.array_equal(vectors_of(function(table(COLUMNS["string"]))), expected)


def test_replaced_store_is_opened_again(small_path, glove_folder, tmp_path):
    path = tmp_path / "any.vecstore"
    function = EmbedTexts(store=path)
    given = table(COLUMNS["string"])
    shutil.copytree(small_path, path)
    assert function(given)["vector"].type.list_size == 3
    path.rename(tmp_path / "old.vecstore")
    path.symlink_to(glove_folder / "glove.vecstore")
    assert function(given)["vector"].type.list_size == 50


def test_store_is_opened_once(small_path, tmp_path):
    path = shutil.copytree(small_path, tmp_path / "any.vecstore")
    before = functions._opened_once.cache_info().misses
    for _ in range(3):
        EmbedTexts(store=path)(table(COLUMNS["string"]))
        EmbedTexts(store=path, into="other")(table(COLUMNS["list"]))
    assert functions._opened_once.cache_info().misses == before + 1


# Counts add up


def test_counts_of_parts_are_those_of_the_whole_in_its_order():
    texts = [f"b{i % 7} a{i * i % 11} größe" if i % 5 else None for i in range(200)]
    parts = [pa.table({"text": texts[start : start + 30]}) for start in range(0, 200, 30)]
    count, expected = CountTexts(), everything(vecstore.count(texts))
    assert everything(count.reduce(map(count, parts))) == expected
    assert everything(count.reduce(count(part.to_batches()[0]) for part in parts)) == expected
    assert everything(count.reduce([pa.concat_tables(map(count, parts))])) == expected
    frames = [count(part.to_pandas()) for part in parts]
    assert everything(count.reduce(frames)) == expected
    assert everything(count.reduce([pd.concat(frames)])) == expected
    # As other engines hand pandas out: strings as objects, and None.
    assert everything(count.reduce([count(part).to_pandas() for part in parts])) == expected
    assert everything(count.reduce([])) == everything(vecstore.count([]))


def test_key_that_is_empty_is_a_key():
    tokens = pa.array([["", "a"], [""]])
    counts = CountTexts.reduce([CountTexts()(table(tokens))])
    assert counts.word_counts() == {"": 2, "a": 1}
    assert counts.documents == 2


# Travelling


def upper(text: str) -> list[str]:
    return text.upper().split()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_function_pickles_as_its_settings(glove, protocol):
    given = table(COLUMNS["string"])
    for function in (
        EmbedTexts(store=glove, known_into="known"),
        EncodeTexts(vocabulary=VOCABULARY, length=4),
        CountTexts(tokenizer=Tokenizer(analyzer=upper)),
    ):
        pickled = pickle.dumps(function, protocol)
        assert len(pickled) < 2000
        expected = function(given)
        assert pickle.dumps(function, protocol) == pickled
        again = pickle.loads(pickled)
        assert again == function
        assert again(given).equals(expected)


def test_functions_are_equal_if_their_settings_are(small_path):
    one, other = EmbedTexts(store=small_path), EmbedTexts(store=str(small_path))
    assert one == other
    assert hash(one) == hash(other)
    assert isinstance(one.store, str)
    assert EmbedTexts(store=vecstore.open(small_path)) == one
    others = [{"normalize": True}, {"into": "v"}, {"pooling": "max"}, {"tokenizer": Tokenizer(lower=False)}]
    assert len({one, *(EmbedTexts(store=small_path, **settings) for settings in others)}) == 5
    assert CountTexts() == CountTexts() != CountTexts(column="body")
    assert EncodeTexts(vocabulary=VOCABULARY) == EncodeTexts(vocabulary=VOCABULARY) != ENCODE.__class__(vocabulary={})


def test_address_is_kept_as_it_is_given():
    assert EmbedTexts(store="s3://bucket/glove.vecstore").store == "s3://bucket/glove.vecstore"
    assert EmbedTexts(store=Path("glove.vecstore")).store == "glove.vecstore"


def test_relative_address_is_that_of_whoever_calls(small_path, store, monkeypatch):
    function = EmbedTexts(store=small_path.name, known_into="known")
    monkeypatch.chdir(small_path.parent)
    check_embedded(function(table(COLUMNS["string"])), store, TEXTS)


@pytest.mark.parametrize("method", METHODS)
def test_pool_of_processes_gives_the_same(embed, store, method):
    given = table(COLUMNS["string"])
    parts = [given.slice(start, 2).combine_chunks().to_batches()[0] for start in range(0, len(given), 2)]
    embed(given)  # a forked worker has the store open already
    with multiprocessing.get_context(method).Pool(2) as pool:
        check_embedded(pa.Table.from_batches(pool.map(embed, parts)), store, TEXTS)
        encoded = pa.Table.from_batches(pool.map(ENCODE, parts))
        assert encoded["ids"].to_pylist() == vecstore.encode_ragged(TEXTS, VOCABULARY).to_pylist()
        assert everything(CountTexts.reduce(pool.imap(CountTexts(), parts))) == everything(vecstore.count(TEXTS))
        pool.close()
        pool.join()


@pytest.mark.parametrize("method", METHODS)
def test_executor_gives_the_same(embed, store, method):
    given = table(COLUMNS["string"])
    parts = [given.slice(start, 2) for start in range(0, len(given), 2)]
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as executor:
        check_embedded(pa.concat_tables(executor.map(embed, parts)), store, TEXTS)
        assert everything(CountTexts.reduce(executor.map(CountTexts(), parts))) == everything(vecstore.count(TEXTS))
