import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import vecstore
from vecstore.layout import ARRAYS, METADATA, SCALES, Source, arrays_of
from vecstore.storage import STORAGE_TYPES

STORE_V1 = Path(__file__).parent / "data" / "store-v1"
KEYS_V1 = ["</s>", "nice", "größe", "", "日本語"]
VECTORS_V1 = np.array(
    [[0, 0, 0], [1, -2, 0.5], [0.1, np.nan, -0.0], [np.inf, 1e-45, 3.4e38], [-1, 0.25, 7]], np.float32
)

STORES_V2 = {name: STORE_V1.with_name(f"store-v2-{name}") for name in ("float16", "bfloat16", "int8")}
BITS_V2 = {
    "float16": "0 0 0 3f800000 c0000000 3f000000 3dccc000 7fc00000 80000000 7f800000 33800000 477fe000",
    "bfloat16": "0 0 0 3f800000 c0000000 3f000000 3dcd0000 7fc00000 80000000 7f800000 00010000 7f7e0000",
    "int8": "0 0 0 3f800000 c0000000 3f000000 3dcb2ffa be99999a 3e4d9b36 ff61b1e6 7ce378d8 7f61b1e6",
}
LAST_BITS_V2 = " bf800000 3e800000 40e00000"
VECTORS_V2 = {
    name: np.array([int(word, 16) for word in (bits + LAST_BITS_V2).split()], np.uint32).view(np.float32).reshape(5, 3)
    for name, bits in BITS_V2.items()
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the store of format version 1, to be damaged."""
    return shutil.copytree(STORE_V1, tmp_path / "store")


@pytest.fixture
def scaled(tmp_path: Path) -> Path:
    """A copy of the store of int8, to be damaged."""
    return shutil.copytree(STORES_V2["int8"], tmp_path / "scaled")


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


@pytest.mark.parametrize("name", STORES_V2)
def test_stores_of_format_version_2_open_for_ever(name):
    vectors = VECTORS_V2[name]
    with vecstore.open(STORES_V2[name]) as store:
        assert (store.shape, store.dtype, store.metadata.dtype, store.metadata.version) == ((5, 3), "f4", name, 2)
        assert list(store.keys) == KEYS_V1
        assert store.find([*KEYS_V1, "absent"]).tolist() == [0, 1, 2, 3, 4, -1]
        assert store.lookup(KEYS_V1).tobytes() == vectors.tobytes()
        for key, vector in zip(KEYS_V1, vectors, strict=True):
            assert store[key].tobytes() == vector.tobytes()
        assert store.matrix(KEYS_V1[:3]).vectors.tobytes() == vectors[:3].tobytes()
        finite = vectors[np.isfinite(vectors).all(axis=1)].astype(np.float64)
        mean = store.matrix({"absent": 0}, oov="mean").vectors[0]
        np.testing.assert_allclose(mean, finite.mean(axis=0), rtol=1e-6)
    assert vecstore.verify(STORES_V2[name]) == []


def test_stores_of_version_2_are_read_without_vecstore():
    kept = {name: np.load(path / "vectors.npy", mmap_mode="r") for name, path in STORES_V2.items()}
    scales = np.load(STORES_V2["int8"] / "scales.npy")
    assert {name: array.dtype.str for name, array in kept.items()} == {
        "float16": "<f2",
        "bfloat16": "<u2",
        "int8": "|i1",
    }
    assert (scales.dtype.str, scales.shape) == ("<f4", (5,))
    read = {
        "float16": kept["float16"].astype(np.float32),
        "bfloat16": (kept["bfloat16"].astype(np.uint32) << 16).view(np.float32),
        "int8": kept["int8"].astype(np.float32) * scales[:, None],
    }
    for name, vectors in read.items():
        assert vectors.tobytes() == VECTORS_V2[name].tobytes()
        assert sorted(os.listdir(STORES_V2[name])) == sorted([METADATA, *arrays_of(STORAGE_TYPES[name])])


def test_a_store_of_float32_is_written_as_version_1(tmp_path):
    vecstore.convert((KEYS_V1, VECTORS_V1), tmp_path / "store")
    assert json.loads((tmp_path / "store" / METADATA).read_bytes())["version"] == 1
    for name in ARRAYS:
        assert (tmp_path / "store" / name).read_bytes() == (STORE_V1 / name).read_bytes()
    assert sorted(os.listdir(tmp_path / "store")) == sorted([*ARRAYS, METADATA])


def test_a_store_of_version_2_may_hold_float32(folder):
    edit(folder, lambda fields: fields.update(version=2))
    assert list(vecstore.open(folder).keys) == KEYS_V1


@pytest.mark.parametrize("name", STORES_V2)
def test_open_refuses_a_store_of_version_1_with_a_later_type(tmp_path, name):
    folder = shutil.copytree(STORES_V2[name], tmp_path / "store")
    edit(folder, lambda fields: fields.update(version=1))
    message = rf"metadata\.json: expected dtype float32 in format version 1, found '{name}'"
    with pytest.raises(vecstore.StoreError, match=message):
        vecstore.open(folder)


@pytest.mark.parametrize("dtype", ["auto", "float64", "uint8", ""])
def test_open_refuses_an_unknown_type(scaled, dtype):
    edit(scaled, lambda fields: fields.update(dtype=dtype))
    message = f"expected dtype float32, float16, bfloat16, int8 in format version 2, found '{dtype}'"
    with pytest.raises(vecstore.StoreError, match=message):
        vecstore.open(scaled)


@pytest.mark.parametrize(("one", "other"), [(a, b) for a in BITS_V2 for b in ["float32", *BITS_V2] if a != b])
def test_open_refuses_vectors_of_another_type_than_the_metadata_says(tmp_path, one, other):
    folder = shutil.copytree(STORES_V2[one], tmp_path / "store")

    def change(fields):
        fields.update(dtype=other)
        fields["files"]["scales.npy"] = {"size": 148, "crc32": "00000000"}

    edit(folder, change)
    shutil.copy(STORES_V2["int8"] / "scales.npy", folder)
    kinds = {"bfloat16": "uint16"}
    message = rf"vectors\.npy: expected {kinds.get(other, other)} of .*, found {kinds.get(one, one)} of shape"
    with pytest.raises(vecstore.StoreError, match=message):
        vecstore.open(folder)


@pytest.mark.parametrize(
    "damage",
    [
        lambda scales: scales.astype("<f8"),
        lambda scales: scales.astype(">f4"),
        lambda scales: (scales / 1e37).astype("<f2"),
        lambda scales: scales.view("<u4"),
        lambda scales: scales[:-1],
        lambda scales: np.append(scales, scales[:1]),
        lambda scales: scales[:0],
        lambda scales: scales[:, None],
        lambda scales: scales[0],
    ],
)
def test_open_refuses_scales_of_another_shape_or_type(scaled, damage):
    np.save(scaled / SCALES, damage(np.load(scaled / SCALES)))
    with pytest.raises(vecstore.StoreError, match=r"scales\.npy: expected (a \.npy|float32 of shape \(5,\), found)"):
        vecstore.open(scaled)


def test_open_needs_scales(scaled):
    (scaled / SCALES).unlink()
    with pytest.raises(vecstore.StoreError, match=r"scales\.npy is missing; convert the source again"):
        vecstore.open(scaled)
    assert [str(problem) for problem in vecstore.verify(scaled)] == ["scales.npy: is missing"]


@pytest.mark.parametrize("value", [None, {}, {"size": 5}, {"size": -1, "crc32": "0"}, []])
def test_open_needs_the_metadata_of_scales(scaled, value):
    edit(scaled, lambda fields: fields["files"].update({SCALES: value}))
    with pytest.raises(vecstore.StoreError, match=r"metadata\.json: expected .*(size|crc32)"):
        vecstore.open(scaled)


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
