import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from vecstore.index import new_memo
from vecstore.kernels.recalling import find_tokens
from vecstore.keys import frozen

KEYS = [b"a", b"a\0", b"", b"x" * 8, b"x" * 9, b"x" * 15, b"x" * 16, b"x" * 17, "größe".encode()]
tokens = st.lists(st.sampled_from(KEYS) | st.binary(max_size=18), max_size=40)


def find(tokens, memo, keys=KEYS):
    table = map(frozen, (reference.fill_slots(keys, 64), *reference.pack(keys)))
    data, offsets = map(frozen, reference.pack(tokens))
    rows = np.full(len(tokens), -7, np.int64)
    find_tokens(data, offsets[:-1], offsets[1:], *table, 0, memo, rows)
    return rows.tolist()


@given(st.lists(tokens, max_size=4), st.sampled_from([1, 4, 1024]))
def test_tokens_are_found_as_in_a_dict_with_a_memo_of_any_size(batches, size):
    memo = new_memo()[:size].copy()
    for batch in batches * 2:  # the second time the memo knows them
        assert find(batch, memo) == reference.find(KEYS, batch).tolist()


@pytest.mark.parametrize("length", range(1, 18))
def test_tokens_that_differ_in_any_byte_are_told_apart(length):
    key = bytes(range(1, length + 1))
    others = [key[:i] + b"\xff" + key[i + 1 :] for i in range(length)] + [key + b"\0", key[:-1]]
    memo = new_memo()[:1].copy()  # whatever comes is compared with what came before it
    wanted = [token for other in others for token in (key, key, other, other)] + [b"." * 20]
    for _ in range(2):
        rows = [find([token, b"." * 20], memo, [key])[0] for token in wanted]
        assert rows == [0 if token == key else -1 for token in wanted]


def test_what_the_memo_knows_is_not_looked_up_again():
    memo = new_memo()
    assert find([b"a", b"b", b"." * 20], memo, [b"a"]) == [0, -1, -1]
    assert find([b"a", b"b", b"." * 20], memo, []) == [0, -1, -1]
    assert find([b"a", b"b", b"." * 20], new_memo(), []) == [-1, -1, -1]


def test_more_tokens_than_a_block_are_found():
    wanted = [b"%d" % (i % 7) for i in range(1000)]
    assert find(wanted, new_memo(), [b"3", b"5"]) == reference.find([b"3", b"5"], wanted).tolist()
