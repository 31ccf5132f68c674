from itertools import permutations

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from vecstore.kernels.lanes import LANES
from vecstore.kernels.machine import kernel
from vecstore.kernels.pooling import (
    FIRST,
    MAX,
    MEAN,
    SUM,
    _float16s_by_hand,
    _pool,
    pool_rows,
    pool_rows_bfloat16,
    pool_rows_float16,
    pool_rows_int8,
)
from vecstore.keys import frozen


@kernel("u16[:,:], f32[:], i64[:], i64[:], i64, i64, f64[:], i64[:], f32[:,:]")
def pool_by_hand(vectors, weights, rows, offsets, pooling, normalize, sums, counts, out):
    """`pool_rows_float16` as processors do it that have no instruction for float16."""
    _pool(_float16s_by_hand, vectors, None, weights, rows, offsets, pooling, normalize, sums, counts, out)


KERNELS = {
    "float32": pool_rows,
    "float16": pool_rows_float16,
    "float16 by hand": pool_by_hand,
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
    numbers = rng.standard_normal((v, d)).astype(np.float16)
    if name == "bfloat16":
        return (frozen(numbers.view(np.uint16)),), reference.widen(name, numbers.view(np.uint16))
    return (frozen(numbers.view(np.uint16)),), numbers.astype(np.float32)


def pooled(name, kept, rows, offsets, pooling, *, weights=NO_WEIGHTS, normalize=False):
    n, d = len(offsets) - 1, kept[0].shape[1]
    out, counts, sums = np.full((n, d), np.nan, np.float32), np.full(n, -7), np.full(max(d, LANES), np.nan)
    offsets = frozen(offsets, np.int64)
    KERNELS[name](*kept, frozen(weights), rows.copy(), offsets, POOLINGS[pooling], normalize, sums, counts, out)
    return out, counts


@st.composite
def documents(draw):
    """Draw documents of rows, some of which do not exist: shorter than a group of rows, as long, and longer."""
    texts = draw(st.lists(st.lists(st.integers(-1, 8), max_size=20), max_size=6))
    rows = np.array([row for text in texts for row in text], np.int64)
    return rows, np.concatenate([[0], np.cumsum([len(text) for text in texts])]).astype(np.int64)


@given(
    case=documents(),
    name=st.sampled_from(list(KERNELS)),
    pooling=st.sampled_from(list(POOLINGS)),
    d=st.sampled_from([1, 2, 15, 16, 17, 31, 32, 33, 50]),
    weighted=st.booleans(),
    normalize=st.booleans(),
)
def test_pooling_agrees_with_a_loop(case, name, pooling, d, weighted, normalize):
    rows, offsets = case
    kept, vectors = stored(name, 8, d)
    weights = np.random.default_rng(1).random(8, np.float32) if weighted and pooling in ("mean", "sum") else None
    given = {} if weights is None else {"weights": weights}
    found, counts = pooled(name, kept, rows, offsets, pooling, normalize=normalize, **given)
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


def test_rows_past_the_last_document_are_left_alone():
    kept, vectors = stored("float32", 4, 3)
    found, counts = pooled("float32", kept, np.array([1, 2, 3, 3]), np.array([0, 1, 2]), "sum")
    np.testing.assert_array_equal(found, vectors[[1, 2]])
    assert counts.tolist() == [1, 1]


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
