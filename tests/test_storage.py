import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vecstore.gather import gather
from vecstore.keys import frozen
from vecstore.storage import FLOAT32, STORAGE_TYPES, ExactTypes, StorageType, StoredVectors

NAMES = ["float32", "float16", "bfloat16", "int8"]
types = pytest.mark.parametrize("storage", STORAGE_TYPES.values(), ids=repr)
NUMBERS = np.random.default_rng(0).standard_normal((50, 7), dtype=np.float32)
INTEGERS = np.random.default_rng(1).integers(-127, 128, (20, 7)).astype(np.float32)
EXACT = {
    "int8": INTEGERS * np.float32(0.1),
    "float16": NUMBERS.astype(np.float16).astype(np.float32),
    "bfloat16": (NUMBERS.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32),
    "float32": NUMBERS,
}


def stored(storage: StorageType, vectors: np.ndarray) -> StoredVectors:
    kept, refused = storage.store(frozen(vectors), exact=storage.holds(vectors))
    assert refused == -1
    return kept


def test_every_type_has_a_name_and_a_version():
    assert list(STORAGE_TYPES) == NAMES
    assert {name: kept.version for name, kept in STORAGE_TYPES.items()} == {name: 2 for name in NAMES} | {"float32": 1}
    assert STORAGE_TYPES["float32"] is FLOAT32
    assert repr(STORAGE_TYPES["int8"]) == "StorageType('int8')"


@types
def test_a_row_takes_as_many_bytes_as_its_arrays(storage):
    kept = stored(storage, NUMBERS)
    size = kept.array.nbytes + (0 if kept.scales is None else kept.scales.nbytes)
    assert size == len(NUMBERS) * storage.row_bytes(7)


@types
def test_stored_vectors_are_those_of_the_twin(storage):
    kept = stored(storage, NUMBERS)
    assert kept.array.dtype == storage.dtype
    assert (kept.scales is not None) == storage.scaled == (storage.name == "int8")
    assert (kept.shape, kept.ndim, len(kept), kept.dtype) == ((50, 7), 2, 50, np.float32)
    np.testing.assert_array_equal(kept[:], reference.widen(storage.name, kept.array, kept.scales))
    np.testing.assert_allclose(kept[:], NUMBERS, atol=np.abs(NUMBERS).max() / 127)
    np.testing.assert_allclose(kept[:].mean(), NUMBERS.mean(), atol=0.001)


@types
@pytest.mark.parametrize(
    "rows", [slice(None), slice(3, 9), slice(40, 99), slice(9, 3), slice(-5, None), slice(0, 50, 7)]
)
def test_slices_and_arrays_and_rows_agree(storage, rows):
    kept = stored(storage, NUMBERS)
    whole = np.asarray(kept)
    assert whole.dtype == np.float32
    assert kept[rows].tobytes() == whole[rows].tobytes()
    assert kept[rows].dtype == np.float32
    chosen = np.arange(50)[rows]
    assert kept.take(chosen)[:].tobytes() == whole[rows].tobytes()
    assert gather(kept, chosen).tobytes() == whole[rows].tobytes()
    for row in chosen:
        assert kept.row(row).tobytes() == whole[row].tobytes()


@types
def test_a_row_is_a_copy_that_may_be_written_to(storage):
    kept = stored(storage, NUMBERS)
    row = kept.row(3)
    row[:] = 7
    assert not (kept.row(3) == 7).any()


@types
def test_only_float32_is_shared(storage):
    kept = stored(storage, NUMBERS)
    whole = storage is FLOAT32
    assert np.shares_memory(np.asarray(kept), kept.array) == whole
    assert np.shares_memory(kept[2:5], kept.array) == whole
    assert np.asarray(kept, np.float64).dtype == np.float64
    assert not np.shares_memory(np.array(kept), kept.array)


@types
@given(
    rows=hnp.arrays(np.int64, st.integers(0, 60), elements=st.integers(-1, 49)),
    oov=st.floats(width=32, allow_nan=False),
)
def test_gather_agrees_with_a_loop(storage, rows, oov):
    kept = stored(storage, NUMBERS)
    np.testing.assert_array_equal(gather(kept, rows, oov=oov), reference.gather(kept[:], rows, oov))


@types
@pytest.mark.parametrize("d", [1, 300, 200_000])
def test_gather_splits_a_large_batch(monkeypatch, storage, d):
    monkeypatch.setenv("VECSTORE_NUM_THREADS", "3")
    kept = stored(storage, np.random.default_rng(0).standard_normal((20, d), dtype=np.float32))
    rows = np.random.default_rng(0).integers(-1, 20, 900_000 // d + 5)
    out = np.full((len(rows), d), np.nan, np.float32)
    assert gather(kept, rows, out=out, oov=7) is out
    np.testing.assert_array_equal(out, np.vstack([kept[:], np.full((1, d), 7)])[rows])


@types
def test_gather_writes_into_float32_alone(storage):
    kept = stored(storage, NUMBERS)
    with pytest.raises(ValueError, match=r"out: expected float32 of shape \(2, 7\), found"):
        gather(kept, [0, 1], out=np.empty((2, 7), np.float16))


@types
@pytest.mark.parametrize("shape", [(0, 7), (1, 1), (3, 0)])
def test_small_arrays_are_stored(storage, shape):
    kept = stored(storage, np.zeros(shape, np.float32))
    assert kept[:].shape == shape
    assert not kept[:].any()


@pytest.mark.parametrize(
    ("name", "number", "held"),
    [
        ("float16", 65519.996, True),
        ("float16", 65520, False),
        ("float16", np.inf, True),
        ("float16", np.nan, True),
        ("float16", 1e-30, True),
        ("bfloat16", 3.3895e38, True),
        ("bfloat16", 3.4e38, False),
        ("bfloat16", -np.inf, True),
        ("int8", 3.4028235e38, True),
        ("int8", np.inf, False),
        ("int8", np.nan, False),
        ("float32", np.nan, True),
    ],
)
@pytest.mark.parametrize("row", [0, 3])
def test_store_says_which_row_cannot_be_kept(name, number, held, row):
    vectors = np.ones((5, 3), np.float32)
    vectors[row, 2] = number
    kept, refused = STORAGE_TYPES[name].store(vectors)
    assert refused == (-1 if held else row)
    if held:
        assert np.isfinite(kept[:]).all() == np.isfinite(number)


@pytest.mark.parametrize("name", EXACT)
def test_the_smallest_exact_type_is_found(name):
    exact = ExactTypes(7)
    exact.see(EXACT[name])
    assert exact.smallest.name == name
    assert STORAGE_TYPES[name] in exact
    assert FLOAT32 in exact
    assert stored(exact.smallest, EXACT[name])[:].tobytes() == EXACT[name].tobytes()


@pytest.mark.parametrize(("d", "name"), [(1, "bfloat16"), (3, "bfloat16"), (4, "bfloat16"), (5, "int8"), (300, "int8")])
def test_the_smallest_type_counts_scales(d, name):
    exact = ExactTypes(d)
    assert exact.smallest.name == name
    exact.see(np.ones((3, d), np.float32))
    assert exact.smallest.name == name


def test_types_that_failed_do_not_come_back():
    exact = ExactTypes(7)
    for name, smallest in [("int8", "int8"), ("bfloat16", "float32"), ("int8", "float32")]:
        exact.see(EXACT[name])
        assert exact.smallest.name == smallest


@pytest.mark.parametrize(
    ("bits", "smallest"),
    [
        (0x00000000, "int8"),
        (0x80000000, "bfloat16"),  # -0.0, which an integer is not
        (0x7F800000, "bfloat16"),
        (0x7FC00000, "bfloat16"),
        (0x7F810000, "bfloat16"),  # a signalling NaN
        (0x7FC02000, "float16"),
        (0x7F802000, "float32"),  # one that float16 would make quiet
        (0x7FC00001, "float32"),
        (0x00010000, "int8"),
        (0x33800000, "int8"),
        (0x00000001, "int8"),
        (0x3F802000, "int8"),
    ],
)
def test_unusual_numbers_are_kept_bit_for_bit(bits, smallest):
    vectors = np.zeros((2, 9), np.uint32)
    vectors[1, 4] = bits
    exact = ExactTypes(9)
    exact.see(vectors.view(np.float32))
    assert exact.smallest.name == smallest
    assert stored(exact.smallest, vectors.view(np.float32))[:].tobytes() == vectors.tobytes()


@given(st.data())
def test_whatever_is_exact_comes_back(data):
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))
    bits = data.draw(hnp.arrays(np.uint32, shape, elements=st.integers(0, 2**32 - 1)))
    mask = data.draw(st.sampled_from([0xFFFFFFFF, 0xFFFF0000, 0xFFFFE000, 0xBF000000]))
    vectors = (bits & np.uint32(mask)).view(np.float32)
    exact = ExactTypes(shape[1])
    exact.see(vectors)
    for kept in STORAGE_TYPES.values():
        if kept in exact:
            assert stored(kept, vectors)[:].tobytes() == vectors.tobytes()
