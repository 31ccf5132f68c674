import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from files import left_in, numbered, word2vec_bytes

import vecstore
from vecstore import staging
from vecstore.staging import StagedFolder, staged_file

CONVERT = "import sys, vecstore; vecstore.convert(*sys.argv[1:], overwrite=True)"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source of several blocks, so that converting it can be met in the middle."""
    path = tmp_path / "vectors.bin"
    path.write_bytes(word2vec_bytes(*numbered(30_000, 300)))
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target"


def write_store(folder: Path, content: str = "new") -> None:
    (folder / "metadata.json").write_text(content)


def debris_of(target: Path) -> list[Path]:
    return sorted(target.parent.glob(".*.partial"))


@contextlib.contextmanager
def converting(source: Path, target: Path) -> Iterator[subprocess.Popen]:
    """A converting process whose partial folder is there."""
    environment = {**os.environ, "PYTHONPATH": str(Path(vecstore.__file__).parents[1])}
    command = [sys.executable, "-c", CONVERT, source, target]
    before = set(debris_of(target))
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            while process.poll() is None and not any(
                (path / "keys.npy").exists() for path in new_debris(target, before)
            ):
                os.sched_yield()
            yield process
        finally:
            process.kill()


def new_debris(target: Path, before: set[Path]) -> set[Path]:
    return set(debris_of(target)) - before


def test_folder_appears_when_it_is_published(target):
    with StagedFolder(target) as staged:
        assert staged.path.parent == target.parent
        assert staged.path != target
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


@pytest.mark.parametrize("swap", [staging._swap, lambda one, other: False], ids=["exchange", "two renames"])
def test_overwriting_replaces_the_folder(target, monkeypatch, swap):
    monkeypatch.setattr(staging, "_swap", swap)
    target.mkdir()
    write_store(target, "old")
    (target / "more").touch()
    with StagedFolder(target, overwrite=True) as staged:
        write_store(staged.path)
        assert (target / "metadata.json").read_text() == "old"
        staged.publish()
    assert (target / "metadata.json").read_text() == "new"
    assert left_in(target) == {"metadata.json"}
    assert left_in(target.parent) == {"target"}


@pytest.mark.parametrize("swap", [staging._swap, lambda one, other: False], ids=["exchange", "two renames"])
def test_an_old_reader_keeps_the_store_that_is_replaced(tmp_path, target, monkeypatch, swap):
    monkeypatch.setattr(staging, "_swap", swap)
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

    monkeypatch.setattr(staging, "_swap", lambda one, other: False)
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


@pytest.mark.parametrize("overwrite", [False, True])
def test_writers_that_start_at_once_leave_one_whole_store(tmp_path, overwrite):
    source = tmp_path / "vectors.bin"
    source.write_bytes(word2vec_bytes(*numbered(10, 3)))
    barrier = threading.Barrier(4)

    def write(target: Path) -> BaseException | None:
        barrier.wait()
        try:
            vecstore.convert(source, target, overwrite=overwrite)
        except BaseException as error:
            return error
        return None

    with ThreadPoolExecutor(4) as pool:
        for target in [tmp_path / str(i) for i in range(10)]:
            errors = list(pool.map(write, [target] * 4))
            assert {type(error) for error in errors} <= {type(None), vecstore.TargetError}
            assert vecstore.verify(target) == []
    assert left_in(tmp_path) == {"vectors.bin", *map(str, range(10))}


def test_a_second_process_is_refused_while_the_first_goes_on(source, target):
    with converting(source, target) as process:
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(vecstore.TargetError, match="target: is being written by another process"):
            vecstore.convert(source, target)
        process.send_signal(signal.SIGCONT)
        assert process.wait() == 0
    assert vecstore.verify(target) == []
    assert left_in(target.parent) == {"vectors.bin", "target"}


def test_a_killed_process_leaves_no_store_or_a_whole_one(source, target):
    random.seed(0)
    moments = [0.0] + [random.uniform(0, 0.25) for _ in range(5)]
    met = 0
    for existing in False, True:
        if existing:
            vecstore.convert(source, target, overwrite=True)
        for moment in moments:
            with converting(source, target) as process:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(moment)
                met += process.poll() is None
                process.kill()
                process.wait()
            assert not target.exists() or vecstore.verify(target) == []
            assert target.exists() or not existing
    assert met > 0
    vecstore.convert(source, target, overwrite=True)
    assert vecstore.verify(target) == []
    assert left_in(target.parent) == {"vectors.bin", "target"}


def test_an_interrupted_process_leaves_nothing(source, target):
    with converting(source, target) as process:
        process.send_signal(signal.SIGINT)
        errors = process.communicate()[1]
    assert process.returncode != 0
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert left_in(target.parent) == {"vectors.bin"}


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
