"""NewFile: a file that is written once, from its start to its end, with the disk at work all the while.

The system keeps what is written in memory and leaves it there for seconds, so that an fsync at the end waits for
nearly all of it, and the disk idles before. Here a thread syncs what is there while more is written. Of large files
space is reserved ahead, which spares the file system finding and accounting for it one page after the other.

A copy of 3.6 GB took, with neither, 2.0 s of processor time and an fsync of 0.6 s at its end; with both 1.5 s and
0.02 s. ``sync_file_range`` instead of ``fdatasync`` was no faster, and much slower on the writing thread.
"""

import ctypes
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["NewFile"]

_SYNC_BYTES = 1 << 25  # written before they are worth a sync
_RESERVE_BYTES = 1 << 28  # reserved at a time: nobody's claim of a file's size is trusted
_KEEP_SIZE = 1  # FALLOC_FL_KEEP_SIZE


class NewFile:
    """Write a new file; an OSError names it.

    Parameters
    ----------
    path : Path
        It must not exist.
    in_background : bool, default True
        Whether to reserve space ahead and sync behind, as is worth it for what nobody changes before `finish`.
    """

    def __init__(self, path: Path, *, in_background: bool = True) -> None:
        self.path = path
        self._in_background = in_background
        self._size = 0
        self._reserved = 0
        self._unsynced = 0
        self._syncs = ThreadPoolExecutor(1, thread_name_prefix="vecstore-sync")  # starts no thread before it is used
        self._sync: Future[None] | None = None
        self._file = path.open("xb", buffering=0)

    def write(self, data: bytes | memoryview) -> None:
        """Write `data` after what is already there."""
        if self._in_background and self._size + len(data) > max(self._reserved, _SYNC_BYTES):
            self._reserve()
        self._write(data)
        self._size += len(data)
        self._unsynced += len(data)
        if self._in_background and self._unsynced >= _SYNC_BYTES and (self._sync is None or self._sync.done()):
            self._wait()
            self._sync = self._syncs.submit(getattr(os, "fdatasync", os.fsync), self._file.fileno())
            self._unsynced = 0

    def write_again(self, head: bytes) -> None:
        """Write `head` over the start of the file; only `finish` comes after it."""
        self._file.seek(0)
        self._write(head)

    def finish(self) -> None:
        """Sync the file to disk, and close it."""
        self._wait()
        with self._named_errors():
            if self._reserved > self._size:
                self._file.truncate(self._size)
            os.fsync(self._file.fileno())
        self.close()

    def close(self) -> None:
        """Close the file, complete or not."""
        self._syncs.shutdown()
        self._file.close()

    def _write(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        with self._named_errors():
            while rest:
                rest = rest[self._file.write(rest) :]

    def _wait(self) -> None:
        """Wait for the syncing thread, and raise what it met: the system tells of a failed write once."""
        if self._sync is not None:
            with self._named_errors():
                self._sync.result()

    def _reserve(self) -> None:
        """Reserve space for what comes next, if the file system can; a full disk shows when it is written to."""
        allocate = _fallocate()
        if allocate and not allocate(self._file.fileno(), _KEEP_SIZE, self._size, _RESERVE_BYTES):
            self._reserved = self._size + _RESERVE_BYTES
        else:
            self._reserved = 1 << 62  # not asked again

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.path)) from None


@cache
def _fallocate() -> Any:
    """Return Linux's ``fallocate``: where there is none, ``os.posix_fallocate`` would write to every page instead."""
    try:
        allocate = ctypes.CDLL(None).fallocate
    except (AttributeError, OSError, TypeError):
        return None
    allocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return allocate if ctypes.sizeof(ctypes.c_long) == 8 else None
