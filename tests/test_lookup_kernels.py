import itertools

import numpy as np
import pytest
import reference
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from vecstore.kernels.lookup import MAX_PROBE, count_taken, find_rows, hash_keys, insert_rows
from vecstore.keys import frozen

SEEDS = [0, 1, 2**32, 2**64 - 1]
INT64 = np.iinfo(np.int64)


def hashes(keys, seed=0):
    data, offsets = reference.pack(keys)
    out = np.empty(len(keys), np.uint64)
    hash_keys(frozen(data), frozen(offsets[:-1]), frozen(offsets[1:]), np.uint64(seed), 0, len(keys), out)
    return out.tolist()


def find(keys, slots, data, offsets, seed=0):
    batch, bounds = map(frozen, reference.pack(keys))
    table = map(frozen, (slots, data, offsets))
    rows = np.full(len(keys), -7, np.int64)
    find_rows(batch, bounds[:-1], bounds[1:], *table, np.uint64(seed), 0, len(keys), rows)
    return rows.tolist()


def insert(keys, slots, seed=0, start=0, stop=None):
    stop = len(keys) if stop is None else stop
    earlier = np.full(stop - start, -7, np.int64)
    inserted = insert_rows(*map(frozen, reference.pack(keys)), np.uint64(seed), start, stop, slots, earlier)
    return inserted, earlier.tolist()


def keys_at(slot, size, count):
    """Return keys whose first slot in a table of `size` is `slot`."""
    candidates = (b"key %d" % i for i in itertools.count())
    return list(itertools.islice((key for key in candidates if reference.xxh64(key) % size == slot), count))


@pytest.mark.parametrize(
    ("key", "value"),
    [(b"", 0xEF46DB3751D8E999), (b"Nobody inspects the spammish repetition", 0xFBCEA83C8A378BF1)],
)
def test_hash_of_a_published_test_vector_is_as_published(key, value):
    assert hashes([key]) == [reference.xxh64(key)] == [value]


@pytest.mark.parametrize("seed", SEEDS)
def test_hash_agrees_with_reference_and_xxhash_at_every_length(seed):
    keys = [np.random.default_rng(n).bytes(n) for n in range(201)]
    expected = [xxhash.xxh64_intdigest(key, seed) for key in keys]
    assert hashes(keys, seed) == expected
    assert [reference.xxh64(key, seed) for key in keys] == expected


def test_hash_writes_its_range_alone():
    data, offsets = map(frozen, reference.pack([b"a", b"b", b"c", b"d"]))
    out = np.zeros(4, np.uint64)
    hash_keys(data, offsets[:-1], offsets[1:], np.uint64(0), 1, 3, out)
    assert out.tolist() == [0, reference.xxh64(b"b"), reference.xxh64(b"c"), 0]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n", [0, 1, 255, 256, 257, 600])
def test_insert_makes_the_table_that_the_specification_describes(n, seed):
    keys = [b"key %d" % i for i in range(n)]
    slots = np.zeros(2048, np.uint64)
    assert insert(keys, slots, seed) == (n, [-1] * n)
    np.testing.assert_array_equal(slots, reference.fill_slots(keys, 2048, seed))
    assert count_taken(slots) == count_taken(frozen(slots)) == n


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("n", [0, 1, 255, 256, 257, 600])
def test_find_agrees_with_a_dict(n, seed):
    keys = [b"x" * (i % 40) + b"%d" % i for i in range(300)]
    table = reference.fill_slots(keys, 1024, seed), *reference.pack(keys)
    wanted = [b"x" * (i % 40) + b"%d" % (i % 400) for i in range(n)]
    assert find(wanted, *table, seed) == reference.find(keys, wanted).tolist()


def test_find_and_insert_work_on_writable_arrays():
    keys = [b"nice", b"great", "größe".encode()]
    data, offsets = reference.pack(keys)
    slots, earlier, rows = np.zeros(8, np.uint64), np.empty(3, np.int64), np.empty(3, np.int64)
    assert insert_rows(data, offsets, np.uint64(0), 0, 3, slots, earlier) == 3
    find_rows(data, offsets[:-1], offsets[1:], slots, data, offsets, np.uint64(0), 0, 3, rows)
    assert rows.tolist() == [0, 1, 2]


def test_find_writes_its_range_alone():
    keys = [b"a", b"b", b"c", b"d"]
    data, offsets = map(frozen, reference.pack(keys))
    rows = np.full(4, -7, np.int64)
    slots = frozen(reference.fill_slots(keys, 8))
    find_rows(data, offsets[:-1], offsets[1:], slots, data, offsets, np.uint64(0), 1, 3, rows)
    assert rows.tolist() == [-7, 1, 2, -7]


@pytest.mark.parametrize("cut", range(9))
@pytest.mark.parametrize("length", [8, 9, 15, 16, 17])
def test_find_compares_every_byte(length, cut):
    key = bytes(range(length))
    other = key[:cut] + b"\xff" + key[cut + 1 :] if cut < length else key + b"\xff"
    slots = reference.fill_slots([key], 8)
    value = reference.xxh64(other)
    slots[:] = value >> 32 << 32 | 1
    assert find([other], slots, *reference.pack([key])) == [-1]


@pytest.mark.parametrize("slot", [0, 5, 63])
def test_find_follows_keys_that_share_a_first_slot(slot):
    *keys, absent = keys_at(slot, 64, 21)
    slots = np.zeros(64, np.uint64)
    assert insert(keys, slots) == (20, [-1] * 20)
    np.testing.assert_array_equal(slots, reference.fill_slots(keys, 64))
    assert find([*keys, absent], slots, *reference.pack(keys)) == [*range(20), -1]


def test_find_follows_keys_that_share_a_tag():
    keys = [b"one", b"other", b"wanted"]
    value = reference.xxh64(b"wanted")
    slots = np.zeros(8, np.uint64)
    for distance, row in enumerate([0, 1, 2]):
        slots[(value + distance) % 8] = value >> 32 << 32 | row + 1
    assert find([b"wanted"], slots, *reference.pack(keys)) == [2]


def test_insert_names_the_earlier_row_of_a_repeated_key():
    keys = [b"a", b"b", b"a", b"", b"b", b"a", b""]
    slots = np.zeros(16, np.uint64)
    assert insert(keys, slots) == (3, [-1, -1, 0, -1, 1, 0, 3])
    assert find(keys, slots, *reference.pack(keys)) == [0, 1, 0, 3, 1, 0, 3]


def test_insert_in_ranges_finds_repeats_across_them():
    keys = [b"%d" % (i % 300) for i in range(500)]
    slots = np.zeros(1024, np.uint64)
    assert insert(keys, slots, stop=200) == (200, [-1] * 200)
    assert insert(keys, slots, start=200) == (100, [-1] * 100 + list(range(200)))


@pytest.mark.parametrize(("taken", "expected"), [(MAX_PROBE - 1, 0), (MAX_PROBE, -1)])
def test_probes_end_at_the_limit(taken, expected):
    value = reference.xxh64(b"nice")
    slots = np.zeros(4096, np.uint64)
    slots[(value % 4096 + np.arange(taken)) % 4096] = (value >> 32 ^ 1) << 32 | 1
    inserted, earlier = insert([b"nice"], slots)
    assert (inserted, earlier) == ((1, [-1]) if expected == 0 else (-1, [-1]))
    assert find([b"nice"], slots, *reference.pack([b"nice"])) == [expected]


@pytest.mark.parametrize("size", [1, 2, 8, 1024, 2048])
def test_a_table_without_an_empty_slot_ends_every_probe(size):
    slots = np.full(size, 1, np.uint64)
    assert find([b"nice", b""], slots, *reference.pack([b"great"])) == [-1, -1]
    assert insert([b"nice"], slots)[0] == -1


def test_find_in_no_slots_finds_nothing():
    assert find([b"nice"], np.zeros(0, np.uint64), *reference.pack([])) == [-1]


KEYS = [b"nice", "größe".encode(), b"", b"a longer key than eight bytes"]
HASHES = [reference.xxh64(key) for key in KEYS]


def rows_of_damaged_slots():
    near = st.integers(0, len(KEYS) + 2)
    return st.builds(
        lambda key, row: HASHES[key] >> 32 << 32 | row, st.integers(0, 3), near | st.integers(0, 2**32 - 1)
    )


def damaged_offsets():
    near = st.integers(-3, 50)
    return (
        near
        | st.sampled_from([INT64.min, INT64.max, INT64.min + 50, 2**40, -(2**40)])
        | st.integers(-(2**63), 2**63 - 1)
    )


@given(data=st.data())
def test_find_in_a_damaged_table_returns_only_rows_whose_bytes_are_the_key(data):
    size = data.draw(st.sampled_from([1, 4, 8, 2048]))
    damaged = data.draw(st.lists(rows_of_damaged_slots() | st.integers(0, 2**64 - 1), min_size=1, max_size=8))
    slots = np.resize(np.array(damaged, np.uint64), size)
    key_data, offsets = reference.pack(KEYS)
    for place in data.draw(st.sets(st.integers(0, len(KEYS)))):
        offsets[place] = data.draw(damaged_offsets())
    for key, row in zip(KEYS, find(KEYS, slots, key_data, offsets), strict=True):
        if row != -1:
            low, high = offsets[row].item(), offsets[row + 1].item()
            assert 0 <= low <= high <= len(key_data)
            assert key_data[low:high].tobytes() == key


WRAPPED = """
import numpy as np, reference
from test_lookup_kernels import INT64, find
offsets = np.array([INT64.max, INT64.min + 3])
print(find([b"nice"], reference.fill_slots([b"nice"], 8), np.zeros(8, np.uint8), offsets))
"""


def test_find_ignores_offsets_whose_difference_wraps_to_the_length_of_the_key(run_python):
    assert run_python(WRAPPED) == "[-1]\n"
