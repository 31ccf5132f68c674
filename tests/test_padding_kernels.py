import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from reference import pad

from vecstore.kernels.padding import keep_ids, pad_ids
from vecstore.keys import frozen

IDS = [5, -1, 7, 0, 9]  # the last is what row -1 has
documents = st.lists(st.lists(st.integers(-1, len(IDS) - 2), max_size=8), max_size=8)


def offsets_of(documents):
    return frozen(np.cumsum([0, *map(len, documents)]), np.int64)


def flat(documents, dtype):
    return frozen([number for document in documents for number in document], dtype)


@given(documents, st.integers(0, 9), st.booleans())
def test_ids_that_stay_agree_with_reference(documents, most, from_end):
    rows, bounds = flat(documents, np.int64), offsets_of(documents)
    ids, offsets = np.full(len(rows), -7, np.int32), np.full(len(bounds), -7, np.int64)
    keep_ids(rows, bounds, frozen(IDS, np.int32), most, int(from_end), ids, offsets)
    expected = [[IDS[row] for row in document if IDS[row] >= 0] for document in documents]
    expected = [(kept[-most:] if from_end else kept[:most]) if most else [] for kept in expected]
    assert offsets.tolist() == offsets_of(expected).tolist()
    assert ids[: offsets[-1]].tolist() == flat(expected, np.int32).tolist()


@given(documents, st.integers(0, 3), st.booleans())
def test_padded_ids_agree_with_reference(documents, more, at_start):
    width = max(map(len, documents), default=0) + more
    out = np.full((len(documents), width), -7, np.int32)
    pad_ids(flat(documents, np.int32), offsets_of(documents), 3, int(at_start), 0, len(documents), out)
    assert out.tolist() == pad(documents, width, "pre" if at_start else "post", "pre", 3)


def test_padding_writes_its_range_alone():
    out = np.full((3, 1), -7, np.int32)
    pad_ids(frozen([1, 2, 3], np.int32), frozen([0, 1, 2, 3], np.int64), 0, 1, 1, 2, out)
    assert out.tolist() == [[-7], [2], [-7]]
