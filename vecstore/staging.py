"""Folders and files that appear whole under their names, or not at all.

A folder's files are written into ``.NAME.RANDOM.partial`` beside the target. `publish` syncs that folder, gives it the
target's name in one step, and syncs the folder around it. A folder that replaces another changes places with
it in one step on Linux (``renameat2``); elsewhere the old one steps aside first, and the target is absent for an
instant.

Whoever writes holds a lock on the partial folder, which the kernel drops when the process dies. A partial
folder without a lock is therefore debris, and the next run for the same target removes it. Where the file system
has no locks, debris cannot be told from a conversion that is under way, and stays. A network file system may keep
locks to one machine: convert there from one machine at a time.
"""

import contextlib
import ctypes
import errno
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from vecstore.arrays import sync_folder
from vecstore.errors import TargetError

__all__ = ["StagedFolder", "staged_file"]

_SUFFIX = ".partial"
_ASIDE = "replaced"  # the name of an old store while it steps aside
_BUFFER_BYTES = 1 << 20
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


class StagedFolder:
    """Use as a context manager: write into `path`, then `publish`; leaving without it removes everything.

    Parameters
    ----------
    target : Path
        The name under which the folder shall appear.
    overwrite : bool, default False
        Whether a store that is there already may be replaced.

    Attributes
    ----------
    path : Path
        The partial folder, once entered.

    Raises
    ------
    TargetError
        On entering: the target exists and may not be replaced, is no store, has no folder around it or one
        that cannot be written to, or another process is writing it. On `publish`: it has appeared meanwhile.
    """

    def __init__(self, target: Path, *, overwrite: bool = False) -> None:
        self.target = target
        self.path = target
        self._overwrite = overwrite
        self._lock: int | None = None

    def __enter__(self) -> Self:
        self._check_target()
        try:
            self._clear_debris()
            self._check_target()  # again: an old store may have come back
            self.path = _partial(self.target)
            self.path.mkdir()
            self._lock = _lock(self.path)
        except BlockingIOError:
            # A living run; or one that took our folder, not locked yet, for debris.
            raise TargetError(f"{self.target}: is being written by another process") from None
        except TargetError:
            raise
        except OSError as error:
            raise TargetError(f"{self.target}: cannot write beside it: {error}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.path != self.target:
            shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def publish(self) -> None:
        """Make the folder durable and give it the target's name."""
        sync_folder(self.path)
        if self._overwrite and self.target.exists():
            self._check_target()
            old = self._exchange()
            sync_folder(self.target.parent)
            self.path = old  # removed on leaving
            return
        try:
            self.path.rename(self.target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EACCES) and self.target.exists():
                raise TargetError(f"{self.target}: appeared while this store was being written; it stays") from None
            raise
        self.path = self.target
        sync_folder(self.target.parent)

    def _check_target(self) -> None:
        target = self.target
        if not target.parent.is_dir():
            raise TargetError(f"{target}: cannot be written: there is no folder {target.parent}")
        if not (target.exists() or target.is_symlink()):
            return
        if not self._overwrite:
            raise TargetError(f"{target}: exists already; to replace it: --overwrite (overwrite=True)")
        if target.is_symlink() or not (target / "metadata.json").is_file():
            raise TargetError(f"{target}: exists and is not a store; it will not be replaced")

    def _clear_debris(self) -> None:
        """Remove what killed runs left; refuse to go on beside a living one."""
        # Without a dot, so that the debris of "glove.vecstore" is not taken for that of "glove".
        ours = re.compile(re.escape(f".{self.target.name}.") + r"[^.]+" + re.escape(_SUFFIX))
        for debris in self.target.parent.iterdir():
            if not ours.fullmatch(debris.name) or debris.is_symlink() or not debris.is_dir():
                continue
            try:
                lock = _lock(debris)
            except FileNotFoundError:
                continue
            if lock is None and sys.platform != "win32":
                continue  # no locks here: it may be alive
            if (debris / _ASIDE).exists() and not self.target.exists():
                (debris / _ASIDE).rename(self.target)  # killed between the two renames of `_exchange`
            # On Windows, files that a living process holds open cannot be removed, and stop this here.
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(debris)
            if lock is not None:
                os.close(lock)

    def _exchange(self) -> Path:
        """Put the new folder under the target's name; return where the old one is now."""
        if _swap(self.path, self.target):
            return self.path
        aside = _partial(self.target)
        aside.mkdir()
        lock = _lock(aside)
        old = aside / _ASIDE
        self.target.rename(old)
        try:
            self.path.rename(self.target)
        except BaseException:
            old.rename(self.target)
            aside.rmdir()
            raise
        finally:
            if lock is not None:
                os.close(lock)
        return aside


@contextlib.contextmanager
def staged_file(target: Path, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Give a file to write, which gets the name `target` when the context ends without an error.

    Raises
    ------
    TargetError
        The target exists and may not be replaced, or its folder is missing or cannot be written to.
    """
    try:
        if target.is_dir():
            raise TargetError(f"{target}: expected a file to write, found a folder")
        if target.exists() and not overwrite:
            raise TargetError(f"{target}: exists already; to replace it: --overwrite (overwrite=True)")
        partial = _partial(target)
        file = partial.open("xb", buffering=_BUFFER_BYTES)
    except OSError as error:
        if isinstance(error, TargetError):
            raise
        raise TargetError(f"{target}: cannot be written: {error.strerror}") from None
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except BaseException:
        partial.unlink()
        raise
    sync_folder(target.parent)


def _partial(target: Path) -> Path:
    """Return a new name beside `target`; its random part has no dot."""
    return target.parent / f".{target.name}.{secrets.token_hex(4)}{_SUFFIX}"


def _lock(folder: Path) -> int | None:
    """Lock a folder without waiting; return the open handle, or None where the system has no locks.

    Raises
    ------
    BlockingIOError
        Another process holds the lock, or has just removed or renamed the folder.
    """
    if sys.platform == "win32":
        return None
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(handle), os.stat(folder)):
            return handle
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError:
        os.close(handle)
        return None
    os.close(handle)
    raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK), str(folder))


def _swap(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; return False where the system cannot."""
    if sys.platform != "linux":
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    first, second = os.fsencode(one), os.fsencode(other)
    return bool(renameat2(_AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE) == 0)
