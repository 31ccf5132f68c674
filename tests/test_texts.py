from itertools import pairwise

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecstore.keys import KeyBatch
from vecstore.texts import Texts

TEXTS = ["Nice, nice!", "Größe", "", "日本語 🙂", "Nice, nice!", "x" * 100]
NULLS = ["nice", None, "größe", None, ""]
LONE = "lone \ud800"
CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "generator": iter,
    "dict keys": lambda texts: dict(enumerate(texts)).values(),
    "object array": lambda texts: np.array(texts, object),
    "string": lambda texts: pa.array(texts, pa.string()),
    "large_string": lambda texts: pa.array(texts, pa.large_string()),
    "string_view": lambda texts: pa.array(texts, pa.string_view()),
    "dictionary": lambda texts: pa.array(texts).dictionary_encode(),
    "sliced": lambda texts: pa.array(["before", *texts, "after"]).slice(1, len(texts)),
    "chunked": lambda texts: pa.chunked_array([texts[:2], [], texts[2:]], pa.string()),
    "chunked dictionary": lambda texts: pa.chunked_array([texts[:2], texts[2:]], pa.string()).dictionary_encode(),
    "pandas": lambda texts: pd.Series(texts, dtype="str"),
    "pandas objects": lambda texts: pd.Series(texts, dtype=object),
    "pandas category": lambda texts: pd.Series(pd.Series(texts, dtype="str").astype("category")),
    "polars": lambda texts: pl.Series(texts, dtype=pl.String),
}


def strings(texts):
    return [texts[i] for i in range(len(texts))]


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("texts", [TEXTS, NULLS, [], [""], [None]], ids=["texts", "nulls", "none", "empty", "null"])
def test_texts_come_from_any_container(name, texts):
    expected = [text or "" for text in texts]
    assert strings(Texts.of(CONTAINERS[name](texts))) == expected
    streamed = list(Texts.stream(CONTAINERS[name](texts), 8))
    assert [text for block in streamed for text in strings(block)] == expected


@pytest.mark.parametrize("dtype", ["U", np.dtypes.StringDType()])
def test_texts_come_from_arrays_of_str(dtype):
    assert strings(Texts.of(np.array(TEXTS, dtype))) == TEXTS


def test_nan_and_nulls_of_pandas_are_empty():
    assert strings(Texts.of(["a", np.nan, pd.NA, None])) == ["a", "", "", ""]


def test_texts_of_texts_and_of_keys_share_their_bytes():
    texts = Texts.of(TEXTS)
    assert Texts.of(texts) is texts
    batch = KeyBatch.of(["a", "b"])
    assert np.shares_memory(Texts.of(batch).data, batch.data)


def test_texts_of_arrow_share_its_bytes():
    array = pa.array(TEXTS, pa.large_string())
    assert np.shares_memory(Texts.of(array).data, np.frombuffer(array.buffers()[2], np.uint8))


@pytest.mark.parametrize("name", ["list", "tuple", "generator", "object array", "pandas objects"])
def test_a_lone_surrogate_is_an_error_that_names_the_text(name):
    with pytest.raises(ValueError, match=r"text 2: expected Unicode text, found a lone surrogate: 'lone \\ud800'"):
        Texts.of(CONTAINERS[name](["a", None, LONE]))


def test_errors_in_a_stream_count_from_its_start(monkeypatch):
    monkeypatch.setattr("vecstore.texts._TAKEN", 2)
    blocks = Texts.stream(iter(["a", "b", "c", LONE]), 100)
    assert strings(next(blocks)) == ["a", "b"]
    with pytest.raises(ValueError, match="text 3: "):
        next(blocks)


@pytest.mark.parametrize("texts", ["one text", b"bytes", 3, None])
def test_what_is_no_batch_is_an_error(texts):
    with pytest.raises(TypeError, match="expected texts, found"):
        Texts.of(texts)
    with pytest.raises(TypeError, match="expected texts, found"):
        list(Texts.stream(texts, 8))


def test_documents_that_are_tokenised_are_an_error_that_says_so():
    with pytest.raises(TypeError, match=r"text 1: expected str, found list; Tokens\.of takes tokens"):
        Texts.of(["a", ["b"]])


def test_numbers_are_no_texts():
    with pytest.raises(TypeError, match="expected str, bytes or None, found int: 3"):
        Texts.of(["a", 3])


@given(st.lists(st.text(max_size=9)), st.integers(1, 20))
def test_blocks_hold_all_texts_and_no_more_bytes_than_they_may(texts, most):
    blocks = list(Texts.of(texts).blocks(most))
    assert [text for block in blocks for text in strings(block)] == texts
    sizes = [[len(text.encode()) for text in strings(block)] for block in blocks]
    assert all(block and (sum(block) <= most or len(block) == 1) for block in sizes)
    assert all(sum(block) + after[0] > most for block, after in pairwise(sizes))


def test_a_part_is_a_view():
    texts = Texts.of(TEXTS)
    part = texts.part(1, 3)
    assert strings(part) == TEXTS[1:3]
    assert part.data is texts.data


def test_what_is_no_text_is_named_by_its_place_among_all():
    texts = ["nice"] * 40_000 + [7]
    with pytest.raises(TypeError, match="text 40000: expected str, bytes or None, found int: 7"):
        list(Texts.stream(texts, 1 << 20))
    with pytest.raises(TypeError, match="text 0: expected str, bytes or None, found int: 7"):
        Texts.of([7])
