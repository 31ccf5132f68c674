import errno
import os

import pytest

from vecstore import disk
from vecstore.disk import NewFile

PIECES = [b"head", *(bytes([i]) * (i * 700) for i in range(40)), b"end"]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new"


@pytest.fixture
def small_steps(monkeypatch):
    """Let small files be cut into pieces, synced and reserved for as large ones are."""
    monkeypatch.setattr(disk, "_PIECE_BYTES", 1 << 10)
    monkeypatch.setattr(disk, "_SYNC_BYTES", 1 << 12)
    monkeypatch.setattr(disk, "_RESERVE_BYTES", 1 << 16)


def write(path, pieces=PIECES, **kwargs):
    file = NewFile(path, **kwargs)
    try:
        for piece in pieces:
            file.write(piece)
        file.finish()
    finally:
        file.close()


@pytest.mark.parametrize("in_background", [True, False])
@pytest.mark.usefixtures("small_steps")
def test_file_holds_what_was_written(path, in_background):
    write(path, in_background=in_background)
    assert path.read_bytes() == b"".join(PIECES)


@pytest.mark.usefixtures("small_steps")
def test_file_takes_no_more_space_than_it_needs(path, tmp_path):
    write(path)
    (tmp_path / "plain").write_bytes(b"".join(PIECES))
    os.sync()
    assert path.stat().st_blocks <= (tmp_path / "plain").stat().st_blocks + 16  # a file system may round in its own way


def test_file_can_be_given_another_start(path):
    file = NewFile(path)
    file.write(b"0 rows and")
    file.write(b" their end")
    file.write_again(b"9")
    file.finish()
    assert path.read_bytes() == b"9 rows and their end"


@pytest.mark.parametrize("done", [0, 1, 20, len(PIECES)])
@pytest.mark.usefixtures("small_steps")
def test_file_goes_on_where_it_ended(path, tmp_path, monkeypatch, done):
    monkeypatch.setattr(disk, "_RESERVE_BYTES", 1 << 20)
    file = NewFile(path, resumed=True)
    for piece in PIECES[:done]:
        file.write(piece)
    file.flush()
    file.close()  # not finished: what was reserved is reserved still
    write(path, PIECES[done:], resumed=True)
    assert path.read_bytes() == b"".join(PIECES)
    (tmp_path / "plain").write_bytes(b"".join(PIECES))
    os.sync()
    assert path.stat().st_blocks <= (tmp_path / "plain").stat().st_blocks + 16


def test_file_that_is_there_stays(path):
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        NewFile(path)
    assert path.read_bytes() == b"mine"


def test_file_is_synced_while_it_is_written_and_at_the_end(path, small_steps, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fdatasync", lambda handle: calls.append(os.fstat(handle).st_size), raising=False)
    monkeypatch.setattr(os, "fsync", lambda handle: calls.append("end"))
    write(path)
    *sizes, end = calls
    assert end == "end"
    assert sizes  # how much was written by then is a matter of luck
    assert sizes == sorted(sizes)
    calls.clear()
    path.unlink()
    write(path, in_background=False)
    assert calls == ["end"]


@pytest.mark.usefixtures("small_steps")
def test_file_tells_of_a_sync_that_failed_in_between(path, monkeypatch):
    def fail(handle):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fail, raising=False)
    with pytest.raises(OSError, match="Input/output error") as caught:
        write(path)
    assert caught.value.filename == str(path)


@pytest.mark.parametrize("allocate", [None, lambda *_: -1], ids=["no fallocate", "refused"])
@pytest.mark.usefixtures("small_steps")
def test_file_is_written_where_no_space_can_be_reserved(path, monkeypatch, allocate):
    monkeypatch.setattr(disk, "_fallocate", lambda: allocate)
    write(path)
    assert path.read_bytes() == b"".join(PIECES)


@pytest.mark.usefixtures("small_steps")
def test_file_can_be_closed_incomplete_and_twice(path):
    file = NewFile(path)
    for piece in PIECES:
        file.write(piece)
    file.close()
    file.close()
    assert b"".join(PIECES).startswith(path.read_bytes())
    assert len(path.read_bytes()) % 1024 == 0


@pytest.mark.parametrize("short", [None, 1000], ids=["whole", "short"])
@pytest.mark.usefixtures("small_steps")
def test_file_is_written_in_whole_pieces(path, monkeypatch, short):
    ends, writev = [], os.writev

    def record(handle, parts):
        count = writev(handle, [b"".join(parts)[:short]])
        ends.append(os.lseek(handle, 0, os.SEEK_CUR))
        return count

    monkeypatch.setattr(os, "writev", record)
    pieces = [*PIECES, *[b"x"] * 3000]
    write(path, pieces)
    assert path.read_bytes() == b"".join(pieces)
    if not short:
        assert [end % 1024 for end in ends[:-1]] == [0] * (len(ends) - 1)
    assert len(ends) > 20


@pytest.mark.usefixtures("small_steps")
def test_file_is_written_where_parts_cannot_be_joined(path, monkeypatch):
    monkeypatch.delattr(os, "writev")
    write(path)
    assert path.read_bytes() == b"".join(PIECES)


def test_what_is_held_is_written_by_a_flush(path):
    file = NewFile(path)
    file.write(b"head")
    assert path.read_bytes() == b""
    file.flush()
    assert path.read_bytes() == b"head"
    file.close()
