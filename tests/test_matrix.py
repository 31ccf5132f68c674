import pickle

import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from vecstore.errors import VocabularyError
from vecstore.index import KeyIndex
from vecstore.keys import frozen
from vecstore.matrix import EmbeddingMatrix, align
from vecstore.storage import FLOAT32, StoredVectors

KEYS = ["nice", "great", "größe", "", "[UNK]", "best"]
VECTORS = frozen(np.random.default_rng(0).standard_normal((len(KEYS), 5), dtype=np.float32))
MOMENTS = frozen(np.stack([VECTORS.mean(axis=0), VECTORS.std(axis=0)]).astype(np.float64))
KNOWN = dict(zip(KEYS, VECTORS, strict=True))
INDEX = KeyIndex.build(KEYS)

POLICIES = {
    "zeros": lambda key: 0,
    "mean": lambda key: MOMENTS[0],
    "normal": lambda key: reference.normal(key.encode(), 0, *MOMENTS.tolist()),
}


# Names that a vocabulary gives to padding and to unknown words have tests of their own.
ordinary = (st.sampled_from(KEYS) | st.text()).filter(lambda key: key not in ("", "[UNK]"))
vocabularies = st.lists(ordinary, unique=True).flatmap(
    lambda keys: st.permutations(range(len(keys) + 3)).map(lambda rows: dict(zip(keys, rows, strict=False)))
)


def aligned(vocabulary, **options):
    return align(INDEX, StoredVectors(FLOAT32, VECTORS), MOMENTS, vocabulary, **options)


@pytest.mark.parametrize("oov", POLICIES)
@given(rows=vocabularies)
def test_matrix_agrees_with_a_loop(oov, rows):
    matrix = aligned(rows, oov=oov)
    np.testing.assert_allclose(matrix.vectors, reference.align(KNOWN, rows, POLICIES[oov]), rtol=1e-5, atol=1e-6)
    assert matrix.vectors.dtype == np.float32
    assert set(np.flatnonzero(matrix.found)) == {row for key, row in rows.items() if key in KNOWN}
    assert matrix.missing == [key for key in rows if key not in KNOWN]
    assert matrix.coverage == (sum(key in KNOWN for key in rows) / len(rows) if rows else 1)


def test_matrix_holds_found_vectors_bit_for_bit():
    matrix = aligned({"nice": 3, "größe": 1})
    assert matrix.vectors[[3, 1]].tobytes() == VECTORS[[0, 2]].tobytes()


def test_matrix_of_nothing_has_no_rows():
    matrix = aligned({})
    assert (matrix.vectors.shape, matrix.found.shape, matrix.missing, matrix.coverage) == ((0, 5), (0,), [], 1.0)


@pytest.mark.parametrize("oov", ["zeros", "mean", "normal", np.ones(5), lambda keys: np.ones((len(keys), 5))])
def test_matrix_leaves_rows_without_a_key_zero(oov):
    matrix = aligned({"nice": 2, "dreadful": 5}, oov=oov)
    assert not matrix.vectors[[0, 1, 3, 4]].any()
    assert matrix.found.tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize("oov", ["mean", "normal", np.ones(5), lambda keys: np.ones((len(keys), 5))])
def test_matrix_gives_padding_zeros_and_unknown_keys_a_vector(oov):
    matrix = aligned(["", "[UNK]", "nice", "dreadful"], oov=oov)
    assert matrix.vectors.any(axis=1).tolist() == [False, True, True, True]
    assert matrix.found.tolist() == [False, False, True, False]
    assert (matrix.missing, matrix.coverage) == (["dreadful"], 0.5)


@pytest.mark.parametrize("oov", ["mean", "normal"])
def test_matrix_of_an_enumerated_keras_vocabulary_equals_that_of_the_vocabulary(oov):
    keys = ["", "[UNK]", "nice", "dreadful"]
    index = KeyIndex.build(KEYS[:3])
    by_row, by_mapping = (
        align(index, StoredVectors(FLOAT32, VECTORS[:3]), MOMENTS, vocabulary, oov=oov)
        for vocabulary in (keys, {key: row for row, key in enumerate(keys)})
    )
    np.testing.assert_array_equal(by_mapping.vectors, by_row.vectors)
    assert by_mapping.missing == by_row.missing == ["dreadful"]


@pytest.mark.parametrize("keys", [["b", "a"], ["a", "nice", "c", "b"], [*map(str, range(1000)), "b", "a"]])
def test_normal_gives_a_key_the_same_vector_in_every_vocabulary(keys):
    matrix, alone = aligned(keys, oov="normal", seed=7), aligned(["a", "b"], oov="normal", seed=7)
    np.testing.assert_array_equal(matrix.vectors[[keys.index("a"), keys.index("b")]], alone.vectors)


def test_normal_gives_str_and_bytes_the_same_vector():
    vectors = aligned({"süß": 0, "süß".encode(): 1}, oov="normal").vectors
    np.testing.assert_array_equal(vectors[0], vectors[1])


def test_normal_gives_each_key_and_seed_a_vector_of_its_own():
    vectors = np.vstack(
        [
            aligned(["a", "b", "lone \ud800", "lone \ud801"], oov="normal", seed=seed).vectors
            for seed in (0, 1, 2**64 - 1)
        ]
    )
    assert len(np.unique(vectors, axis=0)) == 12


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_normal_refuses_a_seed_out_of_range(seed):
    with pytest.raises(ValueError, match=rf"seed: expected 0 <= seed < 2\*\*64, found {seed}"):
        aligned(["dreadful"], oov="normal", seed=seed)


def test_normal_has_the_moments_of_the_store():
    vectors = aligned([f"missing {i}" for i in range(20_000)], oov="normal").vectors
    np.testing.assert_allclose(vectors.mean(axis=0), MOMENTS[0], atol=0.05)
    np.testing.assert_allclose(vectors.std(axis=0), MOMENTS[1], atol=0.05)


def test_callable_gets_the_missing_keys_at_once():
    calls = []

    def oov(keys):
        calls.append(keys)
        return [[len(key)] * 5 for key in keys]

    matrix = aligned({"nice": 0, "a": 2, "bbb": 1, "best": 3}, oov=oov)
    assert calls == [["a", "bbb"]]
    np.testing.assert_array_equal(matrix.vectors[[2, 1]], [[1] * 5, [3] * 5])


def test_callable_is_not_called_for_nothing():
    aligned(["nice"], oov=lambda keys: pytest.fail("called"))


@pytest.mark.parametrize(
    ("oov", "message"),
    [
        ("zero", "oov: expected 'zeros', 'mean', 'normal', an array or a callable, found 'zero'"),
        (np.ones(4), r"oov: expected the array to be numbers of shape \(5,\), found float64 of \(4,\)"),
        (np.ones((1, 5)), r"oov: expected the array to be numbers of shape \(5,\), found float64 of \(1, 5\)"),
        (0.5, r"oov: expected the array to be numbers of shape \(5,\), found float64 of \(\)"),
        (["a"] * 5, r"oov: expected the array to be numbers of shape \(5,\), found <U1 of \(5,\)"),
        (None, r"oov: expected the array to be numbers of shape \(5,\), found object of \(\)"),
        (
            lambda keys: np.ones(5),
            r"oov: expected the callable's result to be numbers of shape \(2, 5\), found float64 of \(5,\)",
        ),
        (lambda keys: np.ones((3, 5)), r"oov: expected the callable's result to be numbers of shape \(2, 5\)"),
        (
            lambda keys: None,
            r"oov: expected the callable's result to be numbers of shape \(2, 5\), found object of \(\)",
        ),
    ],
)
def test_oov_that_does_not_fit_is_refused(oov, message):
    with pytest.raises(ValueError, match=message):
        aligned(["a", "b"], oov=oov)


@pytest.mark.parametrize("vocabulary", [{"a": 0, "b": 0}, {"a": -1}, {"a": 1.5}, ["a", None]])
def test_what_is_no_vocabulary_is_refused(vocabulary):
    with pytest.raises(VocabularyError, match=r"share row 0|0 or more|an integer row|keys in row order"):
        aligned(vocabulary)


@pytest.mark.parametrize("oov", ["zeros", "mean"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, "float64", np.longdouble])
def test_matrix_is_of_the_dtype_asked_for(dtype, oov):
    expected = aligned(["nice", "a"], oov=oov).vectors
    matrix = aligned(["nice", "a"], oov=oov, dtype=dtype)
    assert matrix.vectors.dtype == dtype
    np.testing.assert_allclose(matrix.vectors, expected, rtol=1e-3)


@pytest.mark.parametrize("dtype", [int, "uint8", "S4", object, complex])
def test_a_dtype_that_is_no_float_is_refused(dtype):
    with pytest.raises(ValueError, match="dtype: expected a float type, found"):
        aligned(["nice"], dtype=dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_matrix_fills_out(dtype):
    out = np.full((3, 5), 7, dtype)
    matrix = aligned({"nice": 1, "a": 2}, out=out, dtype=dtype)
    assert matrix.vectors is out
    np.testing.assert_array_equal(out, [np.zeros(5), VECTORS[0], np.zeros(5)])


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.empty((3, 5), np.float32), r"out: expected float32 of shape \(2, 5\), found float32 of shape \(3, 5\)"),
        (np.empty((5, 2), np.float32).T, "out: expected a writable, C-contiguous array"),
        (frozen(np.empty((2, 5), np.float32)), "out: expected a writable, C-contiguous array"),
    ],
)
def test_out_that_does_not_fit_is_refused(out, message):
    with pytest.raises(ValueError, match=message):
        aligned(["nice", "a"], out=out)


def test_an_error_leaves_out_alone():
    out = np.full((1, 5), 7, np.float32)
    with pytest.raises(ValueError, match="oov: expected"):
        aligned(["a"], out=out, oov="zero")
    assert (out == 7).all()


@pytest.mark.parametrize(
    ("vocabulary", "text"),
    [
        ([], "0 of 0 keys found (100.0%)"),
        (["nice", "great"], "2 of 2 keys found (100.0%)"),
        (["nice", "a"], "1 of 2 keys found (50.0%); missing: 'a'"),
        (["nice", *"abcde"], "1 of 6 keys found (16.7%); missing: 'a', 'b', 'c', 'd', 'e'"),
        ([*"abcdefg"], "0 of 7 keys found (0.0%); missing: 'a', 'b', 'c', 'd', 'e' and 2 more"),
        (["", "[UNK]", "nice"], "1 of 1 keys found (100.0%)"),
        (
            [str(i) for i in range(2000)],
            "0 of 2,000 keys found (0.0%); missing: '0', '1', '2', '3', '4' and 1,995 more",
        ),
        ([np.str_("a")], "0 of 1 keys found (0.0%); missing: 'a'"),
        ({np.str_("a"): 0}, "0 of 1 keys found (0.0%); missing: 'a'"),
    ],
)
def test_matrix_says_what_it_found(vocabulary, text):
    matrix = aligned(vocabulary)
    assert str(matrix) == text
    assert repr(matrix) == f"EmbeddingMatrix({len(vocabulary):,} x 5 float32: {text})"


@pytest.mark.parametrize(("found", "text"), [(14, "14 of 15 keys found (93.3%)"), (1999, "1,999 of 2,000 keys found")])
def test_matrix_rounds_its_coverage(found, text):
    missing = ["a"] * (15 - found if found < 15 else 1)
    assert str(EmbeddingMatrix(np.zeros((found, 1), np.float32), np.ones(found, bool), missing)).startswith(text)


def test_matrix_is_an_array():
    matrix = aligned(["nice", "great"])
    assert np.asarray(matrix) is matrix.vectors
    assert np.array(matrix) is not matrix.vectors
    assert np.asarray(matrix, np.float64).dtype == np.float64
    np.testing.assert_array_equal(np.array(matrix), VECTORS[:2])
    with pytest.raises(ValueError, match="copy"):
        np.array(matrix, np.float64, copy=False)


def test_matrix_pickles():
    matrix = aligned(["nice", "a"])
    copy = pickle.loads(pickle.dumps(matrix))
    np.testing.assert_array_equal(copy.vectors, matrix.vectors)
    assert repr(copy) == repr(matrix)


def test_matrix_does_not_change():
    with pytest.raises(AttributeError, match="cannot assign to field 'missing'"):
        aligned(["nice"]).missing = []
