import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from files import left_in

from vecstore.errors import TargetBusyError, TargetError
from vecstore.jobs.parts import Parts
from vecstore.staging import lock_folder, unlock_folder

JOB = {"function": "EmbedTexts", "pooling": "mean", "files": [["a.csv", 1, 2]]}


def open_parts(target, job=JOB, *, is_folder=False, overwrite=False, restart=False):
    return Parts(target, job, ".bin", is_folder=is_folder, overwrite=overwrite, restart=restart)


def finish(parts, *numbers):
    for number in numbers:
        parts.new_path(number).write_bytes(b"%d" % number)
        parts.add(number, Counter(rows=number))


def join(parts):
    joined = parts.folder / "joined"
    joined.write_bytes(b"".join(path.read_bytes() for path in parts.paths()))
    return joined


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "out.bin"


def test_parts_become_the_target_and_nothing_else_is_left(target):
    with open_parts(target) as parts:
        finish(parts, 1, 0, 2)
        assert not target.exists()
        parts.publish(join(parts))
    assert target.read_bytes() == b"012"
    assert left_in(target.parent) == {"out.bin"}


def test_a_folder_of_parts_is_the_target_itself(target):
    with open_parts(target, is_folder=True) as parts:
        finish(parts, 0, 1)
        parts.publish(parts.folder)
    assert left_in(target.parent) == {"out.bin"}
    assert left_in(target) == {"part-00000.bin", "part-00001.bin"}


def test_the_next_run_finds_what_was_finished_and_nothing_that_was_not(target):
    with open_parts(target) as parts:
        finish(parts, 0, 3)
        parts.new_path(1).write_bytes(b"half")
        (parts.folder / "part-00002.bin").write_bytes(b"without a note")
        (parts.folder / "joined").write_bytes(b"half")
    with open_parts(target) as parts:
        assert parts.finished == {0: Counter(rows=0), 3: Counter(rows=3)}
        assert left_in(parts.folder) == {"_job", "part-00000.bin", "part-00003.bin"}
        finish(parts, 1, 2)
        parts.publish(join(parts))
    assert target.read_bytes() == b"0123"


def test_a_run_that_finished_nothing_leaves_nothing(target):
    with open_parts(target) as parts:
        parts.new_path(0).write_bytes(b"half")
    assert left_in(target.parent) == set()


@pytest.mark.parametrize(
    ("job", "says"),
    [
        ({**JOB, "pooling": "max"}, "pooling 'mean' instead of 'max'"),
        ({**JOB, "files": [["a.csv", 1, 3]]}, "other files, or as they were before they changed"),
        ({**JOB, "a": 1}, "a None instead of 1"),
    ],
)
def test_parts_of_another_job_are_not_gone_on_with(target, job, says):
    with open_parts(target) as parts:
        finish(parts, 0)
    with pytest.raises(TargetError, match=rf"out.bin.unfinished: holds parts of another job, with {says}.*--restart"):
        open_parts(target, job).__enter__()
    with open_parts(target) as parts:  # they are still there
        assert list(parts.finished) == [0]
    with open_parts(target, job, restart=True) as parts:
        assert parts.finished == {}
        finish(parts, 0)
    with open_parts(target, job) as parts:
        assert list(parts.finished) == [0]


def test_only_one_run_works_on_a_target(target):
    with open_parts(target) as parts:
        finish(parts, 0)
        with pytest.raises(TargetBusyError, match=r"out.bin: another process is at work on it"):
            open_parts(target).__enter__()
        assert parts.path(0).exists()
    with open_parts(target):
        pass


def test_the_lock_ends_with_the_process(target):
    script = """
import os, sys
from pathlib import Path
from vecstore.jobs.parts import Parts
Parts(Path(sys.argv[1]), {}, ".bin", is_folder=False, overwrite=False, restart=False).__enter__()
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", script, target])
    with open_parts(target, {}) as parts:
        assert parts.finished == {}


def test_a_target_is_replaced_only_on_request_and_only_by_its_like(target):
    target.write_bytes(b"old")
    with pytest.raises(TargetError, match=r"out.bin: exists already; to replace it: --overwrite"):
        open_parts(target).__enter__()
    with open_parts(target, overwrite=True) as parts:
        finish(parts, 1)
        assert target.read_bytes() == b"old"
        parts.publish(join(parts))
    assert target.read_bytes() == b"1"
    with pytest.raises(TargetError, match=r"out.bin: exists and is something else"):
        open_parts(target, is_folder=True, overwrite=True).__enter__()
    assert left_in(target.parent) == {"out.bin"}


@pytest.mark.parametrize("swaps", [True, False])
def test_a_folder_is_replaced_by_another(target, swaps, monkeypatch):
    if not swaps:
        monkeypatch.setattr("vecstore.jobs.parts.swap_folders", lambda one, other: False)
    target.mkdir()
    (target / "part-00007.bin").write_bytes(b"old")
    with open_parts(target, is_folder=True, overwrite=True) as parts:
        finish(parts, 0)
        parts.publish(parts.folder)
    assert left_in(target) == {"part-00000.bin"}
    assert left_in(target.parent) == {"out.bin"}


def test_a_folder_of_something_else_is_not_replaced(target):
    target.mkdir()
    (target / "thesis.docx").touch()
    with pytest.raises(TargetError, match=r"holds more than parts \('thesis.docx'\); it will not be replaced"):
        open_parts(target, is_folder=True, overwrite=True).__enter__()
    assert left_in(target) == {"thesis.docx"}


def test_what_is_left_of_a_replaced_folder_is_removed_by_the_next_run(target):
    with open_parts(target, is_folder=True) as parts:
        finish(parts, 0)
    (parts.folder / "_job" / "replaced").touch()
    with open_parts(target, is_folder=True) as parts:
        assert parts.finished == {}


def test_a_stranger_in_the_place_of_parts_stays(target):
    folder = target.with_name("out.bin.unfinished")
    folder.mkdir()
    (folder / "thesis.docx").touch()
    for restart in (False, True):
        with pytest.raises(TargetError, match=r"out.bin.unfinished: exists and is not an unfinished job"):
            open_parts(target, restart=restart).__enter__()
    assert left_in(folder) == {"thesis.docx"}


def test_a_damaged_note_of_the_job_is_another_job(target):
    with open_parts(target) as parts:
        finish(parts, 0)
    (parts.folder / "_job" / "job.json").write_text("{")
    with pytest.raises(TargetError, match="holds parts of another job"):
        open_parts(target).__enter__()


def test_the_notes_can_be_read_by_people(target):
    with open_parts(target) as parts:
        finish(parts, 5)
        assert json.loads((parts.folder / "_job" / "job.json").read_text()) == JOB
        assert json.loads((parts.folder / "_job" / "part-00005.json").read_text()) == {"rows": 5}


def test_a_folder_that_is_missing_or_read_only_is_named(tmp_path):
    with pytest.raises(TargetError, match=r"there is no folder .*absent"):
        open_parts(tmp_path / "absent" / "out.bin").__enter__()
    with pytest.raises(TargetError, match=r"out.bin.unfinished: cannot be made"):
        open_parts(Path("/proc/out.bin")).__enter__()


def test_a_file_in_the_place_of_parts_is_named(target):
    target.with_name("out.bin.unfinished").touch()
    with pytest.raises(TargetError, match=r"out.bin.unfinished: cannot be made"):
        open_parts(target).__enter__()


def test_leaving_gives_the_lock_back(target):
    with open_parts(target) as parts:
        finish(parts, 0)
    lock = lock_folder(parts.folder)
    assert lock is not None
    unlock_folder(lock)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.close(lock)
