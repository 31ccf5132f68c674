import numpy as np

from vecstore.formats.source import SpareArrays


def address(array):
    return array.ctypes.data


def test_arrays_are_used_again_when_nobody_refers_to_them():
    spare = SpareArrays((4, 3), np.float32)
    first = spare.take()
    assert first.shape == (4, 3)
    assert first.dtype == np.float32
    second = spare.take()
    assert not np.shares_memory(first, second)
    place = address(first)
    del first
    third = spare.take()
    assert address(third) == place


def test_arrays_are_not_used_again_while_there_is_a_view_of_them():
    spare = SpareArrays((4, 3), np.float32)
    kept = {
        "part": spare.take()[1:2],
        "other dtype": spare.take().view(np.uint32).reshape(-1)[5:],
        "memory": spare.take().data.cast("B")[3:],
        "part of a part": spare.take()[1:][1:].T,
    }
    for _ in range(3):
        new = spare.take()
        assert not any(np.shares_memory(new, np.asarray(view)) for view in kept.values())


def test_arrays_grow_by_no_more_than_are_held_at_once():
    spare = SpareArrays((1,), np.float32)
    places = set()
    held = []
    for _ in range(100):
        held.append(spare.take())
        places.add(address(held[-1]))
        del held[:-3]
    assert len(places) == 4
