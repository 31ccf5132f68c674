import contextlib
import errno
import fcntl
import os
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from files import left_in, numbered, word2vec_bytes

import vecstore
from vecstore import staging
from vecstore.errors import TargetBusyError
from vecstore.staging import StagedFolder, staged_file


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


def write_store(folder: Path, content: str = "new") -> None:
    (folder / "metadata.json").write_text(content)


def test_folder_appears_when_it_is_published(target):
    with StagedFolder(target) as staged:
        assert staged.path.parent == target.parent
        assert staged.path != target
        assert staged.is_locked
        write_store(staged.path)
        assert not target.exists()
        staged.publish()
        assert (target / "metadata.json").read_text() == "new"
    assert left_in(target.parent) == {"target"}


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_published_folder_has_usual_permissions(target, mask):
    before = os.umask(mask)
    try:
        with StagedFolder(target) as staged:
            staged.publish()
        assert target.stat().st_mode & 0o777 == 0o777 & ~mask
    finally:
        os.umask(before)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_folder_is_removed_if_not_published(target, error):
    with pytest.raises(error), StagedFolder(target) as staged:  # noqa: PT012
        write_store(staged.path)
        raise error
    assert left_in(target.parent) == set()


def test_what_appeared_meanwhile_stays(target):
    with StagedFolder(target) as staged:
        write_store(staged.path)
        target.mkdir()
        write_store(target, "theirs")
        with pytest.raises(vecstore.TargetError, match="target: appeared while this store was being written; it stays"):
            staged.publish()
    assert (target / "metadata.json").read_text() == "theirs"
    assert left_in(target.parent) == {"target"}


@pytest.mark.parametrize("swap", [staging.swap_folders, lambda one, other: False], ids=["exchange", "two renames"])
def test_overwriting_replaces_the_folder(target, monkeypatch, swap):
    monkeypatch.setattr(staging, "swap_folders", swap)
    target.mkdir()
    write_store(target, "old")
    (target / "keys.npy").touch()
    with StagedFolder(target, overwrite=True) as staged:
        write_store(staged.path)
        assert (target / "metadata.json").read_text() == "old"
        staged.publish()
    assert (target / "metadata.json").read_text() == "new"
    assert left_in(target) == {"metadata.json"}
    assert left_in(target.parent) == {"target"}


def test_a_store_with_something_else_in_it_is_not_replaced(target):
    target.mkdir()
    write_store(target, "old")
    (target / "notes.txt").touch()
    with pytest.raises(vecstore.TargetError, match=r"holds more than a store \('notes.txt'\); it will not be replaced"):
        StagedFolder(target, overwrite=True).__enter__()
    assert left_in(target) == {"metadata.json", "notes.txt"}


@pytest.mark.parametrize("swap", [staging.swap_folders, lambda one, other: False], ids=["exchange", "two renames"])
def test_an_old_reader_keeps_the_store_that_is_replaced(tmp_path, target, monkeypatch, swap):
    monkeypatch.setattr(staging, "swap_folders", swap)
    source = tmp_path / "vectors.bin"
    keys, vectors = numbered(3000, 20)
    source.write_bytes(word2vec_bytes(keys, vectors))
    vecstore.convert(source, target)
    with vecstore.open(target) as old:
        source.write_bytes(word2vec_bytes(keys[::-1], -vectors))
        vecstore.convert(source, target, overwrite=True)
        np.testing.assert_array_equal(old.lookup(keys), vectors)
        np.testing.assert_array_equal(vecstore.open(target).vectors, -vectors)
    assert left_in(tmp_path) == {"vectors.bin", "target"}


def test_a_failed_second_rename_puts_the_old_folder_back(target, monkeypatch):
    target.mkdir()
    write_store(target, "old")
    rename = Path.rename

    def fail_for_the_new(self: Path, name: Path) -> Path:
        if self.name != staging._ASIDE and name == target:
            raise OSError("no more renames")
        return rename(self, name)

    monkeypatch.setattr(staging, "swap_folders", lambda one, other: False)
    monkeypatch.setattr(Path, "rename", fail_for_the_new)
    with pytest.raises(OSError, match="no more renames"), StagedFolder(target, overwrite=True) as staged:  # noqa: PT012
        write_store(staged.path)
        staged.publish()
    assert (target / "metadata.json").read_text() == "old"
    assert left_in(target.parent) == {"target"}


def test_debris_is_removed_by_the_next_run_for_the_same_target(target):
    with StagedFolder(target) as staged:
        name = staged.path.name
    debris = target.parent / name
    debris.mkdir()
    (debris / "vectors.npy").touch()
    with StagedFolder(target) as staged:
        staged.publish()
    assert left_in(target.parent) == {"target"}


@pytest.mark.parametrize("name", ["target.x", "target.x.y", "arget", "Target"])
def test_names_that_begin_alike_do_not_meet(target, name):
    with StagedFolder(target.with_name(name)) as other:
        write_store(other.path)
        with StagedFolder(target) as staged:
            staged.publish()
        other.publish()
    assert left_in(target.parent) == {"target", name}


@pytest.mark.parametrize("name", [".target.partial", ".target.notes.partial", "target.12345678.partial"])
def test_files_of_the_user_are_not_debris(target, name):
    (target.parent / name).write_text("mine")
    with StagedFolder(target) as staged:
        staged.publish()
    assert (target.parent / name).read_text() == "mine"


def test_one_target_has_one_writer(target):
    with StagedFolder(target) as staged:
        for overwrite in False, True:
            with (
                pytest.raises(vecstore.TargetError, match="target: is being written by another process"),
                StagedFolder(target, overwrite=overwrite),
            ):
                pytest.fail("entered")
        write_store(staged.path)
        staged.publish()
    assert left_in(target.parent) == {"target"}


def test_of_writers_that_start_at_once_one_goes_on(target):
    start, tried = threading.Barrier(4), threading.Barrier(4)

    def enter(turn: int) -> str:
        start.wait()
        try:
            with StagedFolder(target):
                tried.wait()
        except vecstore.TargetError as error:
            tried.wait()
            return f"{type(error).__name__}: {error}"
        return "entered"

    refused = f"TargetBusyError: {target}: is being written by another process"
    with ThreadPoolExecutor(4) as pool:
        for _ in range(100):
            assert sorted(pool.map(enter, range(4))) == sorted(["entered", refused, refused, refused])
    assert left_in(target.parent) == set()


def test_one_target_has_one_writer_by_whatever_path(target):
    (target.parent / "link").symlink_to(target.parent)
    with (
        StagedFolder(target),
        pytest.raises(TargetBusyError, match="link/target: is being written by another process"),
        StagedFolder(target.parent / "link" / "target"),
    ):
        pytest.fail("entered")
    with StagedFolder(target.parent / "link" / "target") as staged:
        staged.publish()
    assert left_in(target.parent) == {"link", "target"}


def test_a_writer_refuses_before_it_removes_debris(target):
    debris = target.parent / ".target.0.partial"
    debris.mkdir()
    with StagedFolder(target):
        assert not debris.exists()
        debris.mkdir()
        with pytest.raises(TargetBusyError), StagedFolder(target):
            pytest.fail("entered")
        assert debris.exists()
    with StagedFolder(target):
        pass
    assert left_in(target.parent) == set()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[int]:
    """A lock on `folder` that somebody else holds."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield handle
    finally:
        os.close(handle)


def test_the_folder_around_is_not_locked_while_one_writes(target):
    with StagedFolder(target) as staged:
        with locked(target.parent):
            pass
        staged.publish()


def test_a_writer_waits_for_the_lock_on_the_folder_around(target):
    with locked(target.parent) as handle, ThreadPoolExecutor(1) as pool:
        entered = pool.submit(StagedFolder(target).__enter__)
        with pytest.raises(TimeoutError):
            entered.result(0.1)
        assert left_in(target.parent) == set()
        fcntl.flock(handle, fcntl.LOCK_UN)
        entered.result().__exit__(None, None, None)


def test_a_stranger_who_keeps_the_folder_around_locked_stops_nobody(target, monkeypatch):
    monkeypatch.setattr(staging, "_PATIENCE", 0.05)
    with locked(target.parent), StagedFolder(target) as staged:
        with pytest.raises(TargetBusyError), StagedFolder(target):
            pytest.fail("entered")
        staged.publish()
    assert left_in(target.parent) == {"target"}


def test_waiting_for_the_folder_around_can_be_interrupted(target):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with locked(target.parent):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt), StagedFolder(target):
                pytest.fail("entered")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert left_in(target.parent) == set()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("no more locks")])
def test_failing_to_enter_leaves_nothing(target, monkeypatch, error):
    def fail(folder: Path) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(staging, "lock_folder", fail)
        expected = (KeyboardInterrupt, vecstore.TargetError)
        with pytest.raises(expected), StagedFolder(target):
            pytest.fail("entered")
    assert left_in(target.parent) == set()


def test_without_locks_a_writer_goes_on_and_leaves_what_may_be_alive(target, monkeypatch):
    def no_locks(handle: int, operation: int) -> None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    other = target.parent / ".target.0.partial"
    other.mkdir()
    with StagedFolder(target) as staged:
        assert not staged.is_locked
        staged.publish()
    assert left_in(target.parent) == {"target", other.name}


FORK = """
import os, signal, sys
from pathlib import Path
from vecstore.staging import StagedFolder

with StagedFolder(Path(sys.argv[1])):
    child = os.fork()
    if not child:
        signal.pause()
with StagedFolder(Path(sys.argv[1])) as staged:
    staged.publish()
os.kill(child, signal.SIGKILL)
"""


def test_a_process_forked_meanwhile_does_not_keep_the_locks(target, run_python):
    run_python(FORK, target)
    assert left_in(target.parent) == {"target"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_store_that_a_killed_run_put_aside_comes_back(target, overwrite):
    old = target.parent / ".target.0.partial" / staging._ASIDE
    old.mkdir(parents=True)
    write_store(old, "old")
    if overwrite:
        with StagedFolder(target, overwrite=True) as staged:
            assert (target / "metadata.json").read_text() == "old"
            write_store(staged.path)
            staged.publish()
    else:
        with pytest.raises(vecstore.TargetError, match="target: exists already"), StagedFolder(target):
            pytest.fail("entered")
        assert (target / "metadata.json").read_text() == "old"
    assert left_in(target.parent) == {"target"}


def test_a_name_too_long_is_refused(target):
    for length in 240, 256:
        name = "x" * length
        with pytest.raises(vecstore.TargetError, match=f"{name}: cannot write beside it"):
            StagedFolder(target.with_name(name)).__enter__()
    assert left_in(target.parent) == set()


def test_staged_file_appears_when_its_context_ends(target):
    with staged_file(target) as file:
        file.write(b"new")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert left_in(target.parent) == {"target"}


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_staged_file_is_removed_after_an_error(target, error):
    target.write_text("old")
    with pytest.raises(error), staged_file(target, overwrite=True) as file:  # noqa: PT012
        file.write(b"new")
        raise error
    assert target.read_text() == "old"
    assert left_in(target.parent) == {"target"}


def test_staged_file_replaces_only_if_told(target):
    target.write_text("old")
    with pytest.raises(vecstore.TargetError, match=r"target: exists already; .*--overwrite"), staged_file(target):
        pytest.fail("entered")
    with staged_file(target, overwrite=True) as file:
        file.write(b"new")
    assert target.read_text() == "new"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["missing/file", "file/file", "x" * 256])
def test_staged_file_needs_a_place(target, name, overwrite):
    (target.parent / "file").touch()
    with (
        pytest.raises(vecstore.TargetError, match=f"{re.escape(name)}: cannot be written"),
        staged_file(target.parent / name, overwrite=overwrite),
    ):
        pytest.fail("entered")
    assert left_in(target.parent) == {"file"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_staged_file_refuses_a_folder(target, overwrite):
    target.mkdir()
    with pytest.raises(vecstore.TargetError, match="target: "), staged_file(target, overwrite=overwrite) as file:
        file.write(b"new")
    assert left_in(target.parent) == {"target"}
