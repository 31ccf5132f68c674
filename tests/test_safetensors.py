import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from files import PACKED, numbered, read_records

import vecstore
from vecstore.formats.detect import open_source
from vecstore.formats.safetensors import SafetensorsSource, looks_like_safetensors
from vecstore.formats.stream import ByteStream

KEYS = [b"nice", "größe".encode(), b"", b"a b\tc"]
VECTORS = np.arange(8, dtype=np.float32).reshape(4, 2)
NAMES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
    "float8_e4m3fn": "F8_E4M3",
    "bool": "BOOL",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "model.keys.txt").write_bytes(b"\n".join(KEYS) + b"\n")
    return tmp_path / "model.safetensors"


def entry(dtype, shape, start, stop):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


def file_bytes(header, data=b"", *, length=None, align=8) -> bytes:
    """A file with a header of one's own, which says of itself that it has `length` bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % align)
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def safetensors_bytes(tensors, *, metadata=None, align=8) -> bytes:
    """A file as the reference writer writes it, its tensors in the order of the dict."""
    header, data = {} if metadata is None else {"__metadata__": metadata}, b""
    for name, array in tensors.items():
        array = np.asarray(array)
        header[name] = entry(NAMES[array.dtype.name], array.shape, len(data), len(data) + array.nbytes)
        data += array.tobytes()
    return file_bytes(header, data, align=align)


def assert_reads(path, data, vectors=VECTORS, keys=KEYS, tensor=None, **options):
    path.write_bytes(data)
    found_keys, found = read_records(f"{path}::{tensor}" if tensor else path, **options)
    assert found_keys == keys
    np.testing.assert_array_equal(found.view(np.uint32), np.asarray(vectors, np.float32).view(np.uint32))


def assert_refuses(path, data, message, tensor=None):
    path.write_bytes(data)
    stream = ByteStream(path)
    try:
        with pytest.raises(vecstore.FormatError, match=message):
            list(SafetensorsSource(stream, path.with_suffix(".keys.txt"), tensor=tensor).blocks())
    finally:
        stream.close()


@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
@pytest.mark.parametrize("dtype", [name for name in NAMES if name not in ("bool", "float8_e4m3fn")])
def test_matrix_is_read_whatever_its_numbers(path, dtype, packed):
    vectors = VECTORS.astype(getattr(ml_dtypes, dtype, dtype))
    assert_reads(path, packed(safetensors_bytes({"x": vectors}, metadata={"format": "pt"})), vectors.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_every_bit_pattern_is_kept(path, dtype):
    bits = np.arange(1 << 16, dtype=np.uint16)
    wide = (bits.astype(np.uint32) << 16).view(np.float32)
    vectors = bits.view(dtype) if dtype is ml_dtypes.bfloat16 else wide
    keys = [b"k%d" % row for row in range(1 << 13)]
    path.with_suffix(".keys.txt").write_bytes(b"\n".join(keys))
    assert_reads(path, safetensors_bytes({"x": vectors.reshape(-1, 8)}), wide.reshape(-1, 8), keys)


def test_header_of_every_length_is_told_from_other_formats(path):
    """The first two bytes of lengths such as 640 are those of a pickle."""
    for padding in range(0, 1600, 8):
        data = safetensors_bytes({"x": VECTORS}, metadata={"padding": "-" * padding})
        assert_reads(path, data)


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize("packed", [PACKED["plain"], PACKED["gzip"]], ids=["plain", "gzip"])
def test_matrix_is_found_among_other_tensors(path, place, packed):
    others = {"a": np.ones(3), "b": np.ones((2, 2, 2), np.int64), "c": np.empty((0,), np.float32), "d": np.float64(3)}
    cut = {"first": 0, "middle": 2, "last": 4}[place]
    tensors = dict([*list(others.items())[:cut], ("x", VECTORS), *list(others.items())[cut:]])
    assert_reads(path, packed(safetensors_bytes(tensors)))
    path.write_bytes(safetensors_bytes(tensors, align=1))
    source = open_source(path)
    (block,) = source.blocks()
    data = path.read_bytes()
    assert [data[position:][:8] for position in block.positions] == [row.tobytes() for row in VECTORS]
    assert source.locate(1, 77) == f"{path}: row 1, byte 77"
    source.close()


def test_tensors_may_be_listed_in_any_order(path):
    other = np.ones(3, np.float32)
    header = {"b": entry("F32", (4, 2), 12, 44), "a": entry("F32", (3,), 0, 12)}
    assert_reads(path, file_bytes(header, other.tobytes() + VECTORS.tobytes()))


@pytest.mark.parametrize("name", ["embeddings", "embedding.weight", "embeddings.weight"])
def test_usual_name_is_chosen_among_matrices(path, name):
    assert_reads(path, safetensors_bytes({"linear": np.ones((2, 2)), name: VECTORS, "other": np.zeros((4, 2))}))


def test_tensor_is_read_that_is_named(path):
    tensors = {"embeddings": np.zeros((4, 2)), "a.b": VECTORS, "größe": 2 * VECTORS, "x::y": 3 * VECTORS}
    for factor, name in enumerate(["a.b", "größe", "x::y"], 1):
        assert_reads(path, safetensors_bytes(tensors), factor * VECTORS, tensor=name)


def test_tensor_must_be_named_among_matrices(path):
    data = safetensors_bytes({"a": VECTORS, "b": np.ones((1, 2), np.int8), "c": np.ones(3)})
    message = (
        r"model\.safetensors: expected one matrix, found 'a' F32 \(4, 2\), 'b' I8 \(1, 2\); "
        r"name one, as in '.*/model\.safetensors::a'"
    )
    assert_refuses(path, data, message)
    many = {f"t{number:02}": np.ones((1, 1), np.float32) for number in range(25)}
    assert_refuses(path, safetensors_bytes(many), r"'t19' F32 \(1, 1\) and 5 more; name one")


@pytest.mark.parametrize(
    ("tensors", "tensor", "message"),
    [
        ({}, None, r"model\.safetensors: expected a matrix \(rows, dim\), found none"),
        ({"a": np.ones(3)}, None, r"expected a matrix \(rows, dim\), found 'a' F64 \(3,\)"),
        ({"a": VECTORS}, "b", r"model\.safetensors: expected a tensor 'b', found 'a' F32 \(4, 2\)"),
        ({"a": VECTORS, "b": np.ones(3)}, "b", r"tensor 'b': expected a matrix \(rows, dim\), found shape \(3,\)"),
        (
            {"a": np.zeros((4, 0), np.float32)},
            None,
            r"tensor 'a': expected at least one vector of .*, found shape \(4, 0\)",
        ),
        (
            {"a": np.zeros((0, 2), np.float32)},
            None,
            r"tensor 'a': expected at least one vector of .*, found shape \(0, 2\)",
        ),
        ({"a": np.zeros((4, 2), bool)}, None, r"expected a tensor of F64, F32, F16, BF16, .*, found 'a' BOOL \(4, 2\)"),
        (
            {"a": np.zeros((4, 2), ml_dtypes.float8_e4m3fn)},
            None,
            r"expected a tensor of .*, found 'a' F8_E4M3 \(4, 2\)",
        ),
        (
            {"a": [[1, 2], [3, 4], [1e39, 6], [7, 8]]},
            None,
            r"row 2, byte \d+: expected numbers within float32 .*1e\+39",
        ),
    ],
)
def test_other_tensors_are_refused(path, tensors, tensor, message):
    assert_refuses(path, safetensors_bytes(tensors), message, tensor)


GOOD = entry("F32", (4, 2), 0, 32)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"", "expected a safetensors header in JSON"),
        (b"{", "byte 8: expected a safetensors header in JSON"),
        (b"{\xff}", "byte 8: expected a safetensors header in JSON"),
        (b"[]", "byte 8: expected a safetensors header, found a JSON list"),
        (b"[" * 100_000, "byte 8: expected a safetensors header in JSON"),
        (b'{"a":' * 100_000, "byte 8: expected a safetensors header in JSON"),
        (b'{"a": 1' + b"0" * 5_000 + b"}", "byte 8: expected a safetensors header in JSON"),
        (b'{"a": 1, "a": 1}', "expected a safetensors header in JSON: expected each key once, found 'a' twice"),
        (b'{"a": {"dtype": "F32", "dtype": "F16"}}', "expected each key once, found 'dtype' twice"),
        ({"a": 1}, "byte 8: tensor 'a': expected dtype, shape and data_offsets, found 1"),
        ({"a": {**GOOD, "more": 1}}, "tensor 'a': expected dtype, shape and data_offsets, found {"),
        ({"a": {"dtype": "F32", "shape": [4, 2]}}, "tensor 'a': expected dtype, shape and data_offsets, found {"),
        ({"a": {**GOOD, "dtype": 3}}, r"tensor 'a': expected a dtype and a shape, found 3 and \[4, 2\]"),
        ({"a": {**GOOD, "shape": "4"}}, "tensor 'a': expected a dtype and a shape, found 'F32' and '4'"),
        ({"a": {**GOOD, "shape": [-4, 2]}}, r"tensor 'a': expected a dtype and a shape, found 'F32' and \[-4, 2\]"),
        ({"a": {**GOOD, "shape": [4.0, 2]}}, r"tensor 'a': expected a dtype and a shape"),
        ({"a": {**GOOD, "shape": [4, True]}}, r"tensor 'a': expected a dtype and a shape"),
        ({"a": {**GOOD, "shape": [2**63, 2]}}, r"tensor 'a': expected a dtype and a shape"),
        ({"a": {**GOOD, "shape": [2**62] * 100_000}}, r"tensor 'a': expected a dtype and a shape"),
        (
            {"a": {**GOOD, "data_offsets": [0, 32, 64]}},
            r"tensor 'a': expected data_offsets \[start, stop\], found \[0,",
        ),
        (
            {"a": {**GOOD, "data_offsets": [32, 0]}},
            r"tensor 'a': expected data_offsets \[start, stop\], found \[32, 0\]",
        ),
        ({"a": {**GOOD, "data_offsets": [-32, 0]}}, r"tensor 'a': expected data_offsets \[start, stop\], found \[-32,"),
        ({"a": {**GOOD, "data_offsets": None}}, r"tensor 'a': expected data_offsets \[start, stop\], found None"),
        ({"a": {**GOOD, "shape": [4, 3]}}, r"tensor 'a': expected 48 bytes for F32 \[4, 3\], found 32"),
        ({"a": {**GOOD, "dtype": "F16"}}, r"tensor 'a': expected 16 bytes for F16 \[4, 2\], found 32"),
        ({"a": {**GOOD, "shape": [10**18, 2]}}, "tensor 'a': expected 8,000,000,000,000,000,000 bytes for F32"),
        (
            {"a": entry("F32", (10**18, 2), 0, 8 * 10**18)},
            "expected 8,000,000,000,000,.* bytes, as the header says, found",
        ),
        ({"a": entry("F32", (3, 2), 8, 32)}, r"tensor 'a' F32 \(3, 2\): expected its start at \d+, found \d+"),
        ({"a": GOOD, "b": entry("U8", (8,), 24, 32)}, r"tensor 'b' U8 \(8,\): expected its start at \d+, found \d+"),
        ({"a": entry("F32", (2, 2), 0, 16)}, "expected 96 bytes, as the header says, found 112; the file is damaged"),
        ({"a": GOOD, "__metadata__": [1]}, r"byte 8: expected __metadata__ to be text, found \[1\]"),
        ({"a": GOOD, "__metadata__": {"x": 1}}, "byte 8: expected __metadata__ to be text, found {'x': 1}"),
    ],
)
def test_headers_that_contradict_the_file_are_refused(path, header, message):
    assert_refuses(path, file_bytes(header, VECTORS.tobytes()), message)


@pytest.mark.parametrize("length", [100, 1 << 24, 100_000_000, 10**18, 2**64 - 1])
@pytest.mark.parametrize("packed", [PACKED["plain"], PACKED["gzip"]], ids=["plain", "gzip"])
def test_length_that_the_file_cannot_hold_is_refused(path, length, packed):
    message = r"byte 0: expected a safetensors header within [\d,]+ bytes, found one of [\d,]+; the file is"
    assert_refuses(path, packed(file_bytes(b"{}", length=length)), message)


@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
def test_file_cut_anywhere_is_refused(path, packed):
    data = safetensors_bytes({"a": np.ones(1, np.float32), "x": VECTORS, "z": np.ones(2, np.int8)})
    for size in range(1, len(data), 1 if packed is PACKED["plain"] else 17):
        assert_refuses(path, packed(data[:size]), r"model\.safetensors.*: (byte [\d,]+: )?expected")


@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
def test_file_that_goes_on_is_refused(path, packed):
    message = (
        r"expected 112 bytes, as the header says, found 113; the file is damaged|byte 112: expected the end, .* more"
    )
    assert_refuses(path, packed(safetensors_bytes({"x": VECTORS}) + b"\0"), message)


def test_keys_must_fit_the_rows(path):
    path.write_bytes(safetensors_bytes({"x": VECTORS[:3]}))
    with pytest.raises(vecstore.FormatError, match=r"keys\.txt: expected 3 keys, one for each row of .*, found 4"):
        read_records(path)
    path.with_suffix(".keys.txt").unlink()
    with pytest.raises(vecstore.FormatError, match=r"expected the keys of its 3 rows in .*keys\.txt, .* row_keys="):
        read_records(path)


def test_rows_are_joined_over_blocks(path):
    keys, vectors = numbered(9_000, 300)
    path.with_suffix(".keys.txt").write_bytes(b"\n".join(keys))
    tensors = {"a": np.ones(2_000_000, np.float32), "x": vectors, "z": np.ones(2_000_000, np.float32)}
    for packed in PACKED["plain"], PACKED["gzip"]:
        assert_reads(path, packed(safetensors_bytes(tensors)), vectors, keys)


def test_safetensors_is_told_from_other_files():
    assert looks_like_safetensors(safetensors_bytes({"x": VECTORS}))
    assert looks_like_safetensors(file_bytes(b"{}", length=100_000_000))
    for head in b"", b"\0" * 8, b"400000 50\nthe", b"the 0.1 {", b"\x93NUMPY\x01\0{", b"\x80\x04\x95\0\0\0\0\0}":
        assert not looks_like_safetensors(head)


def test_convert_takes_a_matrix_with_its_keys(path, tmp_path):
    path.write_bytes(safetensors_bytes({"x": np.ones((3, 3)), "y": VECTORS.astype(ml_dtypes.bfloat16)}))
    report = vecstore.convert(f"{path}::y", tmp_path / "v.vecstore")
    store = vecstore.open(tmp_path / "v.vecstore")
    assert [key.encode() for key in store.keys] == KEYS
    np.testing.assert_array_equal(store.vectors, VECTORS)
    assert (report.source.name, report.source.format) == ("model.safetensors", "safetensors")
