"""ByteStream: the bytes of a file, decompressed by content, with the place in the file as it lies on disk."""

import os
import stat
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from isal import igzip
from isal.igzip_lib import IsalError

from vecstore.errors import FormatError

__all__ = ["ByteStream"]

_DAMAGE: Any = (EOFError, IsalError, igzip.BadGzipFile)
_AHEAD_BYTES, _AHEAD_BLOCKS = 1 << 20, 4
_GZIP = b"\x1f\x8b"
_DEFLATE_RATIO = 1032  # the most bytes that one byte of deflate can stand for (RFC 1951: 258 bytes in 2 bits)


class ByteStream:
    """Read a file from its start to its end.

    Parameters
    ----------
    path : Path
        A regular file.

    Attributes
    ----------
    path : Path
    size : int
        Bytes of the file as it lies on disk.
    compression : str or None
        "gzip", or None.
    most : int
        No more bytes than this can come out, whatever the file's header says.

    Raises
    ------
    FormatError
        `path` is a folder, a pipe, or empty.
    OSError
        It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.is_dir():
            what = "a store already" if (path / "metadata.json").exists() else "a folder"
            raise FormatError(f"{path}: expected a file of word vectors, found {what}")
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
            raise FormatError(f"{path}: expected a regular file, found a pipe or a device; write it to a file first")
        self.size = status.st_size
        self._raw = path.open("rb", buffering=0)
        self._bytes: Any = self._raw
        try:
            magic = self._raw.read(2)
            self._raw.seek(0)
            if not magic:
                raise FormatError(f"{path}: expected a file of word vectors, found an empty file")
            self.compression = "gzip" if magic == _GZIP else None
            self.most = self.size * (_DEFLATE_RATIO if self.compression else 1)
            if self.compression:
                self._bytes = _ReadAhead(igzip.IGzipFile(fileobj=self._raw, mode="rb").read)  # type: ignore[no-untyped-call]
            elif hasattr(os, "posix_fadvise"):
                os.posix_fadvise(self._raw.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        except BaseException:
            self._raw.close()
            raise

    @property
    def done(self) -> int:
        """Bytes of the file that were read, as they lie on disk."""
        return self._raw.tell()

    def fill(self, view: memoryview) -> int:
        """Read into `view` until it is full or the stream ends; return the number of bytes read.

        Raises
        ------
        FormatError
            The compressed data ends early, fails its checksum, or is followed by something else.
        """
        filled = 0
        try:
            while filled < len(view) and (count := self._bytes.readinto(view[filled:])):
                filled += count
        except _DAMAGE as error:
            raise FormatError(
                f"{self.path}: byte {self.done:,} of {self.size:,}: the gzip data is damaged or cut short "
                f"({error}); download the file again"
            ) from None
        return filled

    def close(self) -> None:
        """Close the file and end the decompressing thread."""
        self._bytes.close()
        self._raw.close()


class _ReadAhead:
    """Call `read` on a thread of its own, a few blocks ahead of whoever takes them.

    isal's own threaded reader takes the end of its thread for the end of the data, and may then lose the last blocks.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="vecstore-reader")
        self._blocks = deque(self._pool.submit(read, _AHEAD_BYTES) for _ in range(_AHEAD_BLOCKS))
        self._rest = memoryview(b"")

    def readinto(self, view: memoryview) -> int:
        """Copy what is there next into `view`; return the number of bytes, 0 at the end."""
        if not self._rest and self._blocks:
            self._rest = memoryview(self._blocks.popleft().result())
            if self._rest:
                self._blocks.append(self._pool.submit(self._read, _AHEAD_BYTES))
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        """Drop what was read ahead and end the thread."""
        self._pool.shutdown(cancel_futures=True)
