import sys
import warnings
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from files import numbered, read_records
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import vecstore
from vecstore.formats.memory import MemorySource
from vecstore.formats.rows import BLOCK_BYTES
from vecstore.formats.word2vec import DIM_LIMIT

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from gensim.models import KeyedVectors

KEYS = ["nice", "größe", "", "a\0b", "nice"]
VECTORS = np.arange(10, dtype=np.float32).reshape(5, 2)


class Lazy:
    """An array on disk, as h5py gives it: slices are arrays, and all of it at once is more than there is room for."""

    def __init__(self, vectors):
        self.shape, self.dtype, self._vectors = vectors.shape, vectors.dtype, vectors
        self.largest = 0

    def __getitem__(self, rows):
        part = self._vectors[rows]
        self.largest = max(self.largest, part.nbytes)
        return part

    def __array__(self, dtype=None, copy=None):
        raise MemoryError


def assert_reads(source, keys, vectors):
    found_keys, found = read_records(source)
    assert found_keys == [key.encode() if isinstance(key, str) else key for key in keys]
    np.testing.assert_array_equal(found.view(np.uint32), np.asarray(vectors, np.float32).view(np.uint32))


def assert_refuses(source, message, error=vecstore.FormatError):
    with pytest.raises(error, match=message):
        read_records(source)


@pytest.mark.parametrize(
    "make",
    [
        list,
        tuple,
        iter,
        lambda keys: [key.encode() for key in keys],
        lambda keys: np.array(keys, object),
        pa.array,
        lambda keys: pa.array(keys).dictionary_encode(),
        pd.Series,
        lambda keys: pd.Series(keys, dtype="category"),
        pl.Series,
    ],
)
def test_keys_come_in_whatever_holds_them(make):
    assert_reads((make(KEYS), VECTORS), KEYS, VECTORS)


def test_keys_may_be_a_dict_in_its_order():
    assert_reads((dict.fromkeys("abcde").keys(), VECTORS), list("abcde"), VECTORS)


@pytest.mark.parametrize(
    "make",
    [
        lambda vectors: vectors,
        lambda vectors: vectors.tolist(),
        list,
        tuple,
        np.asfortranarray,
        lambda vectors: np.repeat(vectors, 2, axis=0)[::2],
        lambda vectors: vectors[::-1][::-1],
        lambda vectors: vectors.astype(">f4"),
        lambda vectors: vectors.astype(np.float16),
        lambda vectors: vectors.astype(">f8"),
        lambda vectors: vectors.astype(np.longdouble),
        lambda vectors: vectors.astype(np.int8),
        lambda vectors: vectors.astype(np.uint64),
        lambda vectors: vectors.astype(ml_dtypes.bfloat16),
        pd.DataFrame,
        lambda vectors: pd.DataFrame(vectors, index=[9.0, 3.0, 1.0, 0.0, 2.0]),
        lambda vectors: pl.from_numpy(vectors),
        Lazy,
    ],
)
def test_vectors_come_in_whatever_holds_them(make):
    assert_reads((KEYS, make(VECTORS)), KEYS, VECTORS)


def test_vectors_are_read_a_few_megabytes_at_a_time(tmp_path):
    keys, vectors = numbered(20_000, 300)
    np.save(tmp_path / "vectors.npy", vectors)
    lazy = Lazy(vectors)
    assert_reads((keys, lazy), keys, vectors)
    assert lazy.largest <= BLOCK_BYTES < vectors.nbytes
    assert_reads((keys, np.load(tmp_path / "vectors.npy", mmap_mode="r")), keys, vectors)


def test_blocks_are_numbered_on_and_belong_to_the_receiver():
    keys, buffer = ["?"] * 3, np.zeros((3, 2), np.float32)

    def fill():
        for number in range(4):
            keys[:] = [f"{number}.{row}" for row in range(3)]
            buffer[:] = number
            yield keys, buffer

    blocks = list(MemorySource(fill()).blocks())
    assert [block.first for block in blocks] == [0, 3, 6, 9]
    assert [block.positions.tolist() for block in blocks] == [list(range(i, i + 3)) for i in range(0, 12, 3)]
    assert [block.data.tobytes() for block in blocks] == [f"{i}.0{i}.1{i}.2".encode() for i in range(4)]
    assert [block.vectors.tolist() for block in blocks] == [[[float(i)] * 2] * 3 for i in range(4)]


@pytest.mark.parametrize(
    "make",
    [
        iter,
        list,
        lambda pairs: (list(pair) for pair in pairs),
        lambda pairs: tuple(pairs),
        lambda pairs: [([], np.empty((0, 7))), *pairs[:1], ([], []), *pairs[1:]],
    ],
)
def test_source_may_be_an_iterable_of_pairs(make):
    pairs = [(KEYS, VECTORS), (["x"], [[1, 2]]), (["y", "z"], np.ones((2, 2), np.float64))]
    assert_reads(make(pairs), [*KEYS, "x", "y", "z"], [*VECTORS, [1, 2], [1, 1], [1, 1]])


def test_iterable_is_asked_for_its_first_pair_alone_until_it_is_read():
    asked = []

    def pairs():
        for number in range(3):
            asked.append(number)
            yield [f"k{number}"], [[number, 1, 2]]

    source = MemorySource(pairs())
    assert (asked, source.dim, source.expected, source.departures) == ([0], 3, 0, [])
    assert source.description == vecstore.layout.Source("memory", 0, "memory")
    assert len(list(source.blocks())) == 3
    assert source.description.size == source.done == 3 * 3 * 8


def test_matrix_says_how_much_there_is_of_it():
    source = MemorySource((KEYS, VECTORS.astype(np.float16)))
    assert (source.dim, source.expected, source.done) == (2, 5, 0)
    assert source.description == vecstore.layout.Source("memory", 20, "memory")
    assert source.locate(1_234, 5) == "memory: row 1,234"
    list(source.blocks())
    assert source.done == 20
    source.close()
    assert list(source.blocks()) == []


def test_keyed_vectors_of_gensim_are_a_source():
    model = KeyedVectors(2)
    model.add_vectors(["nice", "größe"], VECTORS[:2])
    assert_reads(model, ["nice", "größe"], VECTORS[:2])
    description = MemorySource(model).description
    assert (description.name, description.format, description.size) == ("KeyedVectors", "gensim", 16)


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        (["a", 3, "c"], TypeError, "KeyedVectors: key 1: expected str, bytes or None, found int: 3"),
        (["a", "b", None], vecstore.FormatError, "KeyedVectors: row 2: expected a key, found a null .*; leave its row"),
        (["a", "b"], vecstore.FormatError, "expected a key for each vector, found 2 keys and 3 vectors"),
    ],
)
def test_keyed_vectors_with_odd_keys_are_refused(keys, error, message):
    model = KeyedVectors(2)
    model.index_to_key, model.vectors = keys, VECTORS[:3]
    assert_refuses(model, message, error)


def test_store_is_a_source(store, small_keys, small_vectors):
    assert_reads(store, small_keys, small_vectors)
    assert MemorySource(store).description.name == "VectorStore"


def test_objects_are_recognised_by_their_attributes_alone():
    assert_reads(SimpleNamespace(index_to_key=["a"], vectors=[[1, 2]]), ["a"], [[1, 2]])
    assert_reads(SimpleNamespace(keys=["a"], vectors=[[1, 2]]), ["a"], [[1, 2]])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (3, r"expected a path, a tuple \(keys, vectors\), an iterable of such tuples, gensim's .*, found int"),
        (None, "found NoneType"),
        ("text", "found str"),
        (b"bytes", "found bytes"),
        (bytearray(b"bytes"), "found bytearray"),
        ({"nice": [1, 2]}, "found dict"),
        ({"nice"}, "found set"),
        (VECTORS, r"memory: block 0: expected a tuple \(keys, vectors\), found ndarray"),
        (["nice"], r"memory: block 0: expected a tuple \(keys, vectors\), found str"),
        ([(["a"],)], r"memory: block 0: expected a tuple \(keys, vectors\), found tuple"),
        ([(["a"], [[1]]), None], r"memory: block 1: expected a tuple \(keys, vectors\), found NoneType"),
        (
            [("nice", [1.0, 2.0])],
            "memory: block 0: expected a batch of keys, found one str: 'nice'; put it into a list",
        ),
        (("nice", VECTORS), "memory: expected a batch of keys, found one str"),
        (([1, 2], VECTORS[:2]), "memory: key 0: expected str, bytes or None, found int: 1"),
        (({"a", "b"}, VECTORS[:2]), "memory: expected keys in the order of the vectors, found set"),
        (({"a": 1, "b": 0}, VECTORS[:2]), "memory: expected keys in the order of the vectors, found dict"),
        ((["a"], np.ma.masked_equal([[1, 2]], 2)), r"memory: expected vectors without a mask; .*vectors\.filled\(0\)"),
    ],
)
def test_other_objects_are_refused(source, message):
    with pytest.raises(TypeError, match=message):
        list(MemorySource(source).blocks())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ((["a", "b"], VECTORS), "memory: expected a key for each vector, found 2 keys and 5 vectors"),
        ((["a"], []), "memory: expected a key for each vector, found 1 keys and 0 vectors"),
        (([], []), "memory: expected at least one key with its vector, found none"),
        (([], np.empty((0, 3))), "memory: expected at least one key with its vector, found none"),
        ([], "memory: expected at least one key with its vector, found none"),
        (iter([([], [])]), "memory: expected at least one key with its vector, found none"),
        ((["a"], np.empty((1, 0))), r"memory: expected at least one vector of 1 to .* numbers, found shape \(1, 0\)"),
        (
            (["a"], np.lib.stride_tricks.as_strided(np.zeros(1), (1, DIM_LIMIT + 1), (0, 0))),
            r"found shape \(1, 1048577\)",
        ),
        ((["a", "b"], [1.0, 2.0]), r"memory: expected a matrix \(rows, dim\), found shape \(2,\)"),
        ((["a"], np.ones((1, 2, 3))), r"memory: expected a matrix \(rows, dim\), found shape \(1, 2, 3\)"),
        ((["a"], np.float32(3)), r"memory: expected a matrix \(rows, dim\), found one float32"),
        ((["a"], 3), r"memory: expected a matrix \(rows, dim\), found one ndarray"),
        ((["a", "b"], [[1.0, 2.0], [3.0]]), "memory: rows 0 to 1: expected vectors of one width: "),
        ((["a"], [[1.0, [2.0]]]), "memory: expected vectors of one width: "),
        ((["a"], [["1", "2"]]), "memory: expected real numbers, found dtype <U1"),
        ((["a"], [[1j, 2]]), "memory: expected real numbers, found dtype complex128"),
        ((["a"], [[None, 2]]), r"memory: expected numbers, found Python objects; .*astype\('float32'\)"),
        ((["a", "b"], [[1, 2], [None, 2]]), "memory: expected numbers, found Python objects"),
        ((["a"], np.zeros((1, 2), "datetime64[s]")), r"memory: expected real numbers, found dtype datetime64\[s\]"),
        ((["a", None], VECTORS[:2]), r"memory: row 1: expected a key, found a null \(None, NaN, or a str"),
        ((["a", "\ud800"], VECTORS[:2]), "memory: row 1: expected a key, found a null"),
        ((pa.array(["a", None]), VECTORS[:2]), "memory: row 1: expected a key, found a null"),
        ([(["a"], [[1]]), (["b", None], [[1], [2]])], "memory: row 2: expected a key, found a null"),
        ([(["a"], [[1]]), (["b"], [[1, 2]])], "memory: block 1: expected vectors of 1 numbers, found 2"),
        ([(["a"], [[1]]), (["b"], [])], "memory: block 1: expected a key for each vector, found 1 keys and 0 vectors"),
        (
            (["a", "b"], [[0, 1], [2, 1e39]]),
            r"memory: row 1: expected numbers within float32 .*, found 1e\+39 at pos.* 1",
        ),
        ([(["a"], [[1.0]]), (["b"], [[-1e39]])], r"memory: row 1: expected numbers within float32 .*, found -1e\+39"),
    ],
)
def test_source_that_is_no_matrix_with_keys_is_refused(source, message):
    assert_refuses(source, message)


def test_array_that_gives_fewer_rows_than_it_has_is_refused():
    class Short(Lazy):
        def __getitem__(self, rows):
            return super().__getitem__(rows)[: rows.stop - 1 or 1]

    assert_refuses(
        (["a", "b", "c"], Short(np.ones((3, 2)))),
        r"memory: expected rows 0 to 2 to be vectors of 2 numbers, found shape \(2, 2\)",
    )


def test_unusual_numbers_are_kept_bit_for_bit():
    bits = np.array([[0x7FC01234, 0xFFA00001], [0x7F800000, 0xFF800000], [1, 0x80000000]], np.uint32)
    for vectors in bits.view(np.float32), bits.byteswap().view(">f4"):
        assert_reads((["a", "b", "c"], vectors), ["a", "b", "c"], bits.view(np.float32))


def test_numbers_are_rounded_without_a_warning():
    vectors = np.array([[np.nan, np.inf, -np.inf, 1e-300, 1 + 1e-9, -1e-46]])
    with np.errstate(all="raise"):
        assert_reads((["a"], vectors), ["a"], [[np.nan, np.inf, -np.inf, 0, 1, -0.0]])


@given(
    hnp.arrays(
        st.sampled_from([np.float64, np.float16, np.int64, np.uint8, np.float32]),
        st.tuples(st.integers(1, 4), st.just(3)),
    )
)
def test_every_number_is_the_nearest_float32_or_an_error(vectors):
    keys = [f"k{i}" for i in range(len(vectors))]
    with np.errstate(all="ignore"):
        expected = vectors.astype(np.float32)
    if np.any(np.isinf(expected) & np.isfinite(vectors)):
        assert_refuses((keys, vectors), "expected numbers within float32")
    else:
        np.testing.assert_array_equal(read_records((keys, vectors))[1], expected)


def test_source_is_let_go_when_closed():
    vectors = VECTORS.copy()
    source = MemorySource((KEYS, vectors))
    held = sys.getrefcount(vectors)
    source.close()
    assert sys.getrefcount(vectors) < held


def test_convert_takes_vectors_in_memory(tmp_path):
    report = vecstore.convert((KEYS, VECTORS), tmp_path / "v.vecstore")
    store = vecstore.open(tmp_path / "v.vecstore")
    assert list(store.keys) == KEYS[:4]
    np.testing.assert_array_equal(store.vectors, VECTORS[:4])
    assert report.dropped["duplicates"] == 1
    assert report.source == vecstore.layout.Source("memory", 40, "memory")
