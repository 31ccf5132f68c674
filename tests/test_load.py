import json
import os
import shutil
import sys
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files import left_in, numbered, word2vec_bytes, zip_bytes

import vecstore
from vecstore import load
from vecstore.layout import METADATA
from vecstore.staging import StagedFolder

loading = sys.modules["vecstore.load"]  # as a name, `vecstore.load` is the function
KEYS, VECTORS = [b"one", b"two", b"three"], np.arange(6, dtype=np.float32).reshape(3, 2)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VECSTORE_CACHE", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for sources, apart from those for caches."""
    path = tmp_path / "sources"
    path.mkdir()
    return path


@pytest.fixture
def source(folder: Path) -> Path:
    path = folder / "vectors.bin"
    path.write_bytes(word2vec_bytes(KEYS, VECTORS))
    return path


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The targets of all conversions that `load` makes."""
    targets: list[Path] = []

    def convert(source: Any, target: Path, **options: Any) -> vecstore.ConversionReport:
        targets.append(target)
        return vecstore.convert(source, target, **options)

    convert.__kwdefaults__ = vecstore.convert.__kwdefaults__
    monkeypatch.setattr(loading, "convert", convert)
    return targets


def contents(store: vecstore.VectorStore) -> dict[str, list[float]]:
    assert vecstore.verify(store.path) == []
    return {key: store[key].tolist() for key in store.keys}


WHOLE = {key.decode(): row.tolist() for key, row in zip(KEYS, VECTORS, strict=True)}


def change(source: Path, vectors: Any = -VECTORS) -> None:
    """Write other vectors and make sure that this changes the time, whose steps may be some milliseconds."""
    before = source.stat().st_mtime_ns
    source.write_bytes(word2vec_bytes(KEYS, vectors))
    if source.stat().st_mtime_ns == before:
        os.utime(source, ns=(before + 1, before + 1))


def test_a_source_is_converted_once_beside_itself(source, conversions):
    target = source.parent / "vectors.bin.vecstore"
    for _ in range(3):
        with load(source) as store:
            assert store.path == target
            assert contents(store) == WHOLE
    assert conversions == [target]
    assert left_in(source.parent) == {"vectors.bin", "vectors.bin.vecstore"}


def test_a_source_may_be_relative_and_of_any_path_type(source, monkeypatch):
    class Named:
        def __fspath__(self) -> str:
            return "vectors.bin"

    monkeypatch.chdir(source.parent)
    for given in "vectors.bin", "./vectors.bin", Path("vectors.bin"), Named():
        assert load(given).path == source.parent / "vectors.bin.vecstore"


AUDITED = """
import sys
opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
import vecstore
before = len(opened)
vecstore.load(sys.argv[1])
print(*(path for path in opened[before:] if path == sys.argv[1]), "platformdirs" in sys.modules)
"""


def test_a_source_is_not_opened_again(source, run_python):
    assert run_python(AUDITED, source) == f"{source} False\n"
    assert run_python(AUDITED, source) == "False\n"


def test_a_store_is_opened_as_it_is(source, conversions, tmp_path):
    target = tmp_path / "store"
    vecstore.convert(source, target, limit=2)
    for given in target, f"{target}/", str(target):
        store = load(given, cache=tmp_path / "cache")
        assert (store.path, len(store)) == (target, 2)
    assert conversions == []
    assert left_in(tmp_path) == {"sources", "store"}


@pytest.mark.parametrize(
    "options", [{"limit": 1}, {"keys": ["one"]}, {"duplicates": "last", "row_keys": "keys.txt"}], ids=str
)
def test_a_store_takes_no_options(source, tmp_path, options):
    vecstore.convert(source, tmp_path / "store")
    names = {" and ".join(options), ", ".join(options), ", ".join(reversed(options))}
    with pytest.raises(
        ValueError, match=rf"store: is a store already, on which ({'|'.join(names)}) would have no effect"
    ):
        load(tmp_path / "store", **options)


def test_a_damaged_store_is_not_taken_for_a_source(source, tmp_path):
    vecstore.convert(source, tmp_path / "store")
    (tmp_path / "store" / "vectors.npy").unlink()
    with pytest.raises(vecstore.StoreError, match=r"store: vectors\.npy is missing"):
        load(tmp_path / "store")


def test_a_store_without_keys_is_found_again(source, conversions):
    for _ in range(2):
        assert len(load(source, keys=["absent"])) == 0
    assert len(conversions) == 1


def test_a_changed_source_is_converted_again(source, conversions):
    old = load(source)
    change(source)
    assert load(source)["two"].tolist() == [-2, -3]
    assert old["two"].tolist() == [2, 3]
    assert len(conversions) == 2
    stat = source.stat()
    source.write_bytes(word2vec_bytes(KEYS[:2], VECTORS[:2]))
    os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert len(load(source)) == 2
    os.utime(source, ns=(0, 0))
    assert len(load(source)) == 2
    assert len(conversions) == 4
    assert left_in(source.parent) == {"vectors.bin", "vectors.bin.vecstore"}


def test_a_source_that_turns_bad_is_an_error_and_leaves_the_old_store(source):
    load(source)
    source.write_bytes(source.read_bytes()[:-1])
    with pytest.raises(vecstore.FormatError, match="cut short"):
        load(source)
    assert contents(vecstore.open(source.parent / "vectors.bin.vecstore")) == WHOLE
    assert left_in(source.parent) == {"vectors.bin", "vectors.bin.vecstore"}


def test_what_was_made_from_a_source_that_is_gone_is_opened(source, tmp_path):
    for options in {}, {"limit": 2}, {"cache": tmp_path / "cache"}:
        load(source, **options)
    source.unlink()
    assert contents(load(source)) == WHOLE
    assert len(load(source, limit=2)) == 2
    assert contents(load(source, cache=tmp_path / "cache")) == WHOLE


@pytest.mark.parametrize("name", ["missing.bin", "missing.zip::vectors.bin", "missing/vectors.bin"])
@pytest.mark.parametrize("cached", [False, True])
def test_a_source_that_never_was_is_named(folder, tmp_path, name, cached):
    path = name.partition("::")[0]
    with pytest.raises(FileNotFoundError, match=f"No such file or directory: '.*{path}'"):
        load(folder / name, cache=tmp_path / "cache" if cached else None)
    assert left_in(tmp_path) == {"sources"}
    assert left_in(folder) == set()


def damage(store: Path, how: str) -> None:
    metadata = store / METADATA
    fields = json.loads(metadata.read_text())
    if how == "empty":
        metadata.write_text("")
    elif how == "newer":
        metadata.write_text(json.dumps(fields | {"version": 99}))
    elif how == "before modified":
        del fields["source"]["modified"]
        metadata.write_text(json.dumps(fields))
    elif how == "no vectors":
        (store / "vectors.npy").unlink()
    elif how == "cut":
        os.truncate(store / "index.npy", 130)


@pytest.mark.parametrize("how", ["empty", "newer", "before modified", "no vectors", "cut"])
def test_a_damaged_store_is_made_again(source, conversions, how):
    damage(load(source).path, how)
    for _ in range(2):
        assert contents(load(source)) == WHOLE
    assert len(conversions) == 2
    assert left_in(source.parent) == {"vectors.bin", "vectors.bin.vecstore"}


@pytest.mark.parametrize("kind", ["folder", "empty folder", "file"])
def test_what_is_no_store_is_not_replaced(source, kind):
    target = source.parent / "vectors.bin.vecstore"
    mine = target if kind == "file" else target / "notes.txt"
    if kind != "file":
        target.mkdir()
    if kind != "empty folder":
        mine.write_text("mine")
    with pytest.raises(vecstore.TargetError, match=r"vectors\.bin\.vecstore: exists and is not a store"):
        load(source)
    assert target.exists()
    assert kind == "empty folder" or mine.read_text() == "mine"
    assert left_in(source.parent) == {"vectors.bin", "vectors.bin.vecstore"}


def test_options_have_stores_of_their_own(source, conversions):
    choices: list[dict[str, Any]] = [
        {},
        {"limit": 1},
        {"limit": 2},
        {"dtype": "bfloat16"},
        {"dtype": "auto"},
        {"format": "word2vec"},
        {"duplicates": "last"},
        {"encoding_errors": "skip"},
        {"count_mismatch": "warn"},
        {"keys": ["one"]},
        {"keys": ["one", "two"]},
        {"keys": ["onetwo"]},
        {"keys": ["one"], "limit": 2},
    ]
    paths = [load(source, **choice).path for choice in choices * 2]
    assert paths[: len(choices)] == paths[len(choices) :] == conversions
    assert len(set(paths)) == len(choices)
    assert [len(load(source, **choice)) for choice in choices] == [3, 1, 2, 3, 3, 3, 3, 3, 3, 1, 2, 0, 1]
    assert load(source, format="auto", dtype="float32", limit=None, keys=None, duplicates="first").path == paths[0]


def test_the_same_keys_share_a_store(source, tmp_path, conversions):
    file = tmp_path / "keys.txt"
    file.write_text("one\ntwo\n")
    for keys in ["one", "two"], ("two", "one", "two"), {"two": 1, "one": 2}, file, str(file), iter(["one", "two"]):
        assert contents(load(source, keys=keys)) == {"one": WHOLE["one"], "two": WHOLE["two"]}
    assert len(conversions) == 1
    file.write_text("three\n")
    assert contents(load(source, keys=file)) == {"three": WHOLE["three"]}


def test_invalid_options_are_refused(source):
    load(source)
    for options in {"limit": 0}, {"format": "csv"}, {"dtype": "float64"}, {"duplicates": "x"}, {"encoding_errors": "x"}:
        with pytest.raises(ValueError, match=f"{next(iter(options))}: expected"):
            load(source, **options)
    assert left_in(source.parent) == {"vectors.bin", "vectors.bin.vecstore"}


def test_members_of_archives_have_stores_of_their_own(folder, conversions):
    members = {
        "a/b.bin": [1.0],
        "a_b.bin": [2.0],
        "../../b.bin": [3.0],
        "/b.bin": [4.0],
        "größe\n*.bin": [5.0],
        "b" * 250: [6.0],
        "b" * 249 + "c": [7.0],
    }
    archive = folder / "archive.zip"
    archive.write_bytes(zip_bytes({name: word2vec_bytes([b"k"], [row]) for name, row in members.items()}))
    with zipfile.ZipFile(archive) as opened:
        assert set(opened.namelist()) == set(members)
    for _ in range(2):
        for name, row in members.items():
            assert load(f"{archive}::{name}")["k"].tolist() == row
    assert len(set(conversions)) == len(conversions) == len(members)
    assert {path.parent for path in conversions} == {folder}
    assert len(left_in(folder)) == 1 + len(members)
    assert any(path.name.startswith("archive.zip-a_b.bin-") for path in conversions)
    archive.unlink()
    assert load(f"{archive}::a/b.bin")["k"].tolist() == [1.0]


def test_names_may_be_long_and_odd(folder, conversions):
    names = ["x" * 255, "x" * 254 + "y", "größe" * 36, "a b", "new\nline", ".hidden", "..x", os.fsdecode(b"\xff.bin")]
    for i, name in enumerate(names):
        (folder / name).write_bytes(word2vec_bytes([b"k"], [[i]]))
    for _ in range(2):
        assert [load(folder / name)["k"][0] for name in names] == list(range(len(names)))
    assert len(conversions) == len(names)
    assert left_in(folder) == {*names, *(path.name for path in conversions)}


@pytest.fixture(params=["argument", "environment"])
def cache_options(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options of `load` that make it use the folder cache/deep, one way or the other."""
    if request.param == "argument":
        monkeypatch.setenv("VECSTORE_CACHE", str(tmp_path / "another"))
        return {"cache": tmp_path / "cache" / "deep"}
    monkeypatch.setenv("VECSTORE_CACHE", str(tmp_path / "cache" / "deep"))
    return {}


def test_a_cache_holds_stores_of_any_folder(source, tmp_path, cache_options, conversions):
    other = tmp_path / "other" / source.name
    other.parent.mkdir()
    shutil.copy2(source, other)
    with other.open("r+b") as file:  # of the same size and time: only its place tells it from the first
        file.seek(-4, os.SEEK_END)
        file.write(np.float32(9).tobytes())
    os.utime(other, ns=(0, source.stat().st_mtime_ns))
    for _ in range(2):
        assert load(source, **cache_options)["three"].tolist() == [4, 5]
        assert load(other, **cache_options)["three"].tolist() == [4, 9]
    assert len(conversions) == 2
    assert {path.parent for path in conversions} == {tmp_path / "cache" / "deep"}
    assert left_in(tmp_path) == {"sources", "other", "cache"}
    assert left_in(source.parent) == left_in(other.parent) == {"vectors.bin"}


def test_a_source_has_one_store_in_a_cache_by_whatever_path(source, tmp_path, monkeypatch, conversions):
    (tmp_path / "link").symlink_to(source.parent)
    monkeypatch.chdir(source.parent)
    for path in source, "vectors.bin", "../sources/vectors.bin", tmp_path / "link" / "vectors.bin":
        load(path, cache=tmp_path / "cache")
    assert len(conversions) == 1


def test_a_cache_that_cannot_be_made_is_an_error(source, tmp_path):
    (tmp_path / "file").touch()
    for cache in tmp_path / "file", tmp_path / "file" / "deep":
        with pytest.raises(
            vecstore.TargetError, match=r"file.*: the folder for stores cannot be made: .*cache= or VECSTORE_CACHE"
        ):
            load(source, cache=cache)


def test_home_is_found_in_the_environment(source, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VECSTORE_CACHE", "~/stores")
    assert load(source).path.parent == tmp_path / "stores"


@pytest.fixture
def unwritable(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of sources, said to be unwritable (root may write anywhere); the user's cache is user/vecstore."""
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder and access(path, mode))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    return folder


def test_a_folder_that_cannot_be_written_to_sends_stores_to_the_users_cache(source, unwritable, tmp_path, conversions):
    for _ in range(2):
        assert contents(load(source)) == WHOLE
    assert len(conversions) == 1
    assert conversions[0].parent == tmp_path / "user" / "vecstore" / "stores"
    assert left_in(unwritable) == {"vectors.bin"}


def test_a_store_beside_a_source_is_used_also_where_one_cannot_write(source, unwritable, tmp_path, conversions):
    vecstore.convert(source, unwritable / "vectors.bin.vecstore")
    assert contents(load(source)) == WHOLE
    assert conversions == []
    change(source)
    assert load(source)["two"].tolist() == [-2, -3]
    assert contents(vecstore.open(unwritable / "vectors.bin.vecstore")) == WHOLE
    assert [path.parent for path in conversions] == [tmp_path / "user" / "vecstore" / "stores"]


def test_only_files_can_be_loaded(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    for source in "-", Path("-"), "pipe", tmp_path / "pipe", "/dev/null":
        with pytest.raises(
            vecstore.FormatError,
            match=r"expected a file, .* found a pipe or a device; .*vecstore\.convert\(source, target\)",
        ):
            load(source)
    for source in (["one"], [[1.0]]), None, b"vectors.bin":
        with pytest.raises(TypeError, match=r"expected a path, found \w+; for vectors in memory: vecstore\.convert"):
            load(source)
    assert left_in(tmp_path) == {"pipe"}


def matrix(folder: Path) -> Path:
    np.save(folder / "vectors.npy", VECTORS)
    (folder / "vectors.keys.txt").write_bytes(b"\n".join(KEYS) + b"\n")
    return folder / "vectors.npy"


def test_a_matrix_is_converted_again_when_its_keys_change(folder, conversions):
    source = matrix(folder)
    for _ in range(2):
        assert contents(load(source)) == WHOLE
    assert len(conversions) == 1
    (folder / "vectors.keys.txt").write_text("uno\ndos\ntre\n")
    for _ in range(2):
        assert list(load(source).keys) == ["uno", "dos", "tre"]
    assert len(conversions) == 2


def test_row_keys_have_stores_of_their_own(folder, tmp_path, conversions):
    source = matrix(folder)
    (tmp_path / "mine.txt").write_text("uno\ndos\ntres\n")
    for _ in range(2):
        assert list(load(source, row_keys=tmp_path / "mine.txt").keys) == ["uno", "dos", "tres"]
        assert contents(load(source)) == WHOLE
    assert len(conversions) == 2
    (tmp_path / "mine.txt").write_text("eins\nzwei\ndrei\n")
    assert list(load(source, row_keys=str(tmp_path / "mine.txt")).keys) == ["eins", "zwei", "drei"]


def test_keys_beside_a_source_that_has_its_own_are_no_part_of_it(source, conversions):
    source.with_suffix(".keys.txt").write_text("1\n2\n3\n")
    for text in "4\n5\n6\n", "7\n":
        assert contents(load(source)) == WHOLE
        source.with_suffix(".keys.txt").write_text(text)
    assert len(conversions) == 1


def test_threads_convert_once(source, conversions):
    start = threading.Barrier(8)

    def run(turn: int) -> dict[str, list[float]]:
        start.wait()
        return contents(load(source))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(run, range(8))) == [WHOLE] * 8
        change(source)
        assert [store["two"] for store in pool.map(run, range(8))] == [[-2, -3]] * 8
    assert len(conversions) == 2
    assert left_in(source.parent) == {"vectors.bin", "vectors.bin.vecstore"}


def test_waiting_is_told_and_ends_with_the_other(source):
    target, told = source.parent / "vectors.bin.vecstore", threading.Event()

    def tell(progress: vecstore.Progress) -> None:
        if progress == vecstore.Progress("waiting for another process", 0, 0):
            told.set()

    with ThreadPoolExecutor(1) as pool:
        with StagedFolder(target):  # a conversion by somebody who does not load
            waiting = pool.submit(load, source, progress=tell)
            assert told.wait(30)
            assert not waiting.done()
        assert contents(waiting.result(30)) == WHOLE


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_waiting_may_be_stopped(source, error):
    def stop(progress: vecstore.Progress) -> None:
        raise error

    with StagedFolder(source.parent / "vectors.bin.vecstore"), pytest.raises(error):
        load(source, progress=stop)
    assert left_in(source.parent) == {"vectors.bin"}


WORKERS = """
import json, os, signal, sys, time
from pathlib import Path
import numpy as np
import vecstore

loading = sys.modules["vecstore.load"]
source, workers, kills, turns = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
convert, log = vecstore.convert, source.with_name("log")

def counted(source, target, *, progress, **options):
    # So many of the first to convert are killed in the middle.
    with log.open("a") as file:
        file.write(f"{os.getpid()}\\n")
    if len(log.read_text().split()) <= kills:
        progress = lambda progress: os.kill(os.getpid(), signal.SIGKILL)
    return convert(source, target, progress=progress, **options)

counted.__kwdefaults__ = convert.__kwdefaults__
loading.convert = counted
convert(source, source.with_name("warm"))
for turn in range(turns):
    log.write_text("")
    begin = time.monotonic() + 0.1
    for _ in range(workers):
        if not os.fork():
            while time.monotonic() < begin:
                pass
            store = loading.load(source, progress=lambda progress: None)
            assert store["k1"][0] == 1 and len(store) == 20_000
            os._exit(0)
    codes = sorted(os.wait()[1] for _ in range(workers))
    assert codes == [0] * (workers - kills) + [signal.SIGKILL] * kills, codes
    assert len(log.read_text().split()) == 1 + kills, log.read_text()
    assert vecstore.verify(str(source) + ".vecstore") == []
    stat = source.stat()
    os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
print(json.dumps(sorted(path.name for path in source.parent.iterdir())))
"""


@pytest.mark.parametrize(("kills", "turns"), [(0, 5), (1, 2), (3, 1)])
def test_twenty_workers_convert_once(source, run_python, kills, turns):
    vectors = np.ones((20_000, 100), np.float32)
    source.write_bytes(word2vec_bytes(numbered(20_000, 1)[0], vectors))
    left = json.loads(run_python(WORKERS, source, 20, kills, turns))
    assert left == ["log", "vectors.bin", "vectors.bin.vecstore", "warm"]
