import copy
import pickle

import numpy as np
import pyarrow as pa
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from vecstore.errors import StoreError, VecstoreError
from vecstore.index import KeyIndex, fill_slots, slots_for

KEYS = ["nice", "größe", "", "a\0b", "a", "日本語", "x" * 1000]


@pytest.fixture(scope="module")
def index():
    return KeyIndex.build(KEYS)


@pytest.fixture(scope="module")
def vocabulary():
    return [f"key {i}" for i in range(60_000)]


def damaged(offsets=(0, 4, 9), data=b"nicegreat", slots=None):
    keys = [b"nice", b"great"]
    slots = reference.fill_slots(keys, 8) if slots is None else slots
    return KeyIndex(np.frombuffer(data, np.uint8), np.array(offsets, np.int64), slots, 0)


@pytest.mark.parametrize("n", [0, 1, 1000, 50_000])
def test_find_agrees_with_a_dict(vocabulary, n):
    keys = [f"key {i}" for i in np.random.default_rng(n).integers(0, 70_000, n)]
    rows = KeyIndex.build(vocabulary).find(keys)
    assert rows.dtype == np.int64
    np.testing.assert_array_equal(rows, reference.find(vocabulary, keys))


@given(st.sets(st.text()), st.lists(st.text() | st.binary() | st.none()))
def test_find_agrees_with_a_dict_on_any_text(vocabulary, keys):
    index = KeyIndex.build(sorted(vocabulary))
    np.testing.assert_array_equal(index.find(keys), reference.find(sorted(vocabulary), keys))
    np.testing.assert_array_equal(index.find(vocabulary), [sorted(vocabulary).index(key) for key in vocabulary])


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 1000])
def test_build_holds_any_number_of_keys(vocabulary, n):
    index = KeyIndex.build(vocabulary[:n])
    assert len(index) == n
    assert list(index) == vocabulary[:n]
    np.testing.assert_array_equal(index.find(vocabulary[: n + 1]), [*range(n), -1])


def test_build_takes_arrow_dictionaries():
    assert list(KeyIndex.build(pa.array(KEYS).dictionary_encode())) == KEYS


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["a", None], "key 1: expected a key, found a null"),
        (["a", "\ud800"], "key 1: expected a key, found a null"),
        (["a", "b", "a"], "key 2: 'a' stands at 0 already"),
        (["", "b", ""], "key 2: '' stands at 0 already"),
    ],
)
def test_build_refuses_what_is_no_vocabulary(keys, message):
    with pytest.raises(ValueError, match=message):
        KeyIndex.build(keys)


def test_find_looks_each_distinct_key_of_a_dictionary_up(index):
    keys = pa.array(["nice", None, "great", "nice", "größe"]).dictionary_encode()
    np.testing.assert_array_equal(index.find(keys), [0, -1, -1, 0, 1])


def test_find_splits_a_large_batch(monkeypatch, vocabulary):
    monkeypatch.setenv("VECSTORE_NUM_THREADS", "3")
    index = KeyIndex.build(vocabulary)
    np.testing.assert_array_equal(index.find(vocabulary[::-1]), np.arange(60_000)[::-1])


@pytest.mark.parametrize("row", range(len(KEYS)))
def test_index_is_a_sequence_of_its_keys(index, row):
    key = KEYS[row]
    assert index[row] == index[row - len(KEYS)] == index[np.int64(row)] == key
    assert index.index(key) == index.find_one(key) == index.find_one(key.encode()) == row
    assert index.count(key) == 1
    assert key in index
    assert key.encode() in index


@pytest.mark.parametrize("key", [0, 5, 1.5, None, float("nan"), ["nice"], [1, 2], bytearray(b"nice")], ids=repr)
def test_find_one_refuses_what_is_not_a_key(index, key):
    with pytest.raises(TypeError, match=f"expected str or bytes, found {type(key).__name__}"):
        index.find_one(key)


@pytest.mark.parametrize("seed", [0, 1, 2**63, 2**64 - 1])
def test_index_finds_with_any_seed(seed):
    keys = [key.encode() for key in KEYS]
    data, offsets = reference.pack(keys)
    index = KeyIndex(data, offsets, reference.fill_slots(keys, 16, seed), seed)
    np.testing.assert_array_equal(index.find(KEYS), range(len(KEYS)))
    assert [index.find_one(key) for key in keys] == list(range(len(KEYS)))


UNPICKLED = """
import pickle, sys
index = pickle.load(open(sys.argv[1], "rb"))
print(index.find(["a", "nice", "great"]), index.find_one("nice"), index[0])
"""


def test_index_pickles_into_another_process(index, tmp_path, run_python):
    (tmp_path / "index").write_bytes(pickle.dumps(index))
    assert run_python(UNPICKLED, tmp_path / "index") == "[ 4  0 -1] 0 nice\n"


def test_a_copy_of_an_index_outlives_it():
    index = KeyIndex.build(KEYS)
    index = copy.deepcopy(index)
    others = [KeyIndex.build([f"{i} {j}" for i in range(8)]) for j in range(100)]
    np.testing.assert_array_equal(index.find(KEYS), range(len(KEYS)))
    assert len(others) == 100


@pytest.mark.parametrize("rows", [slice(None), slice(2, 4), slice(None, None, -2), slice(100, 200)], ids=str)
def test_index_slices_like_a_list(index, rows):
    assert index[rows] == KEYS[rows]


def test_index_reverses_like_a_list(index):
    assert list(reversed(index)) == KEYS[::-1]


@pytest.mark.parametrize("key", ["great", "nic", "nicer", "a\0", "\ud800", b"\xff", None, 0, 1.5, ["nice"]], ids=repr)
def test_index_does_not_hold_other_keys(index, key):
    assert key not in index
    assert index.count(key) == 0
    with pytest.raises(ValueError, match="is not in the vocabulary"):
        index.index(key)


@pytest.mark.parametrize("bounds", [(1,), (0, 1), (-3,), (0, -1), (-100, 100)])
@pytest.mark.parametrize("row", [0, 1, 5, 6])
def test_index_of_a_key_within_bounds_is_that_of_a_list(index, row, bounds):
    def answer(sequence):
        try:
            return sequence.index(KEYS[row], *bounds)
        except ValueError:
            return None

    assert answer(index) == answer(KEYS)


@pytest.mark.parametrize("row", [7, -8, 2**70])
def test_index_refuses_a_row_out_of_range(index, row):
    with pytest.raises(IndexError, match="out of range"):
        index[row]


@pytest.mark.parametrize("row", ["nice", 1.0, None])
def test_index_refuses_what_is_not_a_row(index, row):
    with pytest.raises(TypeError, match="integers or slices"):
        index[row]


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ([], "<0 keys: >"),
        (["a"], "<1 keys: 'a'>"),
        (["a", "b", "c"], "<3 keys: 'a', 'b', 'c'>"),
        ([str(i) for i in range(1000)], "<1,000 keys: '0', '1', '2', ...>"),
    ],
)
def test_repr_shows_the_first_keys(keys, shown):
    assert repr(KeyIndex.build(keys)) == shown


def test_index_works_over_writable_arrays():
    index = damaged(slots=reference.fill_slots([b"nice", b"great"], 8).copy())
    np.testing.assert_array_equal(index.find(["great", "nice", "dreadful"]), [1, 0, -1])


@pytest.mark.parametrize("offsets", [(0, 4, 10), (0, -1, 9), (0, 4, 2**62), (4, 0, 9), (-(2**63), 4, 2**63 - 1)])
def test_damaged_offsets_are_an_error_or_a_key_not_found(offsets):
    index = damaged(offsets)
    assert set(index.find(["nice", "great", ""]).tolist()) <= {-1, 0, 1}
    with pytest.raises(StoreError, match=r"offsets of key \d are damaged .*; `vecstore verify` tells more"):
        list(index)


@pytest.mark.parametrize("read", [lambda index: index[1], lambda index: index[:], list])
def test_damaged_keys_are_an_error(read):
    with pytest.raises(StoreError, match=r"key 1 is damaged \('utf-8' codec .*\); `vecstore verify` tells more"):
        read(damaged(data=b"nice\xff\xff\xff\xff\xff"))


def test_keys_before_a_damaged_one_are_read():
    keys = iter(damaged(data=b"nice\xff\xff\xff\xff\xff"))
    assert next(keys) == "nice"
    with pytest.raises(StoreError, match="key 1 is damaged"):
        next(keys)


def test_many_keys_are_those_that_it_was_built_of():
    keys = [f"key {i}" for i in range(10_000)]
    index = KeyIndex.build(keys)
    assert list(index) == index[:] == keys
    assert index[4_000:9_000] == keys[4_000:9_000]


@pytest.mark.parametrize("slot", [1, 2**64 - 1, 3 << 32 | 200])
def test_damaged_slots_are_a_key_not_found(slot):
    assert damaged(slots=np.full(8, slot, np.uint64)).find(["nice", "great"]).tolist() == [-1, -1]


@pytest.mark.parametrize(("keys", "slots"), [(0, 8), (1, 8), (4, 8), (5, 16), (2**20, 2**21), (2**20 + 1, 2**22)])
def test_slots_for_leaves_half_a_table_empty(keys, slots):
    assert slots_for(keys) == slots


def test_fill_slots_agrees_with_reference():
    keys = [b"%d" % i for i in range(1000)]
    slots = np.zeros(2048, np.uint64)
    seed, repeats = fill_slots(*reference.pack(keys), slots)
    assert (seed, repeats.shape) == (0, (0, 2))
    np.testing.assert_array_equal(slots, reference.fill_slots(keys, 2048))


def test_fill_slots_names_each_repeat_and_its_first_row(monkeypatch):
    monkeypatch.setattr("vecstore.index._CHUNK", 4)
    keys = [b"a", b"b", b"a", b"c", b"b", b"d", b"a", b"e", b"f", b"g", b"h"]
    _, repeats = fill_slots(*reference.pack(keys), np.zeros(32, np.uint64))
    assert repeats.tolist() == [[2, 0], [4, 1], [6, 0]]


def test_fill_slots_takes_the_next_seed_when_keys_lie_too_far():
    slots = np.full(8, 1, np.uint64)
    seed, _ = fill_slots(*reference.pack([b"nice"]), slots)
    assert seed == 1
    np.testing.assert_array_equal(slots, reference.fill_slots([b"nice"], 8, seed=1))


def test_fill_slots_gives_up_when_keys_collide_under_every_seed():
    with pytest.raises(VecstoreError, match="the keys were made to collide under XXH64; they cannot be indexed"):
        fill_slots(*reference.pack([b"%d" % i for i in range(9)]), np.zeros(8, np.uint64))
