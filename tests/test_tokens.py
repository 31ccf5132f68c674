import re

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecstore.keys import KeyBatch
from vecstore.tokens import Tokens

DOCUMENTS = [["nice", "größe"], [], ["nice"], ["", "日本語", "🙂"]]
NULLS = [["a", "b"], None, ["c"]]
KINDS = {
    "list": pa.list_(pa.string()),
    "large_list": pa.large_list(pa.large_string()),
    "list_view": pa.list_view(pa.string()),
    "large_list_view": pa.large_list_view(pa.string()),
    "string_view": pa.list_(pa.string_view()),
    "dictionary": pa.list_(pa.dictionary(pa.int8(), pa.string())),
}
CONTAINERS = {
    "list": list,
    "tuples": lambda documents: tuple(document and tuple(document) for document in documents),
    "generators": lambda documents: (document and iter(document) for document in documents),
    "pandas": lambda documents: pd.Series(documents, dtype=object),
    "pandas arrow": lambda documents: pd.Series(documents, dtype=pd.ArrowDtype(KINDS["list"])),
    "polars": lambda documents: pl.Series(documents, dtype=pl.List(pl.String)),
    **{name: lambda documents, kind=kind: pa.array(documents, kind) for name, kind in KINDS.items()},
    "chunked": lambda documents: pa.chunked_array([documents[:1], [], documents[1:]], KINDS["list"]),
    "sliced": lambda documents: pa.array([["x"], *documents, ["y"]], KINDS["list"]).slice(1, len(documents)),
}


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("documents", [DOCUMENTS, NULLS, [], [[]]], ids=["documents", "nulls", "none", "empty"])
def test_tokens_come_from_any_container(name, documents):
    tokens = Tokens.of(CONTAINERS[name](documents))
    assert tokens.lists() == [document or [] for document in documents]
    assert len(tokens) == len(documents)
    assert tokens.batch.codes is None
    assert tokens.offsets.tolist() == np.cumsum([0, *(len(document or []) for document in documents)]).tolist()
    assert tokens.offsets.dtype == np.int64


def test_tokens_come_from_lists_of_one_size():
    array = pa.array([["a", "b"], None, ["c", "d"]], pa.list_(pa.string(), 2))
    assert Tokens.of(array).lists() == [["a", "b"], [], ["c", "d"]]
    assert Tokens.of(array.slice(1)).lists() == [[], ["c", "d"]]
    assert Tokens.of(np.array([["a", "b"], ["c", "d"]])).lists() == [["a", "b"], ["c", "d"]]


def test_what_lies_behind_a_null_document_is_no_part_of_it():
    values = pa.array(["a", "hidden", "b"])
    array = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3]), values, mask=pa.array([False, True, False]))
    assert Tokens.of(array).lists() == [["a"], [], ["b"]]


def test_nulls_alone_are_empty_documents():
    assert Tokens.of(pa.nulls(2)).lists() == [[], []]
    assert Tokens.of([None, np.nan]).lists() == [[], []]


def test_tokens_of_arrow_share_its_bytes():
    array = pa.array(DOCUMENTS, KINDS["large_list"])
    assert np.shares_memory(Tokens.of(array).batch.data, np.frombuffer(array.values.buffers()[2], np.uint8))


def test_tokens_of_tokens_are_those():
    tokens = Tokens.of(DOCUMENTS)
    assert Tokens.of(tokens) is tokens


@pytest.mark.parametrize("name", ["list", "generators", "pandas", "polars", *KINDS])
def test_a_null_token_is_an_error_that_names_its_place(name):
    with pytest.raises(ValueError, match="document 2, token 1: expected text, found a null"):
        Tokens.of(CONTAINERS[name]([["a"], [], ["b", None]]))


def test_a_lone_surrogate_is_an_error_that_names_its_place():
    with pytest.raises(ValueError, match="document 1, token 0: expected text, found a null or a lone surrogate"):
        Tokens.of([["a"], ["\ud800"]])


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ("text", "expected documents, each a list of tokens, found str"),
        (3, "expected documents, each a list of tokens, found int"),
        (["text"], r"document 0: expected a list of tokens, found str; Tokenizer\.tokenize takes texts"),
        ([["a"], 3], "document 1: expected a list of tokens, found int"),
        ([["a"], ["b", 3]], "document 1, token 1: expected str, found int"),
        (pa.array(["text"]), "expected an Arrow array of lists of strings, found string"),
        (pa.array([[1]]), "expected an Arrow array of strings, found int64"),
    ],
)
def test_what_is_no_documents_is_an_error(documents, message):
    with pytest.raises(TypeError, match=message):
        Tokens.of(documents)


@given(st.lists(st.lists(st.text(max_size=3), max_size=4)), st.integers(1, 5))
def test_parts_and_what_is_joined_of_them_hold_all_documents(documents, most):
    tokens = Tokens.of(documents)
    cuts = tokens.cuts(most)
    parts = [tokens.part(*cut) for cut in cuts]
    assert [document for part in parts for document in part.lists()] == documents
    assert all(part.offsets[0] == 0 and (len(part.batch) <= most or len(part) == 1) for part in parts)
    assert Tokens.joined(parts).lists() == documents


@pytest.mark.parametrize("offsets", [[], [0, 2, 1], [-1, 1], [1, 2], [0, 3], [[0, 1]]])
def test_offsets_outside_their_tokens_are_an_error(offsets):
    with pytest.raises(ValueError, match=re.escape("expected (n + 1,) offsets that ascend from 0 within 2 tokens")):
        Tokens(KeyBatch.of(["nice", "a"]), np.array(offsets, np.int64))


def test_tokens_with_codes_are_an_error():
    with pytest.raises(ValueError, match="expected a batch without codes"):
        Tokens(KeyBatch.of(["nice", None]), np.array([0, 2]))
