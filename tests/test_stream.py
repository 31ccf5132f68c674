import bz2
import contextlib
import gzip
import io
import lzma
import os
import stat
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from files import PACKED, zip_bytes, zstd_bytes

import vecstore
from vecstore.formats.compression import packing
from vecstore.formats.names import split_member
from vecstore.formats.stream import ByteStream

TEXT = b"one 1 2 3\ntwo 4 5 6\n"
STREAMS = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd_bytes,
}
streams = pytest.mark.parametrize("pack", STREAMS.values(), ids=STREAMS)
packings = pytest.mark.parametrize(("name", "pack"), PACKED.items(), ids=PACKED)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vectors.txt"


def read_all(path, member=None):
    with contextlib.closing(ByteStream(path, member)) as stream:
        out = bytearray()
        buffer = bytearray(100_000)
        while count := stream.fill(memoryview(buffer)):
            out += buffer[:count]
        assert len(out) <= stream.most
        return bytes(out)


@packings
@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 5_000_000])
def test_stream_gives_every_byte(path, name, pack, size):
    data = np.random.default_rng(0).integers(0, 30, size, np.uint8).tobytes()
    path.write_bytes(pack(data))
    assert read_all(path) == data


@packings
def test_stream_describes_the_file(path, name, pack):
    path.write_bytes(pack(TEXT))
    with contextlib.closing(ByteStream(path)) as stream:
        source = stream.describe("glove")
    assert (source.name, source.size, source.format) == ("vectors.txt", path.stat().st_size, "glove")
    assert source.compression == (None if name == "plain" else name)
    assert source.modified == path.stat().st_mtime_ns


def test_peeked_bytes_are_read_again(path):
    path.write_bytes(TEXT)
    with contextlib.closing(ByteStream(path)) as stream:
        assert (stream.peek(3), stream.peek(5), stream.peek(1000)) == (TEXT[:3], TEXT[:5], TEXT)
        buffer = bytearray(7)
        assert (stream.fill(memoryview(buffer)), buffer) == (7, TEXT[:7])
        assert stream.peek(1000) == TEXT[7:]


@streams
@pytest.mark.parametrize("padding", [b"", bytes(4), bytes(512)])
def test_streams_may_lie_end_to_end(path, pack, padding):
    if pack is zstd_bytes and padding:
        padding = b"\x50\x2a\x4d\x18" + len(padding).to_bytes(4, "little") + padding  # a skippable frame
    path.write_bytes(pack(TEXT) + pack(b"three 7 8 9\n" * 100_000) + pack(b"") + pack(b"end") + padding)
    assert read_all(path) == TEXT + b"three 7 8 9\n" * 100_000 + b"end"


@streams
def test_something_else_after_the_data_is_an_error(path, pack):
    path.write_bytes(pack(TEXT) + b"tail")
    with pytest.raises(vecstore.FormatError, match=r"vectors\.txt: byte [\d,]+ of [\d,]+: the .* data is damaged"):
        read_all(path)


@pytest.mark.parametrize(("name", "pack"), list(PACKED.items())[1:], ids=list(PACKED)[1:])
def test_packed_data_cut_anywhere_is_an_error(path, name, pack):
    packed = pack(TEXT * 20)
    for cut in range(len(packed)):
        path.write_bytes(packed[:cut])
        if cut and packing(packed[:cut]) is None:
            assert read_all(path) == packed[:cut]  # too little is left to say how it was packed
            continue
        with pytest.raises(vecstore.FormatError, match=r"cut short|empty file|of one file"):
            read_all(path)


@pytest.mark.parametrize(("name", "pack"), list(PACKED.items())[1:], ids=list(PACKED)[1:])
def test_packed_data_with_a_flipped_bit_is_an_error_or_the_same(path, name, pack):
    data = np.random.default_rng(0).integers(0, 256, 300, np.uint8).tobytes()
    packed = pack(data)
    for at in range(len(packed)):
        flipped = bytearray(packed)
        flipped[at] ^= 1 << at % 8
        if packing(bytes(flipped)) != name:
            continue
        path.write_bytes(flipped)
        with contextlib.suppress(vecstore.FormatError):
            # zstd as pyarrow writes it carries no checksum of its contents.
            assert read_all(path) == data or name == "zstd"


def test_zip_of_one_file_needs_no_name(path):
    path.write_bytes(zip_bytes({"folder/": b"", "folder/a.txt": TEXT, "__MACOSX/folder/._a.txt": b"notes"}))
    assert read_all(path) == TEXT


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_zip_members_are_read_by_name(path, method):
    data = TEXT * 1000
    path.write_bytes(zip_bytes({"a.txt": data, "b/c.txt": b"other " + data}, method))
    assert read_all(path, "a.txt") == data
    assert read_all(path, "b/c.txt") == b"other " + data
    for member in None, "c.txt":
        with pytest.raises(vecstore.FormatError, match=r"'a\.txt', 'b/c\.txt'"):
            read_all(path, member)


def test_conversion_names_the_members_of_an_archive(path):
    path.write_bytes(zip_bytes({"a.txt": TEXT, "b.txt": TEXT}))
    with pytest.raises(
        vecstore.FormatError, match=r"of one file, found 2: .*; name one, as in '.*vectors\.txt::a\.txt'"
    ):
        vecstore.convert(path, path.with_suffix(".vecstore"))
    report = vecstore.convert(f"{path}::b.txt", path.with_suffix(".vecstore"))
    assert (report.rows, report.source.compression) == (2, "zip")


@pytest.mark.parametrize("name", ["../../outside.txt", "/etc/passwd", "..\\outside.txt", "a\nb"])
def test_names_of_members_are_no_paths(path, tmp_path, name):
    inner = tmp_path / "inner"
    inner.mkdir()
    path = inner / "vectors.zip"
    path.write_bytes(zip_bytes({name: TEXT}))
    vecstore.convert(path, inner / "store")
    assert {entry.name for entry in inner.iterdir()} == {"vectors.zip", "store"}
    assert {entry.name for entry in tmp_path.iterdir()} == {"inner"}


def with_entry(**fields):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo("a.txt")
        entry.compress_type = zipfile.ZIP_DEFLATED
        for name, value in fields.items():
            setattr(entry, name, value)
        archive.writestr(entry, TEXT)
    return file.getvalue()


def patched(data: bytes, signature: bytes, at: int, value: bytes) -> bytes:
    """A zip with some bytes of its directory or of the member's own header changed."""
    start = data.index(signature) + at
    return data[:start] + value + data[start + len(value) :]


LOCAL, CENTRAL = b"PK\x03\x04", b"PK\x01\x02"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (zip_bytes({}), "found 0: none"),
        (zip_bytes({"folder/": b""}), "found 0: none"),
        (with_entry(external_attr=(stat.S_IFLNK | 0o777) << 16), r"::a\.txt: is a symbolic link"),
        (patched(patched(with_entry(), LOCAL, 6, b"\1\0"), CENTRAL, 8, b"\1\0"), "is encrypted; unpack it first"),
        (patched(patched(with_entry(), LOCAL, 8, b"\x63\0"), CENTRAL, 10, b"\x63\0"), "cannot be unpacked"),
        (zip_bytes({"a.txt": TEXT}, zipfile.ZIP_LZMA), r"cannot be unpacked \(method 14\); unpack it first"),
        (patched(with_entry(), CENTRAL, 42, b"\xff\xff\xff\x7f"), "cannot be unpacked|damaged"),
        (patched(with_entry(), LOCAL, 30, b"X"), "cannot be unpacked .*differ"),
        (patched(with_entry(), CENTRAL, 16, b"\0\0\0\0"), "data is damaged .*CRC-32"),
        (patched(with_entry(), CENTRAL, 24, b"\1\0\0\0"), "data is damaged .*expected 1 bytes"),
        (patched(with_entry(), CENTRAL, 24, b"\xff\xff\xff\x7f"), "data is damaged .*expected 2,147,483,647 bytes"),
        (patched(with_entry(), CENTRAL, 20, b"\1\0\0\0"), "data is damaged or cut short"),
    ],
)
def test_odd_archives_are_refused(path, data, message):
    path.write_bytes(data)
    with pytest.raises(vecstore.FormatError, match=message):
        read_all(path)


def tar_bytes():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("vectors.txt"), io.BytesIO(b""))
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (tar_bytes(), "a tar archive"),
        (gzip.compress(tar_bytes()), "a tar archive"),
        (gzip.compress(gzip.compress(TEXT)), "gzip data within gzip data"),
        (zip_bytes({"a.zip": zip_bytes({"a.txt": TEXT})}), "zip data within zip data"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(50), "a 7z archive"),
        (b"Rar!\x1a\x07" + bytes(50), "a RAR archive"),
    ],
)
def test_what_must_be_unpacked_first_is_named(path, data, what):
    path.write_bytes(data)
    with pytest.raises(vecstore.FormatError, match=f"expected a file of word vectors, found {what}; unpack it first"):
        read_all(path)


BOMB = (b"bomb " + b"0 " * 100_000 + b"\n") * 20  # 4 MB


@pytest.mark.parametrize(
    "packed",
    [
        gzip.compress(BOMB) * 75,
        bz2.compress(BOMB) * 75,
        lzma.compress(BOMB) * 75,
        zstd_bytes(BOMB) * 75,
        zip_bytes({"a.txt": BOMB * 75}),
    ],
    ids=["gzip", "bz2", "xz", "zstd", "zip"],
)
def test_a_bomb_is_refused_early(path, packed):
    path.write_bytes(packed)
    assert len(packed) < 400_000
    target = path.with_suffix(".vecstore")
    with pytest.raises(vecstore.FormatError, match="grows to more than 250 times its size, as no word vectors do"):
        vecstore.convert(path, target)
    assert not target.exists()


def run_cli(*arguments, **options):
    command = [sys.executable, "-m", "vecstore", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=120, **options)


@packings
def test_standard_input_is_read(tmp_path, name, pack):
    target = tmp_path / "store"
    done = run_cli("convert", "-", target, input=pack(TEXT))
    if name == "zip":
        assert done.returncode == 1
        assert b"a zip archive cannot be read from a pipe; write it to a file first" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    store = vecstore.open(target)
    assert list(store.keys) == ["one", "two"]
    assert store.metadata.source.name == "-"
    assert store.metadata.source.size == len(pack(TEXT))
    assert store.metadata.source.modified is None


def test_standard_input_that_ends_early_leaves_nothing(tmp_path):
    done = run_cli("convert", "-", tmp_path / "store", input=b"3 2\none 1 2\n")
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert done.stderr.startswith(b"vecstore: -: line 3, byte 12: expected 3 records, found the end after 1")
    assert not list(tmp_path.iterdir())


def test_named_pipe_is_read(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(gzip.compress(TEXT * 10_000),))
    writer.start()
    report = vecstore.convert(pipe, tmp_path / "store")
    writer.join()
    assert report.dropped["duplicates"] == 2 * 10_000 - 2


def test_devices_and_folders_are_refused(tmp_path):
    with pytest.raises(vecstore.FormatError, match="/dev/null: expected a file or a pipe, found a device"):
        ByteStream(Path("/dev/null"))
    with pytest.raises(vecstore.FormatError, match="expected a file of word vectors, found a folder"):
        ByteStream(tmp_path)
    with pytest.raises(FileNotFoundError):
        ByteStream(tmp_path / "missing")


@pytest.mark.parametrize("stop", [0, 1, 10_000_000])
def test_closing_early_ends_the_thread(path, stop):
    path.write_bytes(gzip.compress(bytes(20_000_000), 1))
    before = threading.active_count()
    stream = ByteStream(path)
    stream.fill(memoryview(bytearray(stop)))
    stream.close()
    assert threading.active_count() == before


def test_split_member_leaves_existing_names_alone(tmp_path):
    odd = tmp_path / "a::b"
    odd.write_bytes(TEXT)
    assert split_member(odd) == (odd, None)
    archive = tmp_path / "a.zip"
    assert split_member(Path(f"{archive}::b")) == (Path(f"{archive}::b"), None)
    archive.write_bytes(zip_bytes({"b::c": TEXT}))
    assert split_member(Path(f"{archive}::b::c")) == (archive, "b::c")
    assert read_all(*split_member(Path(f"{archive}::b::c"))) == TEXT


def test_a_directory_of_millions_of_files_is_refused_unread(path):
    data = zip_bytes({"a.txt": TEXT})
    end = data.index(b"PK\x05\x06")
    directory = (1 << 25).to_bytes(4, "little")
    path.write_bytes(data[:end] + bytes(1 << 25) + data[end : end + 12] + directory + data[end + 16 :])
    with pytest.raises(
        vecstore.FormatError, match=r"expected at most 16,777,216 bytes in one piece, such as a directory"
    ):
        read_all(path)


def test_many_small_streams_are_read(path):
    path.write_bytes(gzip.compress(b"x") * 20_000)
    assert read_all(path) == b"x" * 20_000
