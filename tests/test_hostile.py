"""Files made to harm whoever reads them: each is refused, soon and in little memory."""

import ast
import gzip
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from files import PACKED, left_in, word2vec_bytes, zip_bytes
from test_safetensors import safetensors_bytes

import vecstore
from vecstore.layout import ARRAYS, METADATA, SCALES

STORE = Path(__file__).parent / "data" / "store-v1"
SCALED = STORE.with_name("store-v2-int8")
FILES = [*ARRAYS, SCALES, METADATA]
ATTEMPT = """
import resource, sys, time
import vecstore
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    started = time.process_time()
    try:
        result = {call}
    except Exception as error:
        result = f"{{type(error).__name__}}: {{error}}"
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory >> 10, time.process_time() - started
    print(repr((str(result), used)), flush=True)
"""
MEGABYTES, SECONDS = 250, 5.0
GIGABYTE = 1 << 30
VAST = 10**18


class Attempt(NamedTuple):
    """What came of a call in a process of its own: its result or error, and the memory and time that it took."""

    result: str
    used: tuple[int, float]


@pytest.fixture(scope="module", autouse=True)
def _compiled(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compile what is not kept on disk yet, which would take a child its time."""
    folder = tmp_path_factory.mktemp("compiled")
    for name, data in {"text": b"a 1\n", "binary": word2vec_bytes([b"a"], [[0.5]])}.items():
        (folder / name).write_bytes(data)
        vecstore.convert(folder / name, folder / f"{name}.vecstore")
        vecstore.verify(folder / f"{name}.vecstore")


def attempt(call: str, *paths: Path) -> list[Attempt]:
    """Evaluate `call` for each path, which it knows as ``path``."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", ATTEMPT.format(call=call), *map(str, paths)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        found, errors = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        found, errors = process.communicate()
        errors += f"does not end: {call}"
    attempts = [Attempt(*ast.literal_eval(line)) for line in found.splitlines()]
    assert len(attempts) == len(paths), f"{paths[len(attempts)]}: {errors}"
    return attempts


def assert_refused(call: str, *paths: Path, error: str = "FormatError") -> None:
    """Check that a call is refused for each path, and cheaply."""
    for path, (result, (memory, seconds)) in zip(paths, attempt(call, *paths), strict=True):
        assert result.startswith(f"{error}: "), f"{path.name}: {result}"
        assert (memory < MEGABYTES, seconds < SECONDS) == (True, True), f"{path.name}: {memory} MB, {seconds} s"


CONVERT = "vecstore.convert(path, path + '.vecstore', row_keys={row_keys!r}, **{options})"


def conversion(row_keys: Path | None = None, **options: Any) -> str:
    return CONVERT.format(row_keys=None if row_keys is None else str(row_keys), options=options)


def npy_bytes(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


def huge_tensor(rows: int, dim: int) -> bytes:
    entry = {"dtype": "F32", "shape": [rows, dim], "data_offsets": [0, 4 * rows * dim]}
    text = json.dumps({"x": entry}).encode()
    return len(text).to_bytes(8, "little") + text


SHAPES = [(VAST, 1), (1, VAST), (VAST, VAST), (VAST, 300), (2**62, 4), (2**63 - 1, 1)]
HEADERS = {
    "word2vec": lambda rows, dim: f"{rows} {dim}\n".encode() + b"a " + bytes(40),
    "word2vec-text": lambda rows, dim: f"{rows} {dim}\n".encode() + b"a 1 2 3\nb 4 5 6\n",
    "npy": lambda rows, dim: npy_bytes((rows, dim)) + bytes(40),
    "safetensors": lambda rows, dim: huge_tensor(rows, dim) + bytes(40),
}


@pytest.mark.parametrize("format", HEADERS)
def test_counts_of_a_quintillion_are_refused(tmp_path, format):
    (tmp_path / "keys.txt").write_bytes(b"a\nb\n")
    paths = []
    for packing, pack in PACKED.items():
        for rows, dim in SHAPES:
            paths.append(tmp_path / f"{packing}-{rows}-{dim}")
            paths[-1].write_bytes(pack(HEADERS[format](rows, dim)))
    assert_refused(conversion(tmp_path / "keys.txt", format=format), *paths)
    assert left_in(tmp_path) == {"keys.txt", *(path.name for path in paths)}


@pytest.mark.parametrize("format", ["word2vec", "word2vec-text"])
def test_counts_of_a_quintillion_are_refused_when_headers_may_lie(tmp_path, format):
    paths = []
    for name, body in {"short": b"a\n" * (1 << 21), "long": b"a" * (1 << 22)}.items():
        for dim in (1, 300, 1 << 20):
            paths.append(tmp_path / f"{name}-{dim}")
            paths[-1].write_bytes(f"{VAST} {dim}\n".encode() + body)
    assert_refused(conversion(format=format, count_mismatch="warn"), *paths)


def test_wide_first_lines_do_not_make_short_ones_dear(tmp_path):
    path = tmp_path / "vectors.txt"
    path.write_bytes(b"a" + b" 1" * 30_000 + b"\n" + b"b\n" * (1 << 22))
    assert_refused(conversion(format="glove"), path)


@pytest.mark.parametrize("tail", [b"x 2\n", b" 2\n", b".5e5e5 2\n"])
def test_long_runs_take_time_in_proportion(tmp_path, tail):
    paths = []
    for run in [b"1", b" ", b"\t", b"9.", b"e", b"-", b"\r", b"\0"]:
        paths.append(tmp_path / run.hex())
        paths[-1].write_bytes(b"a 1 2\nb " + run * 2_000_000 + tail)
    for memory, seconds in (used for _, used in attempt(conversion(), *paths)):
        assert memory < MEGABYTES
        assert seconds < SECONDS


@pytest.mark.parametrize("lines", [b"a", b"a 1 2\nb"], ids=["first", "second"])
def test_a_line_of_many_numbers_is_refused(tmp_path, lines):
    path = tmp_path / "vectors.txt.gz"
    path.write_bytes(gzip.compress(lines + b" 1" * (1 << 24) + b"\n", 1))
    assert_refused(conversion(), path)


@pytest.mark.parametrize("format", ["word2vec", "word2vec-text", "glove"])
@pytest.mark.parametrize("packing", ["plain", "gzip"])
def test_a_key_of_a_gigabyte_is_refused(tmp_path, format, packing):
    path = tmp_path / "vectors"
    head = b"" if format == "glove" else b"1 1\n"
    if packing == "plain":
        path.write_bytes(head)
        os.truncate(path, GIGABYTE)
    else:
        path.write_bytes(gzip.compress(head) + gzip.compress(bytes(GIGABYTE >> 6), 1) * 64)
    assert_refused(conversion(format=format), path)


@pytest.mark.parametrize("name", ["keys.txt", "keys.json"])
def test_a_list_of_keys_of_a_gigabyte_is_refused(tmp_path, name):
    np.save(tmp_path / "vectors.npy", np.ones((1, 2), np.float32))
    (tmp_path / name).write_bytes(b"")
    os.truncate(tmp_path / name, GIGABYTE)
    assert_refused(conversion(tmp_path / name), tmp_path / "vectors.npy")


def test_a_bomb_of_sound_lines_is_refused(tmp_path):
    line = b"a" + b" 0" * 1000 + b"\n"
    path = tmp_path / "vectors.txt.gz"
    path.write_bytes(gzip.compress(line * 2000) * 256)
    assert_refused(conversion(), path)
    assert left_in(tmp_path) == {path.name}


@pytest.mark.parametrize("packing", ["zip", "gzip", "bz2", "xz", "zstd"])
def test_a_bomb_within_a_bomb_is_refused(tmp_path, packing):
    path = tmp_path / "bomb"
    bomb = b"a 1\n" * (1 << 20)
    for _ in range(4):
        bomb = PACKED[packing](bomb)
    path.write_bytes(bomb)
    with pytest.raises(vecstore.FormatError, match=f"{packing} data within {packing} data; unpack it first"):
        vecstore.convert(path, tmp_path / "store")


def central_entry(name: bytes, at: int, size: int, packed: int, method: int = 8) -> bytes:
    sizes = struct.pack("<IIIHHHHHII", 0, packed, size, len(name), 0, 0, 0, 0, 0, at)
    return struct.pack("<4sHHHHHH", b"PK\1\2", 20, 20, 0, method, 0, 0) + sizes + name


def end_of_archive(entries: int, size: int, at: int) -> bytes:
    return struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, entries % 65536, entries % 65536, size, at, 0)


def test_a_directory_of_many_entries_is_refused(tmp_path):
    data = zip_bytes({"a": b"a 1\n"})
    local = data[: data.index(b"PK\1\2")]
    entries = 200_000
    directory = central_entry(b"a", 0, 4, 6) * entries
    path = tmp_path / "vectors.zip"
    path.write_bytes(local + directory + end_of_archive(entries, len(directory), len(local)))
    assert_refused(conversion(), path)


def test_entries_that_overlap_are_refused(tmp_path):
    data = zip_bytes({"a": b"a 1\n" * 1000})
    local = data[: data.index(b"PK\1\2")]
    packed = len(local) - 31
    directory = b"".join(central_entry(b"a", 0, 4000, packed) for _ in range(2))
    path = tmp_path / "vectors.zip"
    path.write_bytes(local + directory + end_of_archive(2, len(directory), len(local)))
    with pytest.raises(vecstore.FormatError, match="expected a zip archive of one file, found 2"):
        vecstore.convert(path, tmp_path / "store")
    with pytest.raises(vecstore.FormatError, match="expected one member 'a', found 2"):
        vecstore.convert(f"{path}::a", tmp_path / "store")


@pytest.mark.parametrize("size", [0, 1, 2**31, 2**32 - 1])
def test_a_member_that_lies_about_its_size_is_refused(tmp_path, size):
    data = zip_bytes({"a": b"a 1\n" * 1000})
    at = data.index(b"PK\1\2")
    sized = data[: at + 24] + size.to_bytes(4, "little") + data[at + 28 :]
    (tmp_path / "vectors.zip").write_bytes(sized)
    assert_refused(conversion(), tmp_path / "vectors.zip")


@pytest.mark.parametrize(
    "name", ["../outside.txt", "/outside.txt", "a/../../outside.txt", "..\\outside.txt", "C:/x.txt"]
)
def test_a_member_that_points_outside_is_read_in_place(tmp_path, name):
    (tmp_path / "inner").mkdir()
    path = tmp_path / "inner" / "vectors.zip"
    path.write_bytes(zip_bytes({name: b"a 1\nb 2\n"}))
    assert vecstore.convert(path, tmp_path / "inner" / "store").rows == 2
    assert vecstore.convert(f"{path}::{name}", tmp_path / "inner" / "named").rows == 2
    assert left_in(tmp_path) == {"inner"}
    assert left_in(tmp_path / "inner") == {"vectors.zip", "store", "named"}


def test_a_member_that_is_a_symbolic_link_is_refused(tmp_path):
    (tmp_path / "secret").write_bytes(b"a 1\n")
    entry = zipfile.ZipInfo("vectors.txt")
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "vectors.zip", "w") as archive:
        archive.writestr(entry, str(tmp_path / "secret"))
    with pytest.raises(vecstore.FormatError, match=r"vectors\.zip::vectors\.txt: is a symbolic link"):
        vecstore.convert(tmp_path / "vectors.zip", tmp_path / "store")


class Bait:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_bait_works(tmp_path):
    pickle.loads(pickle.dumps(Bait(tmp_path / "sprung")))
    assert left_in(tmp_path) == {"sprung"}


def pickled_array(bait: Bait) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array([[bait, bait]], object), allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize("format", ["auto", "npy"])
@pytest.mark.parametrize("packing", PACKED)
def test_pickled_arrays_are_not_loaded(tmp_path, format, packing):
    path = tmp_path / "vectors.npy"
    path.write_bytes(PACKED[packing](pickled_array(Bait(tmp_path / "sprung"))))
    (tmp_path / "vectors.keys.txt").write_bytes(b"a\n")
    with pytest.raises(vecstore.FormatError, match="a pickle, which may run code when loaded"):
        vecstore.convert(path, tmp_path / "store", format=format)
    assert left_in(tmp_path) == {"vectors.npy", "vectors.keys.txt"}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "name", ["vectors.kv", "vectors.bin", "vectors.npy", "vectors.txt", "model.safetensors", "vectors"]
)
def test_pickles_are_not_loaded_under_any_name(tmp_path, name, protocol):
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Bait(tmp_path / "sprung"), protocol))
    path.with_suffix(".keys.txt").write_bytes(b"a\n")
    with pytest.raises(vecstore.FormatError, match=rf"{name}: .*(a pickle, which may run code|found b'c)"):
        vecstore.convert(path, tmp_path / "store")
    assert left_in(tmp_path) == {name, path.with_suffix(".keys.txt").name}


@pytest.mark.parametrize("name", FILES)
def test_pickles_within_a_store_are_not_loaded(tmp_path, name):
    store = copy_of_store(tmp_path, "store", SCALED)
    for data in (pickled_array(Bait(tmp_path / "sprung")), pickle.dumps(Bait(tmp_path / "sprung"))):
        (store / name).write_bytes(data)
        with pytest.raises(vecstore.StoreError, match=name):
            vecstore.open(store)
        assert vecstore.verify(store)
    assert left_in(tmp_path) == {"store"}


def copy_of_store(folder: Path, name: str = "store", store: Path = STORE) -> Path:
    (folder / name).mkdir()
    for path in store.iterdir():
        (folder / name / path.name).write_bytes(path.read_bytes())
    return folder / name


def assert_store_is_refused(*stores: Path) -> None:
    assert_refused("vecstore.open(path)", *stores, error="StoreError")
    assert_refused("f'found: {vecstore.verify(path)[0]}'", *stores, error="found")


def test_a_pipe_within_a_store_holds_nobody_up(tmp_path):
    stores = []
    for name in FILES:
        stores.append(copy_of_store(tmp_path, name, SCALED if name == SCALES else STORE))
        (stores[-1] / name).unlink()
        os.mkfifo(stores[-1] / name)
    assert_store_is_refused(*stores)


@pytest.mark.parametrize("device", ["zero", "null", "urandom"])
def test_a_device_within_a_store_is_not_read(tmp_path, device):
    stores = []
    for name in FILES:
        stores.append(copy_of_store(tmp_path, name, SCALED if name == SCALES else STORE))
        (stores[-1] / name).unlink()
        (stores[-1] / name).symlink_to(Path("/dev", device))
    assert_store_is_refused(*stores)


def test_a_file_of_a_store_grown_to_a_terabyte_is_not_read(tmp_path):
    stores = []
    for name in FILES:
        stores.append(copy_of_store(tmp_path, name, SCALED if name == SCALES else STORE))
        os.truncate(stores[-1] / name, 1 << 40)
    assert_store_is_refused(*stores)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_device_is_no_source(tmp_path, device):
    with pytest.raises(vecstore.FormatError, match="expected a file or a pipe, found a device"):
        vecstore.convert(device, tmp_path / "store")


def write_model(folder: Path) -> None:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(safetensors_bytes({"embeddings": np.ones((2, 3), np.float32)}))
    (folder / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0, "b": 1}}}')


def test_a_model_of_symbolic_links_is_read(tmp_path):
    write_model(tmp_path / "blobs")
    (tmp_path / "snapshot").mkdir()
    for path in (tmp_path / "blobs").iterdir():
        (tmp_path / "snapshot" / path.name).symlink_to(f"../blobs/{path.name}")
    assert vecstore.convert(tmp_path / "snapshot", tmp_path / "store").rows == 2


def test_a_model_with_a_pipe_holds_nobody_up(tmp_path):
    models = []
    for name in ("model.safetensors", "tokenizer.json"):
        models.append(tmp_path / name)
        write_model(models[-1])
        (models[-1] / name).unlink()
        os.mkfifo(models[-1] / name)
    assert_refused(conversion(), *models)
    assert_refused(conversion(format="model2vec"), *models)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "vectors.bin"
    path.write_bytes(word2vec_bytes([b"a", b"b"], np.ones((2, 3))))
    return path


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("aim", ["missing", "store", "victim"])
def test_a_target_that_is_a_symbolic_link_is_refused(tmp_path, source, aim, overwrite):
    copy_of_store(tmp_path)
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "precious").write_bytes(b"1")
    (tmp_path / "target").symlink_to(tmp_path / aim)
    before = left_in(tmp_path)
    with pytest.raises(vecstore.TargetError, match="target: exists"):
        vecstore.convert(source, tmp_path / "target", overwrite=overwrite)
    assert left_in(tmp_path) == before
    assert left_in(tmp_path / "victim") == {"precious"}
    assert vecstore.verify(tmp_path / "store") == []


@pytest.mark.parametrize("name", [".target.abcdefgh.partial", ".target.12345678.partial"])
def test_links_that_look_like_debris_are_not_followed(tmp_path, source, name):
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "precious").write_bytes(b"1")
    (tmp_path / name).symlink_to("victim")
    assert vecstore.convert(source, tmp_path / "target").rows == 2
    assert left_in(tmp_path / "victim") == {"precious"}
    assert left_in(tmp_path) == {"vectors.bin", "victim", name, "target"}


def test_links_within_debris_are_not_followed(tmp_path, source):
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "precious").write_bytes(b"1")
    debris = tmp_path / ".target.abcdefgh.partial"
    debris.mkdir()
    (debris / "replaced").symlink_to(tmp_path / "victim")
    (debris / "vectors.npy").symlink_to(tmp_path / "victim" / "precious")
    try:
        vecstore.convert(source, tmp_path / "target")
    except vecstore.TargetError:
        assert (tmp_path / "target").is_symlink()  # taken for an old store that had stepped aside
        (tmp_path / "target").unlink()
        vecstore.convert(source, tmp_path / "target")
    assert left_in(tmp_path / "victim") == {"precious"}
    assert vecstore.verify(tmp_path / "target") == []


DEEP = {"arrays": b"[" * 200_000, "objects": b'{"a":' * 200_000, "closed": b"[" * 90_000 + b"]" * 90_000}
deep = pytest.mark.parametrize("nesting", DEEP.values(), ids=DEEP)


@deep
def test_deep_json_in_metadata_is_refused(tmp_path, nesting):
    store = copy_of_store(tmp_path)
    for data in (nesting, b'{"format": "vecstore", "version": 1, "rows": ' + nesting + b"}"):
        (store / METADATA).write_bytes(data)
        with pytest.raises(vecstore.StoreError, match=METADATA):
            vecstore.open(store)
        assert [problem.file for problem in vecstore.verify(store)] == [METADATA]


@deep
def test_deep_json_in_a_tokenizer_is_refused(tmp_path, nesting):
    write_model(tmp_path / "model")
    for data in (nesting, b'{"model": {"vocab": ' + nesting + b"}}"):
        (tmp_path / "model" / "tokenizer.json").write_bytes(data)
        with pytest.raises(vecstore.FormatError, match=r"tokenizer\.json: expected"):
            vecstore.convert(tmp_path / "model", tmp_path / "store")


@deep
def test_deep_json_in_a_safetensors_header_is_refused(tmp_path, nesting):
    path = tmp_path / "model.safetensors"
    for text in (nesting, b'{"x": ' + nesting + b"}"):
        path.write_bytes(len(text).to_bytes(8, "little") + text)
        with pytest.raises(vecstore.FormatError, match=r"byte 8: expected a safetensors header"):
            vecstore.convert(path, tmp_path / "store", format="safetensors")


@deep
def test_deep_json_in_a_list_of_keys_is_refused(tmp_path, nesting):
    np.save(tmp_path / "vectors.npy", np.ones((1, 2), np.float32))
    (tmp_path / "keys.json").write_bytes(nesting)
    with pytest.raises(vecstore.FormatError, match=r"keys\.json: expected"):
        vecstore.convert(tmp_path / "vectors.npy", tmp_path / "store", row_keys=tmp_path / "keys.json")


def test_a_safetensors_header_of_empty_arrays_is_refused(tmp_path):
    text = b'{"x":[' + b"[]," * 1_300_000 + b"[]]}"
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    assert_refused(conversion(), path)


def test_a_tokenizer_of_empty_arrays_is_refused(tmp_path):
    write_model(tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_bytes(b'{"model":{"vocab":[' + b"[]," * 80_000_000 + b"[]]}}")
    assert_refused(conversion(), tmp_path / "model")
