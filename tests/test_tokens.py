import re
from itertools import pairwise

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from vecstore import Tokens
from vecstore.keys import KeyBatch

DOCUMENTS = [["nice", "größe", ""], [], ["日本語"], [], ["nice"]]
NULL = [["nice", "größe"], None, ["日本語"], []]


def lists_of(tokens):
    """Return tokens as lists of bytes."""
    batch, offsets = tokens.batch, tokens.offsets.tolist()
    assert batch.codes is None
    keys = [batch.data[start:stop].tobytes() for start, stop in zip(batch.starts, batch.stops, strict=True)]
    return [keys[start:stop] for start, stop in pairwise(offsets)]


def encoded(documents):
    return [[reference.encode(key) for key in document or ()] for document in documents]


def arrow(kind, strings=pa.string):
    return lambda documents: pa.array(documents, kind(strings()))


def sliced(documents):
    return pa.array([["?"], *documents, ["?", "?"]], pa.list_(pa.string()))[1:-1]


def over_tokens(documents):
    """Make an Arrow array whose nulls lie over tokens of their own."""
    filled = pa.array([["?", "?"] if document is None else document for document in documents], pa.list_(pa.string()))
    nulls = pa.array([document is None for document in documents])
    return pa.ListArray.from_arrays(filled.offsets, filled.values, mask=nulls)


CONTAINERS = {
    "lists": list,
    "tuple of tuples": lambda documents: tuple(None if d is None else tuple(d) for d in documents),
    "generators": lambda documents: (None if d is None else (key for key in d) for d in documents),
    "NumPy arrays": lambda documents: [None if d is None else np.array(d, object) for d in documents],
    "pandas columns": lambda documents: [None if d is None else pd.Series(d, dtype=object) for d in documents],
    "Arrow lists": arrow(pa.list_),
    "Arrow large lists": arrow(pa.large_list),
    "Arrow lists of large strings": arrow(pa.list_, pa.large_string),
    "Arrow lists of dictionaries": arrow(pa.list_, lambda: pa.dictionary(pa.int32(), pa.string())),
    "Arrow lists, sliced": sliced,
    "Arrow lists, nulls over tokens": over_tokens,
    "Arrow lists, chunked": lambda d: pa.chunked_array([arrow(pa.list_)(d[:2]), arrow(pa.list_)(d[2:])]),
    "pandas": lambda documents: pd.Series(documents, dtype=object),
    "pandas of Arrow": lambda documents: pd.Series(documents, dtype=pd.ArrowDtype(pa.list_(pa.string()))),
    "polars": lambda documents: pl.Series(documents, dtype=pl.List(pl.String)),
}


@pytest.mark.parametrize("documents", [DOCUMENTS, NULL], ids=["documents", "a null"])
@pytest.mark.parametrize("make", CONTAINERS.values(), ids=CONTAINERS)
def test_tokens_of_a_container_are_its_documents(make, documents):
    tokens = Tokens.of(make(documents))
    assert lists_of(tokens) == encoded(documents)
    assert len(tokens) == len(documents)


def test_tokens_of_fixed_size_lists_are_their_documents():
    documents = [["a", "b"], None, ["c", "d"]]
    for array in pa.array(documents, pa.list_(pa.string(), 2)), pa.array([["?"] * 2, *documents])[1:]:
        assert lists_of(Tokens.of(array)) == encoded(documents)


@pytest.mark.parametrize(
    "nothing",
    [[], iter(()), pa.array([], pa.list_(pa.string())), pa.chunked_array([], pa.list_(pa.string())), pa.nulls(0)],
)
def test_tokens_of_nothing_are_no_documents(nothing):
    tokens = Tokens.of(nothing)
    assert (len(tokens), len(tokens.batch), tokens.offsets.tolist()) == (0, 0, [0])


def test_tokens_of_nulls_are_empty_documents():
    assert lists_of(Tokens.of(pa.nulls(2))) == lists_of(Tokens.of([None, None])) == [[], []]


def test_tokens_of_tokens_are_themselves():
    tokens = Tokens.of(DOCUMENTS)
    assert Tokens.of(tokens) is tokens


@given(st.lists(st.none() | st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=5)))
def test_tokens_of_any_text_are_its_documents(documents):
    assert lists_of(Tokens.of(documents)) == encoded(documents)
    assert lists_of(Tokens.of(pa.array(documents, pa.list_(pa.string())))) == encoded(documents)


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ("nice", "expected lists of tokens, found str: 'nice'"),
        (7, "expected lists of tokens, found int: 7"),
        ([["a"], "nice"], "document 1: expected a list of tokens, found one str: 'nice'; split it"),
        ([["a"], 7], "document 1: expected a list of tokens, found int: 7"),
        ([["a", 7]], "key 1: expected str, bytes or None, found int: 7"),
        (pa.array(["nice"]), "expected an Arrow array of lists of strings, found string; name a tokenizer"),
        (pd.Series(["nice"]), "expected an Arrow array of lists of strings, found"),
        (pd.Series([["nice"], 7]), "document 1: expected a list of tokens, found int: 7"),
        (pa.array([[1]]), "expected an Arrow array of strings, found int64"),
    ],
)
def test_what_has_no_tokens_is_an_error(documents, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        Tokens.of(documents)


@pytest.mark.parametrize("documents", [[["nice", None]], pa.array([["nice", None]])])
def test_a_null_token_is_an_error(documents):
    with pytest.raises(ValueError, match="key 1: expected a key, found a null"):
        Tokens.of(documents)


@pytest.mark.parametrize("offsets", [[], [0, 2, 1], [-1, 1], [0, 3], [[0, 1]]])
def test_offsets_outside_their_tokens_are_an_error(offsets):
    with pytest.raises(ValueError, match=re.escape("expected (n + 1,) offsets that ascend within 2 tokens")):
        Tokens(KeyBatch.of(["nice", "a"]), np.array(offsets, np.int64))


def test_tokens_with_codes_are_an_error():
    with pytest.raises(ValueError, match="expected a batch without codes"):
        Tokens(KeyBatch.of(["nice", None]), np.array([0, 2]))
