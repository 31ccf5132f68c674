import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import vecstore
from vecstore.layout import ARRAYS, METADATA, Source

STORE_V1 = Path(__file__).parent / "data" / "store-v1"
KEYS_V1 = ["</s>", "nice", "größe", "", "日本語"]
VECTORS_V1 = np.array(
    [[0, 0, 0], [1, -2, 0.5], [0.1, np.nan, -0.0], [np.inf, 1e-45, 3.4e38], [-1, 0.25, 7]], np.float32
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the store of format version 1, to be damaged."""
    return shutil.copytree(STORE_V1, tmp_path / "store")


def edit(folder: Path, change: Callable[[dict], object]) -> None:
    fields = json.loads((folder / METADATA).read_bytes())
    change(fields)
    (folder / METADATA).write_text(json.dumps(fields))


def test_store_of_format_version_1_opens_for_ever():
    with vecstore.open(STORE_V1) as store:
        assert store.shape == (5, 3)
        assert list(store.keys) == KEYS_V1
        assert store.find([*KEYS_V1, "absent"]).tolist() == [0, 1, 2, 3, 4, -1]
        np.testing.assert_array_equal(store.lookup(KEYS_V1).view(np.uint32), VECTORS_V1.view(np.uint32))
        assert store.metadata.source == Source("tiny.bin", 93, "word2vec", None)
        assert store.metadata.dropped == {"duplicates": 0, "undecodable": 0}
        assert store.metadata.unusual == {"nan": 1, "infinite": 1, "zero": 1}
        mean = store.matrix({"absent": 0}, oov="mean").vectors[0]
        np.testing.assert_allclose(mean, VECTORS_V1[[0, 1, 4]].mean(axis=0), rtol=1e-6)
    assert vecstore.verify(STORE_V1) == []


def test_arrays_are_plain_npy_files():
    arrays = {name: np.load(STORE_V1 / name, mmap_mode="r") for name in ARRAYS}
    np.testing.assert_array_equal(arrays["vectors.npy"], VECTORS_V1, strict=True)
    offsets = np.cumsum([0, *(len(key.encode()) for key in KEYS_V1)])
    assert arrays["keys.npy"].tobytes() == "".join(KEYS_V1).encode()
    np.testing.assert_array_equal(arrays["offsets.npy"], offsets, strict=True)
    finite = VECTORS_V1[[0, 1, 4]].astype(np.float64)
    np.testing.assert_allclose(arrays["moments.npy"], [finite.mean(axis=0), finite.std(axis=0)])
    assert (arrays["index.npy"].dtype, arrays["index.npy"].shape) == (np.uint64, (16,))
    assert sorted(os.listdir(STORE_V1)) == sorted([*ARRAYS, METADATA])


def test_open_names_a_missing_path(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing: no such store"):
        vecstore.open(tmp_path / "missing")


def test_open_refuses_a_file(tmp_path):
    (tmp_path / "vectors.bin").write_bytes(b"1 1\n")
    with pytest.raises(vecstore.StoreError, match=r"vectors\.bin: not a store but a file; .*vecstore convert"):
        vecstore.open(tmp_path / "vectors.bin")


def test_open_refuses_a_folder_that_is_no_store(tmp_path):
    with pytest.raises(vecstore.StoreError, match=r"not a store: it holds no metadata\.json"):
        vecstore.open(tmp_path)


@pytest.mark.parametrize("name", ARRAYS)
def test_open_names_the_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(vecstore.StoreError, match=f"{name} is missing; convert the source again"):
        vecstore.open(folder)


@pytest.mark.parametrize("name", [*ARRAYS, METADATA])
def test_open_refuses_a_folder_in_place_of_a_file(folder, name):
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(vecstore.StoreError, match=name):
        vecstore.open(folder)


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("change", [-8, -1, 1, 4096])
def test_open_names_a_cut_or_grown_file(folder, name, change):
    os.truncate(folder / name, (folder / name).stat().st_size + change)
    with pytest.raises(vecstore.StoreError, match=rf"{name}: expected \d+ bytes for shape .*cut or grown"):
        vecstore.open(folder)


@pytest.mark.parametrize("name", ARRAYS)
def test_open_names_an_empty_file(folder, name):
    (folder / name).write_bytes(b"")
    with pytest.raises(vecstore.StoreError, match=rf"{name}: expected a \.npy array"):
        vecstore.open(folder)


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("dtype", [">f8", "<f2", "<i4", "|b1", "<c8"])
def test_open_names_a_wrong_dtype(folder, name, dtype):
    np.save(folder / name, np.zeros(np.load(folder / name).shape, dtype))
    with pytest.raises(vecstore.StoreError, match=f"{name}: expected "):
        vecstore.open(folder)


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize(
    "damage",
    [lambda array: array[..., None], lambda array: array[:-1], lambda array: array[:0], lambda array: array[0]],
)
def test_open_names_a_wrong_shape(folder, name, damage):
    array = damage(np.load(folder / name))
    np.save(folder / name, array)
    message = (
        rf"{name}: expected (\w+ of shape .*, found \w+ of shape .*convert the source|a power of two above 5 slots)"
    )
    if name == "keys.npy" and array.ndim == 1:
        message = r"offsets\.npy: expected offsets that ascend from 0 to \d+, .* found 0 to 24"
    with pytest.raises(vecstore.StoreError, match=message):
        vecstore.open(folder)


@pytest.mark.parametrize("slots", [0, 1, 4, 5, 12, 17])
def test_open_refuses_an_index_that_is_no_table(folder, slots):
    np.save(folder / "index.npy", np.zeros(slots, np.uint64))
    message = rf"index\.npy: expected a power of two above 5 slots, found {slots}"
    with pytest.raises(vecstore.StoreError, match=message):
        vecstore.open(folder)


@pytest.mark.parametrize("name", ARRAYS)
def test_open_never_unpickles(folder, name):
    np.save(folder / name, np.array([print, "pickled"], object), allow_pickle=True)
    with pytest.raises(vecstore.StoreError, match=f"{name}: expected a "):
        vecstore.open(folder)


def test_open_refuses_fortran_order(folder):
    np.save(folder / "vectors.npy", np.asfortranarray(VECTORS_V1))
    with pytest.raises(vecstore.StoreError, match=r"vectors\.npy: expected a "):
        vecstore.open(folder)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (3, r"format version 3 is newer than this vecstore reads \(2\); upgrade vecstore"),
        (10**30, "is newer than this vecstore reads"),
        (0, "expected a format version, found 0"),
        (-1, "expected a format version, found -1"),
        ("1", "expected a format version, found '1'"),
        (1.0, "expected a format version, found 1.0"),
        (None, "expected a format version, found None"),
        (True, "expected a format version, found True"),
    ],
)
def test_open_refuses_other_versions(folder, version, message):
    edit(folder, lambda fields: fields.update(version=version))
    with pytest.raises(vecstore.StoreError, match=message):
        vecstore.open(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected JSON"),
        (b"{", "expected JSON"),
        (b"\xff\xfe\x00", "expected JSON"),
        (b"[" * 100_000, "expected JSON"),
        (b'{"format": "vecstore", "version": ' + b"9" * 5000 + b"}", "expected JSON"),
        (b"[]", "not a store"),
        (b"null", "not a store"),
        (b"{}", "not a store"),
        (b'{"format": "other"}', "not a store"),
        (b" " * (1 << 21), "expected at most 1,048,576 bytes"),
    ],
)
def test_open_refuses_metadata_that_is_none(folder, content, message):
    (folder / METADATA).write_bytes(content)
    with pytest.raises(vecstore.StoreError, match=rf"metadata\.json: .*{message}"):
        vecstore.open(folder)


FIELDS = ["writer", "rows", "dim", "dtype", "hash", "source", "dropped", "unusual", "files"]
INNER = [("hash", "name"), ("hash", "seed"), ("source", "name"), ("source", "size"), ("source", "format")]
INNER += [("files", name) for name in ARRAYS]


@pytest.mark.parametrize("value", [None, [], 1.5, True], ids=repr)
@pytest.mark.parametrize("place", [(field,) for field in FIELDS] + INNER, ids=".".join)
def test_open_names_the_damaged_field(folder, place, value):
    def damage(fields: dict) -> None:
        for name in place[:-1]:
            fields = fields[name]
        fields[place[-1]] = value

    edit(folder, damage)
    # Of a damaged file entry, the size is what is missed first; the hash must be one that is known.
    named = "size" if place[0] == "files" and len(place) == 2 else "hash" if place == ("hash", "name") else place[-1]
    with pytest.raises(vecstore.StoreError, match=rf"metadata\.json: expected .*{named}"):
        vecstore.open(folder)


@pytest.mark.parametrize("place", [(field,) for field in FIELDS] + INNER, ids=".".join)
def test_open_names_the_missing_field(folder, place):
    def damage(fields: dict) -> None:
        for name in place[:-1]:
            fields = fields[name]
        del fields[place[-1]]

    edit(folder, damage)
    with pytest.raises(vecstore.StoreError, match=r"metadata\.json: expected .*found"):
        vecstore.open(folder)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rows", -1, "expected 0 <= 'rows'"),
        ("rows", 2**32, "expected 0 <= 'rows' <= 4294967294"),
        ("dim", -1, "expected 0 <= 'dim'"),
        ("dim", 2**64, "expected 0 <= 'dim'"),
        ("rows", 4, r"vectors\.npy: expected float32 of shape \(4, 3\), found float32 of shape \(5, 3\)"),
        ("dim", 2, r"vectors\.npy: expected float32 of shape \(5, 2\), found float32 of shape \(5, 3\)"),
        ("dtype", "float16", "expected dtype float32 in format version 1, found 'float16'"),
        ("hash", {"name": "md5", "seed": 0}, "expected the hash xxh64, found 'md5'"),
        ("hash", {"name": "xxh64", "seed": 2**64}, "expected 0 <= 'seed'"),
        ("dropped", {"duplicates": -1}, "expected 0 <= 'duplicates'"),
        ("source", {"name": "a", "size": 1, "format": "b", "compression": 7}, "'compression' to be of type str"),
        ("source", {"name": "a", "size": 1, "format": "b", "modified": "x"}, "'modified' to be of type int"),
    ],
)
def test_open_names_the_wrong_value(folder, name, value, message):
    edit(folder, lambda fields: fields.update({name: value}))
    with pytest.raises(vecstore.StoreError, match=message):
        vecstore.open(folder)


def test_open_ignores_fields_that_it_does_not_know(folder):
    edit(folder, lambda fields: fields.update(comment="mine"))
    assert list(vecstore.open(folder).keys) == KEYS_V1
