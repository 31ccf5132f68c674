"""ByteStream: the bytes of a file or pipe, unpacked by content, with the place in the file as it lies on disk."""

import io
import os
import queue
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vecstore.errors import FormatError
from vecstore.formats.compression import DamagedError, packing, unpack, unpack_member
from vecstore.formats.names import STANDARD_INPUT
from vecstore.layout import Source

__all__ = ["ByteStream"]

_AHEAD_BYTES, _AHEAD_BLOCKS = 1 << 20, 8
_HEAD_BYTES = 1 << 12
# What packed text or numbers may grow to: GloVe packs to 40 %, word2vec binaries to 45 %, bombs to 0.1 %.
_MOST_RATIO, _FREE_BYTES = 250, 1 << 26
_DEFLATE_RATIO = 1032  # the most bytes that one byte of deflate can stand for (RFC 1951: 258 bytes in 2 bits)
_READ_LIMIT = 1 << 24  # the directory of a zip of some hundred thousand files
_FOREIGN = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"\x1f\x9d": "a file packed by compress",
    b"\x04\x22\x4d\x18": "a file packed by lz4",
}


class ByteStream:
    """Read a file from its start to its end.

    Parameters
    ----------
    path : Path
        A regular file, a named pipe, or `STANDARD_INPUT`.
    member : str, optional
        The file of a zip archive to read; not needed if it holds one.
    wanted : str, default "a file of word vectors"
        What errors say was expected.

    Attributes
    ----------
    path : Path
    member : str or None
        The file of the archive that is read.
    size : int
        Bytes of the file as it lies on disk; 0 for a pipe.
    modified : int or None
        When the file was changed last, in nanoseconds since 1970; None for a pipe.
    compression : str or None
        "gzip", "zip", "bz2", "xz", "zstd", or None.
    most : int
        No more bytes than this can come out, whatever the file's header says.

    Raises
    ------
    FormatError
        `path` is a folder, a device, or empty; it is packed in a way, or twice, that nobody here reads; or the
        member cannot be read.
    OSError
        It cannot be opened.
    """

    def __init__(self, path: Path, member: str | None = None, *, wanted: str = "a file of word vectors") -> None:
        self.path = path
        self.member = member
        self._wanted = wanted
        self._raw = _Raw(path)
        self._reader: _ReadAhead | None = None
        self._head = b""
        self._unpacked = 0
        try:
            self.size, self.modified = self._raw.size, self._raw.modified
            head = self._raw.head
            if not head:
                raise FormatError(f"{path}: expected {wanted}, found an empty file")
            self.compression = packing(head)
            self.most = self._open(head)
            if self.compression:
                self._refuse(self.peek(_HEAD_BYTES), within=True)
        except BaseException:
            self.close()
            raise

    def _open(self, head: bytes) -> int:
        """Set up what unpacks the file; return the most bytes that can come out."""
        self._refuse(head)
        if self.member is not None and self.compression != "zip":
            raise FormatError(f"{self.path}: expected a zip archive with a member {self.member!r}, found another file")
        if self.compression is None:
            return self.size if self._raw.regular else 1 << 62
        if self.compression == "zip":
            if not self._raw.regular:
                raise FormatError(f"{self.path}: a zip archive cannot be read from a pipe; write it to a file first")
            self.member, unpacked = unpack_member(self.path, self._raw, self.member)
        else:
            unpacked = unpack(self.compression, self._raw)
        self._reader = _ReadAhead(unpacked.readinto)
        if not self._raw.regular:
            return 1 << 62
        most = unpacked.most if unpacked.most is not None else 1 << 62
        if self.compression in ("gzip", "zip"):
            most = min(most, _DEFLATE_RATIO * self.size)
        return min(most, _FREE_BYTES + _MOST_RATIO * self.size)

    def _refuse(self, head: bytes, *, within: bool = False) -> None:
        """Raise if the file, or what is packed within it, is something to unpack by other means."""
        what = next((name for magic, name in _FOREIGN.items() if head.startswith(magic)), None)
        if head[257:262] == b"ustar":
            what = "a tar archive"
        if within and what is None and packing(head):
            what = f"{packing(head)} data within {self.compression} data"
        if what:
            raise FormatError(f"{self.place}: expected {self._wanted}, found {what}; unpack it first")

    @property
    def place(self) -> str:
        """The file's name for messages, with that of the archive's member."""
        return f"{self.path}::{self.member}" if self.compression == "zip" and self.member else str(self.path)

    @property
    def done(self) -> int:
        """Bytes of the file that were read, as they lie on disk."""
        return self._raw.done

    def describe(self, format: str) -> Source:
        """Return what a store's metadata says of the file; of a pipe, once all is read."""
        name = str(self.path.name).encode("utf-8", "replace").decode()
        size = self.size if self._raw.regular else self.done
        return Source(name, size, format, self.compression, self.modified)

    def peek(self, count: int) -> bytes:
        """Return the next `count` bytes, or fewer at the end, without taking them."""
        if len(self._head) < count:
            more = bytearray(count - len(self._head))
            self._head += bytes(more[: self._fill(memoryview(more))])
        return self._head[:count]

    def fill(self, view: memoryview) -> int:
        """Read into `view` until it is full or the stream ends; return the number of bytes read.

        Raises
        ------
        FormatError
            The packed data ends early, fails its checksum, is followed by something else, or is a bomb.
        """
        count = min(len(view), len(self._head))
        view[:count] = self._head[:count]
        self._head = self._head[count:]
        return count + self._fill(view[count:])

    def _fill(self, view: memoryview) -> int:
        readinto = self._reader.readinto if self._reader else self._raw.readinto
        filled = 0
        try:
            while filled < len(view) and (count := readinto(view[filled:])):
                filled += count
        except DamagedError as error:
            of = f" of {self.size:,}" if self.size else ""
            raise FormatError(
                f"{self.place}: byte {self.done:,}{of}: the {self.compression} data is damaged or cut short "
                f"({error}); download the file again"
            ) from None
        self._unpacked += filled
        if self._reader and self._unpacked > _FREE_BYTES + _MOST_RATIO * self.done:
            raise FormatError(
                f"{self.place}: grows to more than {_MOST_RATIO} times its size, as no word vectors do; "
                "if it is no bomb, unpack it first"
            )
        return filled

    def close(self) -> None:
        """Close the file and end the decompressing thread."""
        if self._reader:
            self._reader.close(wait=self._raw.regular)
            self._reader = None  # and its memory with it
        self._raw.close()


class _Raw(io.RawIOBase):
    """A file as it lies on disk: its first bytes known, the bytes read counted. Pipes need no seeking."""

    def __init__(self, path: Path) -> None:
        if path == STANDARD_INPUT:
            self.file: Any = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115
        else:
            if path.is_dir():
                what = "a store already" if (path / "metadata.json").exists() else "a folder"
                raise FormatError(f"{path}: expected a file of word vectors, found {what}")
            mode = path.stat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):
                raise FormatError(f"{path}: expected a file or a pipe, found a device")
            self.file = path.open("rb", buffering=0)
        try:
            status = os.fstat(self.file.fileno())
            self.regular = stat.S_ISREG(status.st_mode)
            if path == STANDARD_INPUT:
                if self.file.isatty():
                    raise FormatError("standard input: expected a file of word vectors, found a terminal")
                self.regular = False  # it may have been read from already
            self.size = status.st_size if self.regular else 0
            self.modified = status.st_mtime_ns if self.regular else None
            self.done = 0
            self.head = b""
            while len(self.head) < _HEAD_BYTES and (more := self.file.read(_HEAD_BYTES - len(self.head))):
                self.head += more
            self._ahead = self.head
            if hasattr(os, "posix_fadvise") and self.regular:
                os.posix_fadvise(self.file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        except BaseException:
            self.close()
            raise

    def readinto(self, view: Any) -> int:
        count = min(len(view), len(self._ahead))
        if count:
            view[:count] = self._ahead[:count]
            self._ahead = self._ahead[count:]
        else:
            count = self.file.readinto(view)
        self.done += count
        return count

    def read(self, size: int = -1) -> bytes:
        if size > _READ_LIMIT:
            raise ValueError(
                f"expected at most {_READ_LIMIT:,} bytes in one piece, such as a directory, found {size:,}"
            )
        return super().read(size) or b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self.regular

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_SET and offset < 0:
            raise ValueError(f"expected a place in the file, found {offset}")
        if whence == os.SEEK_CUR:
            offset -= len(self._ahead)
        self._ahead = b""
        return int(self.file.seek(offset, whence))

    def tell(self) -> int:
        return int(self.file.tell()) - len(self._ahead)

    def close(self) -> None:
        self.file.close()
        super().close()


class _ReadAhead:
    """Call `readinto` on a thread of its own, a few blocks ahead of whoever takes them.

    The blocks go round: unpacking into memory that is in the processor's cache took 6.3 s of the thread where new
    memory for each block took 6.9. isal's own threaded reader takes the end of its thread for the end of the data,
    and may then lose the last blocks. The thread is a daemon: one that waits for a pipe must not keep the process
    alive.
    """

    def __init__(self, readinto: Callable[[memoryview], int]) -> None:
        self._readinto = readinto
        self._empty: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[tuple[memoryview, int] | BaseException] = queue.SimpleQueue()
        self._block = self._rest = memoryview(b"")
        self._ended = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="vecstore-reader", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        made, count = 0, -1
        while count and not self._closed:
            if made < _AHEAD_BLOCKS and self._empty.empty():
                self._empty.put(memoryview(bytearray(_AHEAD_BYTES)))
                made += 1
            block = self._empty.get()
            if self._closed:
                return
            try:
                count = self._readinto(block)
            except BaseException as error:
                self._full.put(error)
                return
            self._full.put((block, count))

    def readinto(self, view: memoryview) -> int:
        """Copy what is there next into `view`; return the number of bytes, 0 at the end."""
        if not self._rest and not self._ended:
            if self._block:
                self._empty.put(self._block)
                self._block = self._rest
            item = self._full.get()
            if isinstance(item, BaseException):
                self._ended = True
                raise item
            self._block, count = item
            self._rest = self._block[:count]
            self._ended = not count
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self, *, wait: bool) -> None:
        """Drop what was read ahead and end the thread; `wait` for it unless it may wait for others."""
        self._closed = True
        self._empty.put(memoryview(b""))
        if wait:
            self._thread.join()
