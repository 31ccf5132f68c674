import dataclasses
import errno
import json
import logging
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pyarrow as pa
import pytest
from files import left_in
from moto.server import ThreadedMotoServer
from servers import FolderServer
from test_interruptions import IN_NAMESPACE, may_mount

import vecstore
from vecstore import remote
from vecstore.layout import FILES, METADATA, METADATA_LIMIT, parse_metadata

ROWS, DIM = 100_000, 100  # 43 MB: more than sockets hold
DTYPES = ["float32", "float16", "bfloat16", "int8"]


@pytest.fixture(scope="session")
def big_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    vectors = np.random.default_rng(0).standard_normal((ROWS, DIM), dtype=np.float32)
    path = tmp_path_factory.mktemp("big") / "big.vecstore"
    vecstore.convert(([f"k{i}" for i in range(ROWS)], vectors), path)
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for copies, which is made by whoever needs it."""
    monkeypatch.setenv("VECSTORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "_PAUSE", 0)
    return tmp_path / "cache"


@pytest.fixture
def server(tmp_path: Path, small_path: Path, big_path: Path) -> Iterator[FolderServer]:
    """Serves small.vecstore and big.vecstore, which may be changed there."""
    for path in small_path, big_path:
        shutil.copytree(path, tmp_path / "served" / path.name)
    server = FolderServer(tmp_path / "served")
    yield server
    server.close()


@pytest.fixture
def address(server: FolderServer) -> str:
    return f"{server.address}/small.vecstore"


@pytest.fixture
def big_address(server: FolderServer) -> str:
    return f"{server.address}/big.vecstore"


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def metadata_of(folder: Path) -> vecstore.Metadata:
    return parse_metadata((folder / METADATA).read_bytes(), folder)


def publish(server: FolderServer, keys: list[str], name: str = "small.vecstore") -> None:
    """Put another store under a served name."""
    vecstore.convert((keys, np.ones((len(keys), 2), np.float32)), server.folder / name, overwrite=True)


def start(script: str, *arguments: str) -> subprocess.Popen:
    """Start a fresh interpreter that finds vecstore."""
    environment = {**os.environ, "PYTHONPATH": str(Path(vecstore.__file__).parents[1])}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


OPEN = "import sys, vecstore; print(len(vecstore.open(sys.argv[1])))"


def wait_until_half_is_served(server: FolderServer, process: subprocess.Popen, folder: Path) -> None:
    while server.bytes_served < size_of(folder) / 2:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.002)


def assert_prints(process: subprocess.Popen, text: str) -> None:
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, text), err


def test_a_store_at_an_address_is_the_store(address, server, small_path, small_keys, cache):
    with vecstore.open(address) as store, vecstore.open(small_path) as local:
        assert list(store.keys) == small_keys
        assert store[small_keys].tobytes() == local[small_keys].tobytes()
        assert store.metadata == local.metadata
        assert store.address == address
        assert store.path.parent == cache
        assert bytes_of(store.path) == bytes_of(small_path)
        assert repr(store) == f"VectorStore('{address}': 10 x 3 float32)"
        assert local.address is None
    assert repr(store) == f"VectorStore('{address}', closed)"
    assert vecstore.verify(address) == []
    assert server.bytes_served == size_of(small_path)
    assert left_in(cache) == {store.path.name}
    assert store.path.name.startswith("small-")


def test_a_copy_is_opened_without_a_request(address, server):
    vecstore.open(address)
    server.forget()
    for opened in address, f"{address}/":
        vecstore.open(opened)
        vecstore.load(opened)
        vecstore.verify(opened)
    server.close()
    vecstore.open(address)
    assert server.requests == []


FOUND = """
import sys, vecstore
vecstore.open(sys.argv[1])
print([name for name in ("fsspec", "vecstore.fetch", "vecstore.staging", "concurrent.futures") if name in sys.modules])
"""


def test_a_copy_that_is_there_needs_nothing_that_fetches(address, server, run_python):
    vecstore.open(address)
    server.close()
    assert run_python(FOUND, address) == "[]\n"


def test_addresses_have_copies_of_their_own(address, server, cache):
    shutil.copytree(server.folder / "small.vecstore", server.folder / "deep" / "small.vecstore")
    paths = {
        vecstore.open(opened).path for opened in (address, f"{server.address}/deep/small.vecstore", f"{address}?v=2")
    }
    assert len(paths) == 3
    assert {path.name for path in paths} == left_in(cache)


@pytest.mark.parametrize("name", ["größe", "a b", "%41", "x" * 250, "no suffix.npy", "ö" * 80])
def test_a_folder_may_have_any_name(server, name):
    served = server.folder / name
    (server.folder / "small.vecstore").rename(served)
    with vecstore.open(f"{server.address}/{name.replace('%', '%25')}") as store:
        assert bytes_of(store.path) == bytes_of(served)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_storage_type_can_be_fetched(server, dtype, small_keys, small_vectors):
    served = server.folder / "typed.vecstore"
    vecstore.convert((small_keys, small_vectors), served, dtype=dtype)
    with vecstore.open(f"{server.address}/typed.vecstore") as store:
        assert bytes_of(store.path) == bytes_of(served)
        assert store[small_keys].tobytes() == vecstore.open(served)[small_keys].tobytes()


def test_a_store_whose_keys_have_no_bytes_can_be_fetched(server):
    publish(server, [""])
    assert list(vecstore.open(f"{server.address}/small.vecstore").keys) == [""]


def test_load_takes_an_address(address, tmp_path):
    assert vecstore.load(address).address == address
    elsewhere = vecstore.load(address, cache=tmp_path / "elsewhere")
    assert elsewhere.path.parent == tmp_path / "elsewhere"
    with pytest.raises(ValueError, match="is a store already, on which limit would have no effect"):
        vecstore.load(address, limit=1)


def test_the_users_cache_is_the_default(address, tmp_path, monkeypatch):
    monkeypatch.delenv("VECSTORE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    assert vecstore.open(address).path.parent == tmp_path / "user" / "vecstore" / "stores"


def test_progress_tells_the_bytes_that_were_copied(big_address, big_path):
    told: list[vecstore.Progress] = []
    vecstore.open(big_address, progress=told.append)
    total = size_of(big_path) - (big_path / METADATA).stat().st_size
    done = [progress.done for progress in told]
    assert {(progress.stage, progress.total, progress.unit) for progress in told} == {("copying", total, "bytes")}
    assert done == sorted(done)
    assert done[-1] == total
    assert len(done) > 20


def test_another_store_under_the_address_is_fetched_when_asked(address, server, cache):
    old = vecstore.open(address)
    publish(server, ["new"])
    assert "new" not in vecstore.open(address)
    assert list(vecstore.open(address, refresh=True).keys) == ["new"]
    assert list(vecstore.open(address).keys) == ["new"]
    assert "nice" in old  # whoever has the old one open keeps it
    assert left_in(cache) == {old.path.name}


def test_refreshing_what_has_not_changed_is_one_request(address, server):
    vecstore.open(address)
    server.forget()
    vecstore.open(address, refresh=True)
    assert server.requests == [(METADATA, 0)]


def test_refreshing_a_store_that_is_gone_is_an_error_and_the_copy_stays(address, server):
    vecstore.open(address)
    shutil.rmtree(server.folder / "small.vecstore")
    with pytest.raises(FileNotFoundError):
        vecstore.open(address, refresh=True)
    assert "nice" in vecstore.open(address)


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_copy_that_lost_something_is_made_again(address, server, small_path, damage):
    path = vecstore.open(address).path
    if damage == "missing":
        (path / "index.npy").unlink()
    else:
        os.truncate(path / "index.npy", 100)
    with vecstore.open(address) as store:
        assert bytes_of(store.path) == bytes_of(small_path)


def test_a_folder_that_is_no_copy_is_not_replaced(address, cache):
    path = vecstore.open(address).path
    shutil.rmtree(path)
    path.mkdir()
    (path / "mine").write_text("precious")
    with pytest.raises(vecstore.TargetError, match="exists and is not a store; it will not be replaced"):
        vecstore.open(address)
    assert left_in(path) == {"mine"}


def test_processes_at_once_copy_once(big_address, server, big_path, cache):
    server.faults.pause = 0.001
    processes = [start(OPEN, big_address) for _ in range(4)]
    for process in processes:
        assert_prints(process, f"{ROWS}\n")
    assert server.bytes_served == size_of(big_path)
    assert len(server.requests) == len(list(big_path.iterdir()))
    assert len(left_in(cache)) == 1


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_copy_goes_on_where_a_killed_process_left_it(big_address, server, big_path, cache, end):
    server.faults.pause = 0.001
    process = start(OPEN, big_address)
    wait_until_half_is_served(server, process, big_path)
    waiting = [start(OPEN, big_address) for _ in range(2)] if end == signal.SIGKILL else []
    time.sleep(0.2 if waiting else 0)
    process.send_signal(end)
    _, err = process.communicate(timeout=60)
    assert process.returncode
    assert ("KeyboardInterrupt" in err) == (end == signal.SIGINT)
    for other in waiting:
        assert_prints(other, f"{ROWS}\n")
    if not waiting:
        assert {name[0] for name in left_in(cache)} == {"."}  # nothing that could be opened
    with vecstore.open(big_address) as store:
        assert bytes_of(store.path) == bytes_of(big_path)
    assert server.bytes_served < 1.4 * size_of(big_path)
    assert left_in(cache) == {store.path.name}


def test_without_locks_nothing_is_kept(big_address, server, big_path, cache, monkeypatch):
    monkeypatch.setattr("vecstore.staging.lock_folder", lambda folder: None)
    server.faults.ranges = False
    server.faults.drop_after = 20 << 20
    with pytest.raises(vecstore.RemoteError):
        vecstore.open(big_address)
    assert left_in(cache) == set()
    server.faults.drop_after = None
    with vecstore.open(big_address) as store:
        assert bytes_of(store.path) == bytes_of(big_path)
    assert left_in(cache) == {store.path.name}


def test_who_waits_says_so(big_address, server, big_path):
    server.faults.pause = 0.001
    process = start(OPEN, big_address)
    wait_until_half_is_served(server, process, big_path)
    told: list[vecstore.Progress] = []
    vecstore.open(big_address, progress=told.append)
    assert {progress.stage for progress in told} == {"waiting for another process"}
    assert_prints(process, f"{ROWS}\n")


def test_a_connection_that_drops_often_is_resumed_within_a_call(big_address, server, big_path):
    server.faults.drop_after = 5 << 20
    with vecstore.open(big_address) as store:
        assert bytes_of(store.path) == bytes_of(big_path)
    assert server.bytes_served < 1.5 * size_of(big_path)
    assert sum(name == "vectors.npy" for name, _ in server.requests) > remote._TRIES


def test_a_server_without_ranges_will_do(big_address, server, big_path):
    server.faults.ranges = False
    server.faults.drop_after, server.faults.drops = 10 << 20, 2
    with vecstore.open(big_address) as store:
        assert bytes_of(store.path) == bytes_of(big_path)


def test_a_transfer_that_failed_is_resumed_by_the_next_call(big_address, server, big_path, cache):
    server.faults.ranges = False
    server.faults.drop_after = 20 << 20
    with pytest.raises(vecstore.RemoteError, match=f"{big_address}/vectors.npy: cannot be read: "):
        vecstore.open(big_address)
    assert {name[0] for name in left_in(cache)} == {"."}
    server.faults.ranges, server.faults.drop_after = True, None
    server.forget()
    with vecstore.open(big_address) as store:
        assert bytes_of(store.path) == bytes_of(big_path)
    assert server.bytes_served < size_of(big_path) - (15 << 20)
    assert left_in(cache) == {store.path.name}


def test_a_failed_transfer_starts_over_if_another_store_is_there(big_address, server):
    server.faults.ranges = False
    server.faults.drop_after = 20 << 20
    with pytest.raises(vecstore.RemoteError):
        vecstore.open(big_address)
    server.faults.drop_after = None
    publish(server, ["new"], "big.vecstore")
    with vecstore.open(big_address) as store:
        assert list(store.keys) == ["new"]
        assert vecstore.verify(store.path) == []


def test_a_store_that_is_replaced_while_it_is_copied_is_copied_anew(address, server):
    def replace(name: str) -> None:
        if name == "keys.npy":
            server.before = lambda name: None
            publish(server, ["new", "newer"])

    server.before = replace
    with vecstore.open(address) as store:
        assert list(store.keys) == ["new", "newer"]
        assert vecstore.verify(store.path) == []


@pytest.mark.parametrize("name", sorted(FILES - {METADATA, "scales.npy"}))
def test_a_wrong_byte_is_an_error_and_nothing_is_opened(address, server, cache, name):
    server.faults.flipped = name
    expected = metadata_of(server.folder / "small.vecstore").files[name]["crc32"]
    with pytest.raises(
        vecstore.StoreError, match=f"{address}: {name}: its checksum is wrong: expected {expected}, found "
    ):
        vecstore.open(address)
    assert sum(requested == name for requested, _ in server.requests) == 2
    assert {entry[0] for entry in left_in(cache)} == {"."}
    server.faults.flipped = None
    server.forget()
    assert "nice" in vecstore.open(address)
    assert vecstore.verify(address) == []


def test_a_byte_that_was_wrong_once_is_read_again(address, server):
    def heal(name: str) -> None:
        if sum(requested == "index.npy" for requested, _ in server.requests) == 2:
            server.faults.flipped = None

    server.faults.flipped, server.before = "index.npy", heal
    assert "nice" in vecstore.open(address)
    counts = {name: sum(requested == name for requested, _ in server.requests) for name in FILES}
    assert counts == {**dict.fromkeys(FILES, 1), METADATA: 2, "index.npy": 2, "scales.npy": 0}


@pytest.mark.parametrize("extra", [b"", b"x", bytes(100_000)], ids=len)
def test_a_copy_goes_on_from_any_byte(small_path, cache, extra):
    address = f"local://{small_path}"
    target = vecstore.open(address).path
    kept = cache / f".{target.name}.fetching"
    whole = bytes_of(small_path)
    names = [*metadata_of(small_path).files]
    for cut in range(0, sum(len(whole[name]) for name in names), 61):
        shutil.rmtree(target)
        kept.mkdir()
        (kept / METADATA).write_bytes(whole[METADATA])
        left = cut
        for name in names:
            (kept / name).write_bytes(whole[name][:left])
            if left < len(whole[name]):
                (kept / name).write_bytes(whole[name][:left] + extra)
                break
            left -= len(whole[name])
        assert bytes_of(vecstore.open(address).path) == whole
    assert left_in(cache) == {target.name}


def test_what_was_kept_is_checked_too(big_address, server, big_path, cache):
    server.faults.ranges = False
    server.faults.drop_after = 20 << 20
    with pytest.raises(vecstore.RemoteError):
        vecstore.open(big_address)
    server.faults.ranges, server.faults.drop_after = True, None
    (kept,) = cache.glob(".*/vectors.npy")
    with kept.open("r+b") as file:
        file.seek(1000)
        file.write(b"\0" * 100)
    with vecstore.open(big_address) as store:
        assert bytes_of(store.path) == bytes_of(big_path)


def test_a_file_that_is_too_short_is_an_error(address, server, cache):
    server.faults.truncated = "keys.npy"
    with pytest.raises(vecstore.RemoteError, match=f"{address}/keys.npy: cannot be read"):
        vecstore.open(address)
    (server.folder / "small.vecstore" / "keys.npy").unlink()
    with pytest.raises(vecstore.StoreError, match=rf"{address}: keys.npy is missing"):
        vecstore.open(address)
    assert {entry[0] for entry in left_in(cache)} == {"."}


def test_nothing_at_the_address_is_an_error(server, cache):
    with pytest.raises(FileNotFoundError, match=rf"{server.address}/none.vecstore: no such store"):
        vecstore.open(f"{server.address}/none.vecstore/")
    assert left_in(cache) == set()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (None, ": not a store: it holds no metadata.json"),
        (b"", "/metadata.json: expected JSON"),
        (b"<html>", "/metadata.json: expected JSON"),
        (b"{}", "/metadata.json: not a store"),
        (b'{"format": "vecstore", "version": 9}', ": format version 9 is newer than this vecstore reads"),
        (b" " * (METADATA_LIMIT + 1), "/metadata.json: expected at most 1,048,576 bytes"),
        (b"[" * (METADATA_LIMIT // 2), "/metadata.json: expected JSON"),
    ],
    ids=["none", "empty", "html", "other", "newer", "huge", "nested"],
)
def test_what_is_no_store_is_an_error(address, server, cache, data, says):
    file = server.folder / "small.vecstore" / METADATA
    file.unlink() if data is None else file.write_bytes(data)
    with pytest.raises(vecstore.StoreError, match=f"{address}{says}") as caught:
        vecstore.open(address)
    assert str(cache) not in str(caught.value)
    assert left_in(cache) == set()


def test_metadata_with_a_wrong_byte_is_an_error(address, server, cache):
    file = server.folder / "small.vecstore" / METADATA
    file.write_bytes(file.read_bytes().replace(b"small.bin", b"smalL.bin"))
    with pytest.raises(vecstore.StoreError, match=f"{address}: metadata.json: its checksum is wrong"):
        vecstore.open(address)
    assert left_in(cache) == set()


def change_metadata(server: FolderServer, **fields: Any) -> vecstore.Metadata:
    """Serve other metadata, with the checksum that it should have."""
    folder = server.folder / "small.vecstore"
    metadata = dataclasses.replace(metadata_of(folder), **fields)
    (folder / METADATA).write_bytes(metadata.render())
    return metadata


@pytest.mark.parametrize("size", [2**63 - 1, 10**15])
@pytest.mark.parametrize("name", ["vectors.npy", "keys.npy"])
def test_more_than_the_disk_holds_is_an_error_before_it_is_read(address, server, cache, size, name):
    files = metadata_of(server.folder / "small.vecstore").files
    change_metadata(server, files={**files, name: {**files[name], "size": size}})
    with pytest.raises(vecstore.TargetError, match=r"the copy of .* needs [\d,]+ bytes, [\d,]+ are free; name another"):
        vecstore.open(address)
    assert server.requests == [(METADATA, 0)]
    assert size_of(next(cache.iterdir())) < 10_000


@pytest.mark.parametrize("size", [-1, 2**63, 1.5, "9", None, True])
def test_a_size_that_is_none_is_an_error(address, server, cache, size):
    files = metadata_of(server.folder / "small.vecstore").files
    change_metadata(server, files={**files, "keys.npy": {**files["keys.npy"], "size": size}})
    with pytest.raises(vecstore.StoreError, match=f"{address}/metadata.json: expected .*'size'"):
        vecstore.open(address)
    assert left_in(cache) == set()


@pytest.mark.parametrize("name", ["../evil", "../../evil", "/evil", "evil", "..", ""])
def test_files_that_no_store_has_are_neither_read_nor_written(address, server, cache, tmp_path, name):
    files = metadata_of(server.folder / "small.vecstore").files
    change_metadata(server, files={**files, name: {"size": 4, "crc32": "00000000"}})
    before = left_in(tmp_path)
    with vecstore.open(address) as store:
        assert left_in(store.path) == FILES - {"scales.npy"}
    assert left_in(cache) == {store.path.name}
    assert left_in(tmp_path) == before | {"cache"}
    assert {requested for requested, _ in server.requests} == FILES - {"scales.npy"}


def test_files_that_do_not_fit_together_are_an_error(address, server, cache):
    change_metadata(server, rows=9)
    with pytest.raises(vecstore.StoreError, match=rf"{address}: vectors.npy: expected .* shape \(9, 3\)") as caught:
        vecstore.open(address)
    assert str(cache) not in str(caught.value)
    assert left_in(cache) == set()


def test_a_cache_that_cannot_be_made_is_an_error(address, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(vecstore.TargetError, match=r"the folder for stores cannot be made: .*cache= or VECSTORE_CACHE"):
        vecstore.open(address, cache=tmp_path / "file" / "deep")


def test_a_disk_that_fills_is_an_error_and_is_cleared(address, cache, monkeypatch):
    def fail(file: Any, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file.path))

    monkeypatch.setattr("vecstore.disk.NewFile.write", fail)
    with pytest.raises(vecstore.TargetError, match=f"the copy of {address} cannot be written: No space left on device"):
        vecstore.open(address)
    assert left_in(cache) == set()


DISKS = """
import json, os, subprocess, sys
import vecstore

address, disk = sys.argv[1:]
outcomes = []

def attempt():
    try:
        outcomes.append(len(vecstore.open(address, cache=disk)))
    except vecstore.TargetError as error:
        outcomes.append(str(error))

def mount(*options):
    subprocess.run(["mount", *options, "none", disk], check=True)

mount("-t", "tmpfs", "-o", "ro")
attempt()
subprocess.run(["umount", disk], check=True)
mount("-t", "tmpfs", "-o", "size=20m")
attempt()
mount("-o", "remount,size=100m")
attempt()
mount("-o", "remount,ro")
attempt()
print(json.dumps(outcomes))
"""

if may_mount():

    def test_disks_that_cannot_be_written_are_errors(big_address, tmp_path, run_python):
        (tmp_path / "disk").mkdir()
        readonly, full, *lengths = json.loads(run_python(IN_NAMESPACE, DISKS, big_address, tmp_path / "disk"))
        assert "cannot write beside it: [Errno 30] Read-only file system" in readonly
        assert " are free; name another: cache= or VECSTORE_CACHE" in full
        assert lengths == [ROWS, ROWS]  # a copy that is whole needs no more than to be read


def look_up(store: vecstore.VectorStore, key: str) -> tuple[str | None, str, list[float]]:
    return store.address, str(store.path), store[key].tolist()


@pytest.mark.parametrize("given", [False, True], ids=["environment", "given"])
def test_a_worker_elsewhere_makes_its_own_copy(address, server, tmp_path, monkeypatch, given):
    cache = tmp_path / "given" if given else None
    store = vecstore.open(address, cache=cache)
    pickled = pickle.dumps(store)
    assert str(store.path).encode() not in pickled
    server.forget()
    if given:
        shutil.rmtree(cache)  # another machine has none
    else:
        monkeypatch.setenv("VECSTORE_CACHE", str(tmp_path / "worker"))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found, path, vector = pool.apply(look_up, (store, "nice"))
    assert (found, vector) == (address, store["nice"].tolist())
    assert Path(path).parent == (cache or tmp_path / "worker")
    assert len(server.requests) == len(left_in(Path(path)))


def test_a_worker_on_this_machine_opens_the_copy(address, server):
    store = vecstore.open(address)
    server.forget()
    assert look_up(pickle.loads(pickle.dumps(store)), "nice") == look_up(store, "nice")
    assert server.requests == []


def test_a_function_of_batches_keeps_the_address(address, tmp_path, monkeypatch):
    embed = vecstore.EmbedTexts(store=vecstore.open(address))
    assert embed.store == address
    monkeypatch.setenv("VECSTORE_CACHE", str(tmp_path / "worker"))
    table = pa.table({"text": ["nice"]})
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        result = pool.apply(embed, (table,))
    assert result["vector"].to_pylist() == vecstore.open(address)[["nice"]].tolist()


FORK = """
import os, sys, vecstore
vecstore.open(sys.argv[1])
child = os.fork()
if not child:
    print(len(vecstore.open(sys.argv[2])), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(len(vecstore.open(sys.argv[2], refresh=True)))
"""


def test_a_forked_process_can_fetch(address, big_address, run_python):
    assert run_python(FORK, address, big_address) == f"{ROWS}\n{ROWS}\n"


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The URL of a server that speaks S3."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would print each request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The name of an empty bucket, found as users' buckets are: through the environment."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    names = {"ENDPOINT_URL": s3, "ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "DEFAULT_REGION": "us-east-1"}
    files = {"CONFIG_FILE": str(tmp_path / "none"), "SHARED_CREDENTIALS_FILE": str(tmp_path / "none")}
    for name, value in {**names, **files}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    resource = boto3.resource("s3")
    resource.create_bucket(Bucket="bucket")
    yield "bucket"
    resource.Bucket("bucket").objects.delete()
    resource.Bucket("bucket").delete()


def upload(bucket: str, prefix: str, folder: Path) -> None:
    client = boto3.client("s3")
    for file in folder.iterdir():
        client.put_object(Bucket=bucket, Key=f"{prefix}/{file.name}", Body=file.read_bytes())


@pytest.mark.parametrize("prefix", ["big.vecstore", "deep/a b?ö.vecstore"])
def test_s3_has_stores(bucket, big_path, prefix):
    upload(bucket, prefix, big_path)
    with vecstore.open(f"s3://{bucket}/{prefix}") as store:
        assert bytes_of(store.path) == bytes_of(big_path)
    boto3.resource("s3").Bucket(bucket).objects.delete()
    assert vecstore.open(store.address).path == store.path


@pytest.mark.parametrize("dtype", DTYPES)
def test_s3_has_stores_of_every_storage_type(bucket, tmp_path, dtype, small_keys, small_vectors):
    vecstore.convert((small_keys, small_vectors), tmp_path / "store", dtype=dtype)
    upload(bucket, "store", tmp_path / "store")
    assert bytes_of(vecstore.load(f"s3://{bucket}/store").path) == bytes_of(tmp_path / "store")


def test_s3_says_what_is_missing(bucket, small_path):
    upload(bucket, "deep/store", small_path)
    boto3.client("s3").delete_object(Bucket=bucket, Key="deep/store/keys.npy")
    with pytest.raises(vecstore.StoreError, match=r"s3://bucket/deep/store: keys.npy is missing"):
        vecstore.open("s3://bucket/deep/store")
    with pytest.raises(vecstore.StoreError, match=r"s3://bucket/deep: not a store: it holds no metadata.json"):
        vecstore.open("s3://bucket/deep")
    for nothing in "s3://bucket/none", "s3://nobucket/none":
        with pytest.raises(FileNotFoundError, match=f"{nothing}: no such store"):
            vecstore.open(nothing)


def test_a_worker_fetches_from_s3(bucket, small_path, tmp_path, monkeypatch):
    upload(bucket, "store", small_path)
    store = vecstore.open("s3://bucket/store")
    monkeypatch.setenv("VECSTORE_CACHE", str(tmp_path / "worker"))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found, path, vector = pool.apply(look_up, (store, "nice"))
    assert (found, vector) == ("s3://bucket/store", store["nice"].tolist())
    assert Path(path).parent == tmp_path / "worker"


def run(*arguments: str) -> tuple[int, str, str]:
    """Run ``vecstore ARGUMENTS``; return its exit code, stdout and stderr."""
    process = start("from vecstore.cli import main; main()", *arguments)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_commands_take_addresses(address, small_path, tmp_path):
    (tmp_path / "vocabulary.txt").write_text("nice\nnaïve\nqwertzuiop\n")
    for command, *rest in [
        ("get", "nice"),
        ("coverage", str(tmp_path / "vocabulary.txt")),
        ("info",),
        ("verify",),
    ]:
        local, fetched = run(command, str(small_path), *rest), run(command, address, *rest)
        assert local[0] == fetched[0] == 0
        assert local[2] == fetched[2] == ""
        assert local[1].splitlines()[1:] == fetched[1].splitlines()[1:]
    assert fetched[1] == f"{address}: sound\n"
    (tmp_path / "texts.txt").write_text("Nice!\nqwertzuiop\n")
    for opened in str(small_path), address:
        out = tmp_path / f"{len(opened)}.npy"
        code, _, err = run("embed", opened, str(tmp_path / "texts.txt"), "--out", str(out), "--workers", "1")
        assert code == 0, err
        assert np.array_equal(np.load(out), vecstore.open(small_path).embed(["nice", ""]))
    for command, *rest in [("matrix", str(tmp_path / "vocabulary.txt")), ("export",)]:
        outs = [tmp_path / f"{command}-{kind}.npy" for kind in ("local", "fetched")]
        for opened, out in zip((str(small_path), address), outs, strict=True):
            code, _, err = run(command, opened, *rest, str(out))
            assert (code, err) == (0, "")
        assert outs[0].read_bytes() == outs[1].read_bytes()


def test_commands_say_in_one_line_what_is_wrong(server):
    for opened, says in [
        (f"{server.address}/none", "no such store"),
        ("s4://bucket/store", "expected a scheme that fsspec knows, found 's4'"),
        ("gs://bucket/store", "Please install gcsfs"),
    ]:
        code, out, err = run("info", opened)
        assert (code, out) == (1, "")
        assert err.startswith(f"vecstore: {opened}: {says}")
        assert err.count("\n") == 1
