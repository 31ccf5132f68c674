"""Folders and files that appear whole under their names, or not at all.

A folder's files are written into ``.NAME.RANDOM.partial`` beside the target. What reaches the disk, in this order:
each file, synced by whoever writes it; the partial folder, synced by `publish`; the target's name, given by one
rename; the folder around it, synced. So a name never outlives a crash that its contents did not. A folder that
replaces another changes places with it in one step on Linux (``renameat2``); elsewhere the old one steps aside
first, and the target is absent for an instant.

Whoever writes holds a lock on the partial folder, which the kernel drops when the process dies. A partial folder
with a lock turns the next run for the same target away; one without is debris, which that run removes. To look for
them and to make one of its own, a run locks the folder around them, for a millisecond: of runs that start in one
instant one goes on and the others are turned away. If a stranger keeps that folder locked, as ``flock FOLDER
vecstore convert ...`` does, a run goes on without after some seconds; two may then work for one target, and the later
one fails when it publishes.

Where the file system has no locks, debris cannot be told from a conversion that is under way, and stays. A network
file system may keep locks to one machine: convert there from one machine at a time.
"""

import contextlib
import ctypes
import errno
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from vecstore.disk import sync_folder
from vecstore.errors import TargetBusyError, TargetError
from vecstore.layout import FILES, METADATA

__all__ = ["StagedFolder", "is_taken", "lock_folder", "staged_file", "swap_folders", "unlock_folder"]

_SUFFIX = ".partial"
_ASIDE = "replaced"  # the name of an old store while it steps aside
_BUFFER_BYTES = 1 << 20
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100
_PATIENCE, _PAUSE = 5.0, 0.005  # seconds: for the lock on the folder around a target


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
    TargetBusyError
        On entering: another process is writing the target.
    TargetError
        On entering: the target exists and may not be replaced, is no store, has no folder around it or one
        that cannot be written to. On `publish`: it has appeared meanwhile.
    """

    def __init__(self, target: Path, *, overwrite: bool = False) -> None:
        self.target = target
        self.path = target
        self._overwrite = overwrite
        self._lock: int | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.callback(self._leave)
            try:
                self._enter()
            except BlockingIOError:
                raise TargetBusyError(f"{self.target}: is being written by another process") from None
            except TargetError:
                raise
            except OSError as error:
                raise TargetError(f"{self.target}: cannot write beside it: {error}") from None
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _enter(self) -> None:
        self._check_target()
        with contextlib.ExitStack() as debris, _alone_in(self.target.parent):
            self._seize_debris(debris)
            self._check_target()  # again: another run may have published, or an old store come back
            path = _partial(self.target)
            path.mkdir()
            self.path = path
            self._lock = lock_folder(path)

    def _leave(self) -> None:
        try:
            if self.path != self.target:
                shutil.rmtree(self.path, ignore_errors=True)
        finally:
            lock, self._lock = self._lock, None
            if lock is not None:
                unlock_folder(lock)

    @property
    def is_locked(self) -> bool:
        """Whether no other process can be writing the target; False where the file system has no locks."""
        return self._lock is not None

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
        if not is_taken(target, overwrite=self._overwrite):
            return
        if target.is_symlink() or not target.is_dir() or METADATA not in (names := set(os.listdir(target))):
            raise TargetError(f"{target}: exists and is not a store; it will not be replaced")
        if others := names - FILES:
            raise TargetError(f"{target}: holds more than a store ({min(others)!r}); it will not be replaced")

    def _seize_debris(self, debris: contextlib.ExitStack) -> None:
        """Lock the folders that killed runs left, for `debris` to remove; refuse to go on beside a living one."""
        # Without a dot, so that the debris of "glove.vecstore" is not taken for that of "glove".
        ours = re.compile(re.escape(f".{self.target.name}.") + r"[^.]+" + re.escape(_SUFFIX))
        seized = []
        for folder in self.target.parent.iterdir():
            if not ours.fullmatch(folder.name) or folder.is_symlink() or not folder.is_dir():
                continue
            try:
                lock = lock_folder(folder)
            except FileNotFoundError:
                continue
            if lock is not None:
                debris.callback(unlock_folder, lock)
            elif sys.platform != "win32":
                continue  # no locks here: it may be alive
            seized.append(folder)
        for folder in seized:
            if (folder / _ASIDE).exists() and not self.target.exists():
                (folder / _ASIDE).rename(self.target)  # killed between the two renames of `_exchange`
            debris.callback(_remove, folder)

    def _exchange(self) -> Path:
        """Put the new folder under the target's name; return where the old one is now."""
        if swap_folders(self.path, self.target):
            return self.path
        # Needs no lock: until the second rename the partial folder's turns others away, then this is debris.
        aside = _partial(self.target)
        aside.mkdir()
        old = aside / _ASIDE
        try:
            self.target.rename(old)
            self.path.rename(self.target)
        except BaseException:
            if old.exists():
                old.rename(self.target)
            aside.rmdir()
            raise
        return aside


def is_taken(target: Path, *, overwrite: bool) -> bool:
    """Say whether something has the name `target`, which with `overwrite` may be so.

    Raises
    ------
    TargetError
        It may not be so, or there is no folder around it.
    """
    if not target.parent.is_dir():
        raise TargetError(f"{target}: cannot be written: there is no folder {target.parent}")
    taken = target.exists() or target.is_symlink()
    if taken and not overwrite:
        raise TargetError(f"{target}: exists already; to replace it: --overwrite (overwrite=True)")
    return taken


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


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold a lock on `folder`, waited for; none where the system has none, or a stranger does not let go."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_PAUSE)  # unlike a blocking flock, this can be interrupted
            except OSError:
                break
        yield
    finally:
        unlock_folder(handle)


def _remove(folder: Path) -> None:
    # On Windows, files that a living process holds open cannot be removed, and whoever tries stops here.
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


def lock_folder(folder: Path) -> int | None:
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


def unlock_folder(handle: int) -> None:
    """Drop a lock and close its handle; closing alone would leave the lock with a process forked meanwhile."""
    import fcntl

    with contextlib.suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_UN)
    os.close(handle)


def swap_folders(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; return False where the system cannot."""
    if sys.platform != "linux":
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    first, second = os.fsencode(one), os.fsencode(other)
    return bool(renameat2(_AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE) == 0)
