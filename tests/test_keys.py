import threading

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as st

from vecstore.keys import KeyBatch, frozen, is_utf8

KEYS = ["nice", "größe", "", "日本語 🙂", "nice", "x" * 100]
NULLS = ["nice", None, "größe", None, ""]
LONE = "lone \ud800"
String = np.dtypes.StringDType


def encoded(keys):
    return [reference.encode(key) for key in keys]


def arrow(kind, build=lambda keys, make: make(keys)):
    """Return what makes an Arrow array of a type out of str."""
    type_ = getattr(pa, kind)()
    return lambda keys: build(keys, lambda part: pa.array(encoded(part) if "binary" in kind else part, type_))


def chunked(keys, make):
    return pa.chunked_array([make(keys[:2]), make(keys[2:])])


ARROW = ["string", "large_string", "string_view", "binary", "large_binary", "binary_view"]
PANDAS = ["str", object, "category", "string", pd.ArrowDtype(pa.string())]

CONTAINERS = {
    "list": list,
    "tuple": tuple,
    "generator": lambda keys: (key for key in keys),
    "dict values": lambda keys: dict(enumerate(keys)).values(),
    "list of bytes": encoded,
    "NumPy object": lambda keys: np.array(keys, object),
    "NumPy object of bytes": lambda keys: np.array(encoded(keys), object),
    "NumPy strided": lambda keys: np.repeat(np.array(keys, object), 2)[::2],
    "NumPy masked": lambda keys: np.ma.array([key or "" for key in keys], mask=[key is None for key in keys]),
    "NumPy StringDType of None": lambda keys: np.array(keys, String(na_object=None)),
    "NumPy StringDType of NaN": lambda keys: np.array(
        [np.nan if k is None else k for k in keys], String(na_object=np.nan)
    ),
    "NumPy StringDType of NA": lambda keys: np.array(
        [pd.NA if k is None else k for k in keys], String(na_object=pd.NA)
    ),
    **{f"Arrow {kind}": arrow(kind) for kind in ARROW},
    **{f"Arrow {kind} sliced": arrow(kind, lambda keys, make: make(["?", *keys, "?"])[1:-1]) for kind in ARROW},
    **{f"Arrow {kind} chunked": arrow(kind, chunked) for kind in ARROW},
    **{f"Arrow {kind} dictionary": arrow(kind, lambda keys, make: make(keys).dictionary_encode()) for kind in ARROW},
    "Arrow dictionary sliced": lambda keys: pa.array(["?", *keys, "?"]).dictionary_encode()[1:-1],
    "Arrow dictionary chunked": lambda keys: pa.chunked_array([keys[:2], keys[2:]], pa.string()).dictionary_encode(),
    "Arrow dictionaries chunked": arrow(
        "string", lambda keys, make: chunked(keys, lambda part: make(part).dictionary_encode())
    ),
    **{
        f"Arrow dictionary of {index}": lambda keys, index=index: (
            pa.array(keys).dictionary_encode().cast(pa.dictionary(getattr(pa, index)(), pa.string()))
        )
        for index in ("int8", "uint8", "uint32", "int64", "uint64")
    },
    "Arrow dictionary that holds a null": lambda keys: pa.DictionaryArray.from_arrays(
        pa.array(range(len(keys))), pa.array(keys)
    ),
    **{
        f"Arrow {kind} dictionary of more": arrow(
            kind, lambda keys, make: pa.DictionaryArray.from_arrays(pa.array(range(len(keys))), make([*keys, "?", "!"]))
        )
        for kind in ARROW
    },
    "list of NumPy str": lambda keys: [key if key is None else np.str_(key) for key in keys],
    **{f"pandas {kind}": lambda keys, kind=kind: pd.Series(keys, dtype=kind) for kind in PANDAS},
    **{f"pandas index {kind}": lambda keys, kind=kind: pd.Index(keys, dtype=kind) for kind in PANDAS},
    **{f"pandas values {kind}": lambda keys, kind=kind: pd.Series(keys, dtype=kind).values for kind in PANDAS},
    "pandas filtered": lambda keys: pd.Series(["?", *keys])[1:],
    "polars": pl.Series,
    "polars binary": lambda keys: pl.Series(encoded(keys)),
    "polars categorical": lambda keys: pl.Series(keys, dtype=pl.Categorical),
    "polars enum": lambda keys: pl.Series(keys, dtype=pl.Enum(list({key: 0 for key in keys if key is not None}))),
    "polars chunked": lambda keys: pl.concat([pl.Series(keys[:2]), pl.Series(keys[2:])], rechunk=False),
    "polars sliced": lambda keys: pl.Series(["?", *keys, "?"])[1:-1],
}
WITHOUT_NULLS = {
    "NumPy U": np.array,
    "NumPy U of the other byte order": lambda keys: np.array(keys).astype(f">U{max(map(len, keys))}"),
    "NumPy U strided": lambda keys: np.repeat(np.array(keys), 2)[::2],
    "NumPy S": lambda keys: np.array(encoded(keys)),
    "NumPy StringDType": lambda keys: np.array(keys, String()),
    "NumPy StringDType strided": lambda keys: np.repeat(np.array(keys, String()), 2)[::2],
    "dict keys": lambda keys: dict(zip(keys, keys, strict=True)).keys(),
    "index": lambda keys: pd.Index(keys).array,
}


def parameters(*makers):
    return [pytest.param(make, id=name) for group in makers for name, make in group.items()]


@pytest.mark.parametrize("make", parameters(CONTAINERS, WITHOUT_NULLS))
def test_batch_of_a_container_holds_its_keys(make):
    keys = list(dict.fromkeys(KEYS))
    assert reference.entries(KeyBatch.of(make(keys))) == [reference.encode(key) for key in keys]


@pytest.mark.parametrize("make", parameters(CONTAINERS))
def test_batch_of_a_container_holds_its_nulls_and_repeats(make):
    keys = NULLS + KEYS
    assert reference.entries(KeyBatch.of(make(keys))) == [reference.encode(key) for key in keys]


@pytest.mark.parametrize("make", parameters(CONTAINERS, WITHOUT_NULLS))
def test_batch_holds_keys_with_nul(make):
    keys = ["a\0b", "a", "\0c"]
    assert reference.entries(KeyBatch.of(make(keys))) == [b"a\0b", b"a", b"\0c"]


@pytest.mark.parametrize(
    "empty",
    [
        [],
        (),
        {},
        iter([]),
        np.array([], "U1"),
        np.array([], "S1"),
        np.array([], object),
        np.array([], String()),
        *(arrow(kind)([]) for kind in ARROW),
        *(pa.chunked_array([], getattr(pa, kind)()) for kind in ARROW),
        pa.nulls(0),
        pa.array([], pa.string()).dictionary_encode(),
        pa.chunked_array([], pa.dictionary(pa.int32(), pa.string())),
        pa.chunked_array([], pa.dictionary(pa.int32(), pa.string_view())),
        *(pd.Series([], dtype=kind) for kind in PANDAS),
        pl.Series([], dtype=pl.String),
        pl.Series([], dtype=pl.Categorical),
    ],
    ids=lambda empty: (
        f"{type(empty).__module__} {type(empty).__name__} {getattr(empty, 'dtype', getattr(empty, 'type', ''))}"
    ),
)
def test_batch_of_nothing_is_empty(empty):
    batch = KeyBatch.of(empty)
    assert len(batch) == 0
    assert reference.entries(batch) == []


@pytest.mark.parametrize("nulls", [pa.nulls(3), pa.chunked_array([pa.nulls(3)]), pl.Series([None] * 3), [None] * 3])
def test_batch_of_nulls_holds_nothing_else(nulls):
    assert reference.entries(KeyBatch.of(nulls)) == [None] * 3


@pytest.mark.parametrize("null", [None, float("nan"), np.float64("nan"), np.float32("nan"), pd.NA, LONE], ids=repr)
@pytest.mark.parametrize(
    "make", [list, lambda keys: np.array(keys, object), lambda keys: pd.Series(keys, dtype=object)]
)
def test_batch_takes_what_no_vocabulary_holds_for_a_null(make, null):
    assert reference.entries(KeyBatch.of(make(["nice", null, ""]))) == [b"nice", None, b""]


@pytest.mark.parametrize("keys", [np.array(["nice", LONE]), pd.Index(["nice", LONE], dtype=object)])
def test_batch_of_an_array_with_a_lone_surrogate_holds_a_null(keys):
    assert reference.entries(KeyBatch.of(keys)) == [b"nice", None]


def test_batch_mixes_str_and_bytes():
    keys = ["nice", "größe".encode(), b"\xff not UTF-8", np.bytes_(b"bytes"), None]
    assert reference.entries(KeyBatch.of(keys)) == [b"nice", *keys[1:]]


@pytest.mark.parametrize("make", parameters(CONTAINERS, WITHOUT_NULLS))
def test_batch_holds_keys_of_any_length(make):
    keys = ["x" * 100_000, "y", "ö" * 50_000]
    assert reference.entries(KeyBatch.of(make(keys))) == encoded(keys)


class Backwards(list):
    def __iter__(self):
        return reversed(self[:])


def test_batch_of_a_list_of_another_kind_is_what_it_gives():
    batch = KeyBatch.of(Backwards(["nice", "great"]))
    assert batch.data[: batch.stops[-1]].tobytes() == b"greatnice"


def test_batch_of_a_list_that_another_thread_changes_holds_one_of_its_states():
    keys = ["nice", "great"] * 500
    done = threading.Event()

    def change():
        while not done.is_set():
            keys.append("excellent" * 10)
            keys.pop()

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(300):
            batch = KeyBatch.of(keys)
            found = batch.data[: batch.stops[-1]].tobytes()
            assert found.removesuffix(b"excellent" * 10) == b"nicegreat" * 500
            assert len(batch) == 1000 + found.endswith(b"excellent")
    finally:
        done.set()
        thread.join()


def test_batch_of_a_batch_is_itself():
    batch = KeyBatch.of(["nice"])
    assert KeyBatch.of(batch) is batch


def test_batch_of_an_arrow_dictionary_has_an_entry_for_each_distinct_key():
    batch = KeyBatch.of(pa.array(["nice", "great", None, "nice"] * 100).dictionary_encode())
    assert (len(batch), len(batch.starts)) == (400, 2)


def test_batch_of_arrow_binary_is_a_view():
    array = pa.array([b"nice", b"great"], pa.large_binary())
    assert KeyBatch.of(array).data.ctypes.data == array.buffers()[2].address


@pytest.mark.parametrize("make", parameters(CONTAINERS, WITHOUT_NULLS))
def test_batch_gives_kernels_one_type_of_array(make):
    batch = KeyBatch.of(make(["nice", "great"]))
    for array, dtype in ((batch.data, np.uint8), (batch.starts, np.int64), (batch.stops, np.int64)):
        assert array.dtype == dtype
        assert array.flags.c_contiguous
        assert array.flags.aligned


NOT_KEYS = {
    "int": ([1], "key 0: expected str, bytes or None, found int: 1"),
    "int later": (["a", 1], "key 1: expected str, bytes or None, found int: 1"),
    "list": (["a", ["b"]], r"key 1: expected str, bytes or None, found list: \['b'\]"),
    "bytearray": ([bytearray(b"a")], "key 0: expected str, bytes or None, found bytearray"),
    "float": ([1.5], "key 0: expected str, bytes or None, found float: 1.5"),
    "str": ("nice", "expected a batch of keys, found one str: 'nice'; put it into a list"),
    "bytes": (b"nice", "expected a batch of keys, found one bytes: b'nice'; put it into a list"),
    "NumPy str": (np.str_("nice"), "expected a batch of keys, found one str_"),
    "NumPy int": (np.array([1]), "expected an array of str, bytes or objects, found dtype int64"),
    "NumPy bool": (np.array([True]), "expected an array of str, bytes or objects, found dtype bool"),
    "NumPy object": (np.array(["a", 1], object), "key 1: expected str, bytes or None, found int: 1"),
    "NumPy 0-d": (np.array("nice"), r"expected a 1-d array of keys, found shape \(\)"),
    "NumPy 2-d": (np.array([["nice"]]), r"expected a 1-d array of keys, found shape \(1, 1\)"),
    "Arrow int": (pa.array([1]), "expected an Arrow array of strings, found int64"),
    "Arrow dictionary": (pa.array([1]).dictionary_encode(), "expected an Arrow array of strings, found int64"),
    "Arrow list": (pa.array([["a"]]), "expected an Arrow array of strings, found list"),
    "Arrow table": (pa.table({"a": ["b"]}), "expected an Arrow array of strings, found struct"),
    "pandas int": (pd.Series([1]), "expected an Arrow array of strings, found int64"),
    "pandas table": (pd.DataFrame({"a": ["b"]}), "expected an Arrow array of strings, found struct"),
    "pandas mixed": (pd.Series(["a", 1], dtype=object), "key 1: expected str, bytes or None, found int: 1"),
    "polars int": (pl.Series([1]), "expected an Arrow array of strings, found int64"),
    "polars object": (pl.Series(["a"], dtype=pl.Object), "expected an Arrow array of strings, found"),
    "number": (3, "expected a batch of keys, found int: 3"),
    "nothing": (None, "expected a batch of keys, found NoneType: None"),
}


@pytest.mark.parametrize(("keys", "message"), [pytest.param(*case, id=name) for name, case in NOT_KEYS.items()])
def test_batch_refuses_what_is_no_batch_of_keys(keys, message):
    with pytest.raises(TypeError, match=message):
        KeyBatch.of(keys)


@pytest.mark.parametrize("make", parameters(CONTAINERS))
def test_packed_puts_keys_end_to_end(make):
    data, offsets = KeyBatch.of(make(KEYS)).packed()
    expected = reference.pack(encoded(KEYS))
    np.testing.assert_array_equal(data, expected[0])
    np.testing.assert_array_equal(offsets, expected[1])


def test_packed_of_nothing_is_empty():
    data, offsets = KeyBatch.of([]).packed()
    assert (data.tolist(), offsets.tolist()) == ([], [0])


def test_packed_refuses_a_null():
    with pytest.raises(ValueError, match="key 1: expected a key, found a null"):
        KeyBatch.of(["nice", None, None]).packed()


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])) | st.text(" \n\0aé"), max_size=20))
def test_strings_are_the_keys(keys):
    assert KeyBatch.of(keys).strings() == keys


@pytest.mark.parametrize("keys", [["nice\n", "gre\0at", "a b"], ["", " ", "\n", "\0"], [" \n\0", "größe"]])
def test_strings_may_hold_whatever_separates_others(keys):
    assert KeyBatch.of(keys).strings() == keys


@pytest.mark.parametrize("last", [b"", b" \n\0"])
@pytest.mark.parametrize("keys", [[b"nice", b"\xff"], ["ß".encode()[:1], "ß".encode()[1:]]])
def test_strings_refuse_what_is_no_utf8(keys, last):
    with pytest.raises(UnicodeDecodeError):
        KeyBatch.of([*keys, last]).strings()


anything = st.text(st.characters(exclude_categories=[])) | st.none() | st.binary() | st.just(float("nan"))


@given(st.lists(anything))
def test_batch_agrees_with_reference(keys):
    batch = KeyBatch.of(keys)
    assert len(batch) == len(keys)
    assert reference.entries(batch) == [reference.encode(key) for key in keys]


@given(st.lists(st.text() | st.none()), st.integers(0, 5), st.integers(0, 5), st.booleans())
def test_batch_of_arrow_agrees_with_reference(keys, start, stop, dictionary):
    array = pa.array(keys, pa.string())[start : len(keys) - stop]
    batch = KeyBatch.of(array.dictionary_encode() if dictionary else array)
    assert reference.entries(batch) == encoded(array.to_pylist())


@given(st.lists(st.text().map(str.encode) | st.binary()))
def test_is_utf8_judges_every_key(keys):
    def decodes(key):
        try:
            return isinstance(key.decode(), str)
        except UnicodeDecodeError:
            return False

    assert is_utf8(*reference.pack(keys)) == all(map(decodes, keys))


@pytest.mark.parametrize("cut", [1, 2])
def test_is_utf8_refuses_a_character_cut_in_two(cut):
    character = "日".encode()
    assert not is_utf8(*reference.pack([character[:cut], character[cut:]]))
    assert is_utf8(*reference.pack([character, b"", character]))


@pytest.mark.parametrize("array", [[1, 2], np.arange(6)[::2], np.arange(3), np.zeros((2, 2), order="F")], ids=str)
def test_frozen_makes_an_array_fit_for_a_kernel(array):
    result = frozen(array)
    np.testing.assert_array_equal(result, array)
    assert result.flags.c_contiguous
    assert not result.flags.writeable


def test_frozen_leaves_its_argument_writable():
    array = np.arange(3)
    assert np.shares_memory(frozen(array), array)
    assert array.flags.writeable


@pytest.mark.parametrize("offsets", [[0, 1 << 44, 4], [0, 3, 2, 4]])
def test_arrow_offsets_that_leave_the_data_are_refused(offsets):
    buffers = [None, pa.py_buffer(np.array(offsets, np.int64)), pa.py_buffer(b"nice")]
    array = pa.Array.from_buffers(pa.large_string(), len(offsets) - 1, buffers)
    with pytest.raises(ValueError, match="expected offsets that ascend within 4 bytes"):
        KeyBatch.of(array)


def test_a_few_rows_of_a_large_dictionary_are_decoded():
    column = pa.array([f"w{i}" for i in range(1000)]).dictionary_encode()
    batch = KeyBatch.of(column[500:502])
    assert len(batch.starts) == len(batch) == 2
    assert bytes(batch.data[batch.starts[1] : batch.stops[1]]) == b"w501"
