import io
from pathlib import Path

import numpy as np
import pytest
from files import PACKED, numbered, read_records

import vecstore
from vecstore.formats.detect import open_source
from vecstore.formats.npy import NpySource
from vecstore.formats.stream import ByteStream
from vecstore.formats.word2vec import DIM_LIMIT

KEYS = [b"nice", "größe".encode(), b"", b"a b\tc"]
VECTORS = np.arange(8, dtype=np.float32).reshape(4, 2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "vectors.keys.txt").write_bytes(b"\n".join(KEYS) + b"\n")
    return tmp_path / "vectors.npy"


def npy_bytes(array, version=None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(array), version)
    return file.getvalue()


def npy_header(header, data=b"", *, version=1, length=None) -> bytes:
    """A file with a header of one's own, which says of itself that it has `length` bytes."""
    text = header.encode() if isinstance(header, str) else header
    size = (len(text) if length is None else length).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + data


def shaped(shape, descr="<f4", order="False") -> str:
    return f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n"


def assert_reads(path, data, vectors=VECTORS, keys=KEYS, **options):
    path.write_bytes(data)
    found_keys, found = read_records(path, **options)
    assert found_keys == keys
    np.testing.assert_array_equal(found.view(np.uint32), np.asarray(vectors, np.float32).view(np.uint32))


def assert_refuses(path, data, message, **options):
    path.write_bytes(data)
    with pytest.raises(vecstore.FormatError, match=message):
        read_records(path, **options)


@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", ">f2", "<f8", ">f8", "|i1", "<u2", ">i4", "<i8", "|b1"])
def test_matrix_is_read_whatever_its_numbers(path, dtype, packed):
    vectors = VECTORS.astype(dtype)
    assert_reads(path, packed(npy_bytes(vectors)), vectors.astype(np.float32))


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_is_read(path, version):
    assert_reads(path, npy_bytes(VECTORS, version), VECTORS)


@pytest.mark.parametrize(
    "header",
    [
        '{"descr": "<f4", "fortran_order": False, "shape": (4, 2)}',
        "{'shape': (4, 2), 'fortran_order': False, 'descr': '<f4'}",
        "{'descr':'<f4','fortran_order':False,'shape':(4,2,),}   \n",
        "{ 'descr' : '<f4' , 'fortran_order' : False , 'shape' : ( 4 , 2 ) , }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4L, 2L), }",
        shaped("(4, 2)", "=f4"),
    ],
)
def test_headers_of_other_writers_are_read(path, header):
    for version in 1, 2, 3:
        assert_reads(path, npy_header(header, VECTORS.tobytes(), version=version))


@pytest.mark.parametrize("dtype", ["<f4", "<f2"])
@pytest.mark.parametrize(("count", "dim"), [(1, 1), (1, 5), (9_000, 300), (3, DIM_LIMIT)])
def test_rows_are_joined_over_blocks(path, count, dim, dtype):
    keys, vectors = numbered(count, dim)
    path.with_suffix(".keys.txt").write_bytes(b"\n".join(keys))
    assert_reads(path, npy_bytes(vectors.astype(dtype)), vectors.astype(dtype).astype(np.float32), keys)


def test_unusual_numbers_are_kept_bit_for_bit(path):
    bits = np.array([[0x7FC01234, 0xFFA00001], [0x7F800000, 0xFF800000], [1, 0x80000000], [0, 0]], np.uint32)
    vectors = bits.view(np.float32)
    assert_reads(path, npy_bytes(vectors), vectors)
    assert_reads(path, npy_bytes(bits.byteswap().view(">f4")), vectors)


def test_source_says_what_it_is_and_where(path):
    data = npy_bytes(VECTORS)
    path.write_bytes(data)
    source = open_source(path)
    assert (source.dim, source.expected, source.departures) == (2, 4, [])
    description = source.description
    files = path.stat(), path.with_suffix(".keys.txt").stat()
    assert (description.name, description.format) == ("vectors.npy", "npy")
    assert description.size == sum(file.st_size for file in files)
    assert description.modified == max(file.st_mtime_ns for file in files)
    (block,) = source.blocks()
    assert [data[position:][:8] for position in block.positions] == [row.tobytes() for row in VECTORS]
    assert source.locate(2, int(block.positions[2])) == f"{path}: row 2, byte {len(data) - 16}"
    assert source.done == sum(file.st_size for file in files)
    source.close()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("other.txt", b"a\nb\na\n[UNK]"),
        ("other.json", b'["a", "b", "a", "[UNK]"]'),
        ("other.txt", b"\xef\xbb\xbfa\r\nb\r\na\r\n[UNK]\r\n"),
    ],
)
def test_keys_come_from_the_file_that_is_named(path, name, content):
    (path.parent / name).write_bytes(content)
    keys = [b"a", b"b", b"a", b"[UNK]"]
    assert_reads(path, npy_bytes(VECTORS), keys=keys, row_keys=path.parent / name)


def test_missing_keys_are_named_with_the_option(path):
    path.with_suffix(".keys.txt").unlink()
    message = (
        r"vectors\.npy: expected the keys of its 4 rows in .*vectors\.keys\.txt, one a line, found no such file; "
        r"name the file: row_keys= \(--row-keys\)"
    )
    assert_refuses(path, npy_bytes(VECTORS), message)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("k.txt", b"a\nb\nc\n", r"k\.txt: expected 4 keys, one for each row of .*vectors\.npy, found 3; .*row_keys="),
        ("k.txt", b"a\nb\nc\nd\n\n", r"k\.txt: expected 4 keys, .* found 5"),
        ("k.txt", b"", r"k\.txt: expected 4 keys, .* found 0"),
        ("k.txt", b"\xff\n\n\n\n", r"k\.txt: expected UTF-8 text"),
        ("k.json", b'{"a": 0, "b": 1, "c": 2, "d": 4}', r"k\.json: expected rows 0 to 3 for 4 keys, found 4 for 'd'"),
        ("k.json", rb'["a", "b", "\ud800", "d"]', r"vectors\.npy: row 2, byte 144: expected a key, found a null"),
    ],
)
def test_keys_that_do_not_fit_are_refused(path, name, content, message):
    (path.parent / name).write_bytes(content)
    assert_refuses(path, npy_bytes(VECTORS), message, row_keys=path.parent / name)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.ones((4, 2), object),
            "byte 0: expected numbers, found Python objects: a pickle, .* never read here; write",
        ),
        (np.zeros(4, [("a", "<f4"), ("b", "<f4")]), r"expected a matrix \(rows, dim\), found shape \(4,\)"),
        (np.zeros((4, 2), [("a", "<f4")]), r"expected real numbers, found dtype \[\('a', '<f4'\)\]"),
        (np.zeros((4, 2), "c8"), "expected real numbers, found dtype <c8"),
        (np.zeros((4, 2), "U3"), "expected real numbers, found dtype <U3"),
        (np.zeros((4, 2), "M8[s]"), r"expected real numbers, found dtype <M8\[s\]"),
        (np.zeros((4, 2), "V2"), r"expected real numbers, found dtype \|V2"),
        (np.zeros(4), r"byte 0: expected a matrix \(rows, dim\), found shape \(4,\)"),
        (np.zeros(()), r"byte 0: expected a matrix \(rows, dim\), found shape \(\)"),
        (np.zeros((4, 2, 1)), r"byte 0: expected a matrix \(rows, dim\), found shape \(4, 2, 1\)"),
        (np.zeros((0, 2)), r"expected at least one vector of 1 to 1,048,576 numbers, found shape \(0, 2\)"),
        (np.zeros((4, 0)), r"expected at least one vector of 1 to 1,048,576 numbers, found shape \(4, 0\)"),
        (np.asfortranarray(VECTORS), r"found the columns \(Fortran order\); write .*np\.ascontiguousarray\(array\)"),
        ([[1, 2], [3, 4], [5, 6], [7, -1e39]], r"row 3, byte 176: expected numbers within float32 .* found -1e\+39 at"),
    ],
)
def test_other_arrays_are_refused(path, array, message):
    assert_refuses(path, npy_bytes(array), message)


@pytest.mark.parametrize("packed", [PACKED["plain"], PACKED["gzip"]], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("header", "message"),
    [
        (shaped("(4, 3)"), r"expected 1\d\d bytes, as the header says"),
        (shaped(f"({10**18}, 2)"), "expected 8,000,000,000,000,000,.* bytes, as the header says, found .* at most"),
        (shaped(f"({2**63}, 2)"), "expected 73,786,976,.* bytes, as the header says, found .* at most"),
        (shaped(f"({10**19}, 2)"), r"expected a matrix \(rows, dim\), found shape"),
        (shaped(f"({10**18}, {10**18})"), "expected at least one vector of 1 to 1,048,576 numbers, found shape"),
        (shaped(f"(1, {DIM_LIMIT + 1})"), "expected at least one vector of 1 to 1,048,576 numbers, found shape"),
        (shaped("(-4, 2)"), "expected a .npy header, found"),
        (shaped("(4.0, 2)"), "expected a .npy header, found"),
        (shaped("(4, True)"), "expected a .npy header, found"),
        (shaped("(4 2,)"), r"expected a matrix \(rows, dim\), found shape"),
        (shaped("[4, 2]"), r"expected a matrix \(rows, dim\), found shape \[4, 2\]"),
        (shaped("(4, 2)", "<f3"), "expected real numbers, found dtype <f3"),
        (shaped("(4, 2)", "<b9"), "expected real numbers, found dtype <b9"),
        (shaped("(4, 2)", "f4,f4"), "expected real numbers, found dtype f4,f4"),
        (shaped("(4, 2)", order="None"), "expected a .npy header, found"),
        (b"{'descr': '<f4', 'fortran_order': False, 'fortran_order': False}", "expected a .npy header, found"),
        (b"{'descr': '<f4', 'fortran_order': False}", "expected a .npy header, found"),
        (b"[" * 9_000, "expected a .npy header, found"),
        (b"{'descr': " + b"[" * 9_000, "expected a .npy header, found"),
        (b"{'descr': '<f4', 'fortran_order': __import__('os').abort(), 'shape': (4, 2)}", "expected a .npy header"),
        (b"", "expected a .npy header, found b''"),
        (b"\xff" * 64, "expected a .npy header, found"),
    ],
)
def test_headers_that_announce_no_matrix_are_refused(path, header, message, packed):
    assert_refuses(path, packed(npy_header(header, VECTORS.tobytes())), message)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            npy_header(shaped("(4, 2)"), VECTORS.tobytes(), version=4),
            "expected a .npy file of version 1, 2 or 3, found",
        ),
        (npy_header(shaped("(4, 2)"), version=0), "expected a .npy file of version 1, 2 or 3, found"),
        (
            npy_header(shaped("(4, 2)"), version=2, length=2**32 - 1),
            "a .npy header of at most 10,000 bytes, found 4,294",
        ),
        (npy_header(shaped("(4, 2)"), length=5_000), "expected a .npy header, found"),
    ],
)
def test_damaged_starts_are_refused(path, data, message):
    assert_refuses(path, data, message)


def test_another_file_is_refused(path):
    path.write_bytes(b"4 2\n")
    with pytest.raises(vecstore.FormatError, match=r"byte 0: expected a \.npy file of version 1, 2 or 3, found b'4 2"):
        NpySource(ByteStream(path), path.with_suffix(".keys.txt"))


@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
def test_file_cut_anywhere_is_refused(path, packed):
    data = npy_bytes(VECTORS)
    for size in range(6, len(data), 1 if packed is PACKED["plain"] else 13):
        assert_refuses(path, packed(data[:size]), r"vectors\.npy.*: (byte [\d,]+: )?expected", format="npy")


def test_pipe_cut_anywhere_is_refused(path, monkeypatch):
    data = npy_bytes(VECTORS)
    for size in 100, len(data) - 33, len(data) - 1, len(data) + 1:
        path.write_bytes(data[:size].ljust(size, b"\0"))
        stream = ByteStream(path)
        stream.size, stream.most = 0, 1 << 62  # as of a pipe
        with pytest.raises(vecstore.FormatError, match=r"expected a \.npy header|found the end|found more"):
            list(NpySource(stream, path.with_suffix(".keys.txt")).blocks())
        stream.close()


@pytest.mark.parametrize("packed", PACKED.values(), ids=PACKED)
@pytest.mark.parametrize("more", [b"\0", npy_bytes(VECTORS)])
def test_file_that_goes_on_is_refused(path, packed, more):
    message = (
        r"expected 160 bytes, as the header says, found \d+; the file is damaged|byte 160: expected the end, .*more"
    )
    assert_refuses(path, packed(npy_bytes(VECTORS) + more), message)


def test_file_that_shrinks_while_it_is_read_is_refused(path):
    keys, vectors = numbered(9_000, 300)
    path.with_suffix(".keys.txt").write_bytes(b"\n".join(keys))
    path.write_bytes(npy_bytes(vectors))
    source = open_source(path)
    blocks = source.blocks()
    next(blocks)
    with path.open("r+b") as file:
        file.truncate(5_000_000)
    with pytest.raises(vecstore.FormatError, match=r"byte 5,000,000: expected 10,800,128 bytes, .*found the end"):
        list(blocks)
    source.close()


def test_convert_takes_a_matrix_with_its_keys(path, tmp_path):
    path.write_bytes(npy_bytes(VECTORS.astype(np.float16)))
    report = vecstore.convert(path, tmp_path / "v.vecstore")
    store = vecstore.open(tmp_path / "v.vecstore")
    assert [key.encode() for key in store.keys] == KEYS
    np.testing.assert_array_equal(store.vectors, VECTORS)
    assert report.source.format == "npy"
