from itertools import pairwise, permutations

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from vecstore.kernels.pooling import (
    FIRST,
    MAX,
    MEAN,
    SUM,
    pool_rows,
    pool_rows_bfloat16,
    pool_rows_float16,
    pool_rows_int8,
)
from vecstore.keys import frozen

KERNELS = {
    "float32": pool_rows,
    "float16": pool_rows_float16,
    "bfloat16": pool_rows_bfloat16,
    "int8": pool_rows_int8,
}
POOLINGS = {"mean": MEAN, "sum": SUM, "max": MAX, "first": FIRST}
NO_WEIGHTS = np.empty(0, np.float32)


def stored(name, v, d):
    """Random numbers of a type as a kernel takes them, read-only, and the float32 that they are."""
    rng = np.random.default_rng(0)
    if name == "float32":
        vectors = rng.standard_normal((v, d), dtype=np.float32)
        return (frozen(vectors),), vectors
    if name == "int8":
        kept = rng.integers(-128, 128, (v, d)).astype(np.int8), rng.standard_normal(v).astype(np.float32)
        return tuple(map(frozen, kept)), reference.widen(name, *kept)
    numbers = rng.standard_normal((v, d)).astype(np.float16).view(np.uint16)
    return (frozen(numbers),), reference.widen(name, numbers.view(np.float16) if name == "float16" else numbers)


def pooled(name, kept, rows, offsets, pooling, *, weights=NO_WEIGHTS, normalize=False, cuts=()):
    """Run a kernel over rows that come in pieces."""
    n, d = len(offsets) - 1, kept[0].shape[1]
    out, counts, sums = np.full((n, d), np.nan, np.float32), np.full(n, -7), np.full(d, np.nan)
    document = 0
    bounds = [int(offsets[0]), *sorted(cuts), int(offsets[-1])]
    for first, last in pairwise(bounds):
        document = KERNELS[name](
            *kept,
            frozen(weights),
            frozen(rows[first:last]),
            first,
            frozen(offsets),
            POOLINGS[pooling],
            normalize,
            document,
            n,
            sums,
            counts,
            out,
        )
    assert document == n
    return out, counts


@st.composite
def documents(draw):
    """Draw documents of rows, some of which do not exist, and the places where their rows are cut."""
    texts = draw(st.lists(st.lists(st.integers(-1, 8), max_size=11), max_size=6))
    rows = np.array([row for text in texts for row in text], np.int64)
    offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)
    cuts = draw(st.sets(st.integers(1, max(1, len(rows) - 1)), max_size=5)) if len(rows) > 1 else set()
    return rows, offsets, cuts


@given(
    case=documents(),
    name=st.sampled_from(list(KERNELS)),
    pooling=st.sampled_from(list(POOLINGS)),
    d=st.sampled_from([1, 2, 7, 8, 9, 50]),
    weighted=st.booleans(),
    normalize=st.booleans(),
)
def test_pooling_agrees_with_a_loop_wherever_rows_are_cut(case, name, pooling, d, weighted, normalize):
    rows, offsets, cuts = case
    kept, vectors = stored(name, 8, d)
    weights = np.random.default_rng(1).random(8, np.float32) if weighted and pooling in ("mean", "sum") else None
    given = {} if weights is None else {"weights": weights}
    found, counts = pooled(name, kept, rows, offsets, pooling, normalize=normalize, cuts=cuts, **given)
    expected, expected_counts = reference.pool(vectors, rows, offsets, pooling, weights=weights, normalize=normalize)
    np.testing.assert_array_equal(found, expected)
    assert counts.tolist() == expected_counts


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("row", [-(2**63), -(2**40), -2, -1, 4, 2**31, 2**40, 2**63 - 1])
@pytest.mark.parametrize("v", [0, 4])
def test_pooling_never_follows_a_row_that_is_not_there(name, pooling, row, v):
    kept, _ = stored(name, v, 3)
    rows, offsets = np.full(40, row, np.int64), np.array([0, 30, 40])
    found, counts = pooled(name, kept, rows, offsets, pooling, weights=np.ones(v, np.float32))
    assert not found.any()
    assert not counts.any()


def test_pooling_writes_its_documents_alone():
    kept, vectors = stored("float32", 4, 3)
    out, counts = np.full((4, 3), np.nan, np.float32), np.full(4, -7)
    offsets, rows = np.array([0, 2, 3, 5, 9]), np.arange(2, 5) % 4
    done = pool_rows(*kept, NO_WEIGHTS, rows, 2, offsets, SUM, False, 1, 3, np.empty(3), counts, out)
    assert done == 3
    assert counts.tolist() == [-7, 1, 2, -7]
    np.testing.assert_array_equal(out[1], vectors[2])
    assert np.isnan(out[[0, 3]]).all()


def test_a_document_that_rows_do_not_finish_is_returned():
    kept, _ = stored("float32", 4, 3)
    out, counts = np.full((2, 3), np.nan, np.float32), np.zeros(2, np.int64)
    rows, offsets = np.zeros(3, np.int64), np.array([0, 2, 9])
    assert pool_rows(*kept, NO_WEIGHTS, rows, 0, offsets, SUM, False, 0, 2, np.empty(3), counts, out) == 1
    assert counts.tolist() == [2, 1]
    assert np.isnan(out[1]).all()


def test_a_sum_is_rounded_once():
    vectors = frozen(np.array([[2.0**24], [1.0], [-(2.0**24)]], np.float32))
    rows, offsets = np.array([0, 1, 1, 1, 2]), np.array([0, 5])
    assert pooled("float32", (vectors,), rows, offsets, "sum")[0].item() == 3


def test_rows_are_added_in_the_order_of_their_tokens():
    vectors = frozen(np.array([[1e30], [1], [-1e30], [2], [4]], np.float32))
    for rows in map(np.array, permutations(range(5))):
        found, _ = pooled("float32", (vectors,), rows, np.array([0, 5]), "sum")
        np.testing.assert_array_equal(found, reference.pool(vectors, rows, [0, 5], "sum")[0])


@pytest.mark.parametrize("rows", [[0, 1], [1, 0]])
def test_a_nan_stays_the_largest(rows):
    vectors = frozen(np.array([[np.nan, 1, -np.inf], [5, np.nan, -1]], np.float32))
    found, _ = pooled("float32", (vectors,), np.array(rows), np.array([0, 2]), "max")
    np.testing.assert_array_equal(found, [[np.nan, np.nan, -1]])
