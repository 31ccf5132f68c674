import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from vecstore.index import new_memo, slots_for
from vecstore.kernels.counting import COUNT, DOCUMENTS, FIRST, count_keys
from vecstore.keys import frozen

keys = st.sampled_from([b"a", b"b", b"", b"a\0", b"x" * 15, b"x" * 16, b"x" * 40]) | st.binary(max_size=17)


def tally(documents, room, key_bytes, first=0, memo_size=1024):
    """Count documents; return the tallies of each key, and the token at which the kernel stopped."""
    data, offsets = map(frozen, reference.pack([key for document in documents for key in document]))
    bounds = np.cumsum([0, *map(len, documents)]).astype(np.int64)
    slots, used = np.zeros(slots_for(room), np.uint64), np.zeros(1, np.int64)
    key_data, key_offsets = np.zeros(key_bytes, np.uint8), np.zeros(room + 1, np.int64)
    tallies, memo = np.full((room, 4), -7, np.int64), new_memo()[:memo_size].copy()
    batch = data, offsets[:-1], offsets[1:], frozen(bounds)
    stopped = count_keys(*batch, first, 0, 0, slots, key_data, key_offsets, tallies, memo, used)
    found = {}
    for row in range(used[0]):
        key = key_data[key_offsets[row] : key_offsets[row + 1]].tobytes()
        found[key] = tallies[row, [COUNT, DOCUMENTS, FIRST]].tolist()
    return found, stopped


@given(st.lists(st.lists(keys, max_size=30), max_size=20), st.sampled_from([1, 2, 1024]))
def test_tallies_agree_with_reference(documents, memo_size):
    found, stopped = tally(documents, 1024, 1 << 16, memo_size=memo_size)
    assert list(found.items()) == list(reference.tally(documents).items())
    assert stopped == sum(map(len, documents))


def test_tallies_of_many_blocks_agree_with_reference():
    rng = np.random.default_rng(0)
    documents = [[b"%d" % i for i in rng.zipf(1.3, size) % 900] for size in rng.integers(0, 400, 30)]
    found, _ = tally(documents, 1024, 1 << 16, memo_size=64)
    assert list(found.items()) == list(reference.tally(documents).items())


def test_documents_are_numbered_from_the_first():
    assert tally([[b"a"], [], [b"b"]], 8, 8, first=5)[0] == {b"a": [1, 1, 5], b"b": [1, 1, 7]}


@pytest.mark.parametrize(("room", "key_bytes"), [(2, 100), (8, 4), (8, 5)])
def test_the_kernel_stops_at_a_key_without_room_and_has_counted_those_before_it(room, key_bytes):
    documents = [[b"aa", b"bb", b"aa"], [b"aa", b"cc", b"aa"]]
    found, stopped = tally(documents, room, key_bytes)
    assert stopped == 4
    assert found == {b"aa": [3, 2, 0], b"bb": [1, 1, 0]}
